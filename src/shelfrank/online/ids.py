"""Ids found in a memory-mapped table by their hashes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from shelfrank.data.prepared import id_hashes, map_array

REMEMBERED = 200_000
"""Ids whose places are kept in memory."""


class Ids:
    """Where ids are in a table; two ids share a 64-bit hash once in billions of tables.

    Args:
        folder: What `save_ids` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._hashes, self._rows = (
            np.asarray(map_array(folder / "hashes.npy")),
            np.asarray(map_array(folder / "rows.npy")),
        )
        self._known: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, wanted: str | None) -> int:
        """The row of an id; -1 where there is none."""
        return -1 if wanted is None else int(self.find([wanted])[0][0])

    def find(self, wanted: Sequence[str]) -> tuple[Int64[np.ndarray, " ids"], UInt64[np.ndarray, " ids"]]:
        """The row of each id, -1 where there is none, and its hash."""
        known = self._known
        new = [each for each in wanted if each not in known]
        if new:
            if len(known) + len(new) > REMEMBERED:
                # Others may be reading the old one.
                self._known = known = {}
                new = list(wanted)
            hashes = id_hashes(new)
            rows = np.full(len(new), -1, np.int64)
            if len(self._hashes):
                at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
                rows = np.where(self._hashes[at] == hashes, self._rows[at], -1)
            known.update(zip(new, zip(rows.tolist(), hashes.tolist(), strict=True), strict=True))
        pairs = [known[each] for each in wanted]
        return (
            np.array([row for row, _ in pairs], np.int64),
            np.array([hashed for _, hashed in pairs], np.uint64),
        )


def save_ids(folder: Path, ids: Sequence[str]) -> None:
    """Writes ids for `Ids`; row i is the i-th one's."""
    folder.mkdir(parents=True)
    hashes = id_hashes(ids)
    order = np.argsort(hashes, kind="stable")
    np.save(folder / "hashes.npy", hashes[order])
    np.save(folder / "rows.npy", order.astype(np.int32))
