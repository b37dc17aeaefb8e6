"""Ids found in a memory-mapped table by their hashes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from shelfrank.data.prepared import id_hashes, map_array

REMEMBERED = 200_000
"""Number of ids whose rows are kept in memory."""


class Ids:
    """Rows of ids in a table; two ids share a 64-bit hash once in billions of tables.

    Args:
        folder: The folder that `save_ids` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._hashes, self._rows = (
            np.asarray(map_array(folder / "hashes.npy")),
            np.asarray(map_array(folder / "rows.npy")),
        )
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, wanted: str | None) -> int:
        """The row of an id; -1 for None or an unknown one."""
        return -1 if wanted is None else int(self.find([wanted])[0][0])

    def find(self, wanted: Sequence[str]) -> tuple[Int64[np.ndarray, " ids"], UInt64[np.ndarray, " ids"]]:
        """The row of each id, -1 where there is none, and its hash."""
        if not len(self):
            return np.full(len(wanted), -1, np.int64), id_hashes(wanted)
        at = np.array([self._places.get(each, -1) for each in wanted], np.int64)
        rows, hashes = self._rows.take(at, mode="wrap").astype(np.int64), self._hashes.take(at, mode="wrap")
        new = np.flatnonzero(at < 0)
        if len(new):
            rows[new], hashes[new] = self._look_up([wanted[i] for i in new.tolist()])
        return rows, hashes

    def _look_up(self, wanted: Sequence[str]) -> tuple[Int64[np.ndarray, " ids"], UInt64[np.ndarray, " ids"]]:
        hashes = id_hashes(wanted)
        at = np.searchsorted(self._hashes[:-1], hashes)
        rows = np.where(self._hashes[at] == hashes, self._rows[at].astype(np.int64), -1)
        # Ids that the table lacks are not kept: most queries are new, and memory would grow with them.
        found = {each: place for each, place, row in zip(wanted, at.tolist(), rows.tolist(), strict=True) if row >= 0}
        if len(self._places) + len(found) > REMEMBERED:
            # Others may be reading the old one.
            self._places = found
        else:
            self._places.update(found)
        return rows, hashes


def save_ids(folder: Path, ids: Sequence[str]) -> None:
    """Writes ids for `Ids`, each with its index as its row."""
    folder.mkdir(parents=True)
    hashes = id_hashes(ids)
    order = np.argsort(hashes, kind="stable")
    np.save(folder / "hashes.npy", hashes[order])
    np.save(folder / "rows.npy", order.astype(np.int32))
