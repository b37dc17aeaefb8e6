"""Totals of one key at any moment: running sums of every group, memory-mapped and found by binary search.

`history_offline` computes totals where a log's rows lie; here the same integers are found for a key that is asked for.
Each group's moments lie in order of time, each with the sums of all moments up to it, so that what happened before a
moment is a difference of two rows. A moment is numbered by its group and by the rank of its time among all the log's
times, which makes one sorted column of integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Num

from shelfrank.data.prepared import map_array
from shelfrank.features.history_stats import DAY_US, LATE, Total

NEVER = np.iinfo(np.int64).min
"""The time of an engagement that has not been."""


@dataclass(frozen=True)
class KeyTotals:
    """The totals of one key, and what they are differences of.

    Attributes:
        key: Its name, see `history_stats.KEYS`.
        totals: What is computed.
        task: The task that counts as engagement.
        delay_us: Time after a search at which its outcomes count as known.
    """

    key: str
    totals: tuple[Total, ...]
    task: str
    delay_us: int

    @cached_property
    def summed(self) -> tuple[str, ...]:
        """What is summed up, a column of the running sums each."""
        engaged = {self.task, "event"} if self.has_last else set[str]()
        return tuple(sorted(engaged | {of for total in self.totals for of in self._parts(total)}))

    @cached_property
    def has_last(self) -> bool:
        """Whether the latest engagement is asked for."""
        return any(total.of == "last_us" for total in self.totals)

    @cached_property
    def backs_us(self) -> tuple[int, ...]:
        """How far back from the moment asked for the sums are read."""
        backs = {0, self.delay_us}
        for total in self.totals:
            for of in self._parts(total):
                end_us = self._end_us(of)
                backs |= {end_us, end_us + round(total.days * DAY_US)}
        return tuple(sorted(backs))

    def columns(
        self, sums: Int64[np.ndarray, "backs_plus_1 rows n_summed"], last: Int64[np.ndarray, "2 rows"]
    ) -> dict[str, Num[np.ndarray, " rows"]]:
        """The totals by their columns.

        Args:
            sums: Of what happened in each row's group before each of `backs_us`; the last line is zeros.
            last: Known time of each row's latest engagement, by task and by event; 0 if never.

        Returns:
            The columns, in the types that `TotalsOfGroups` gives.
        """
        end, begin, of, extra_of, summed = self._differences
        values = sums[end, :, of] - sums[begin, :, of]
        if len(extra_of):
            values[extra_of] += values[len(summed) :]
        narrow = values.astype(np.int32)
        made: dict[str, Num[np.ndarray, " rows"]] = {
            total.column: values[i] if total.dtype is np.int64 else narrow[i] for i, total in enumerate(summed)
        }
        for total in self.totals:
            if total.of == "last_us":
                made[total.column] = np.maximum(last[0], last[1])
        return made

    @cached_property
    def nothing(self) -> dict[str, Num[np.ndarray, " 1"]]:
        """The totals of a group to which nothing happened, for as many rows as they are read beside."""
        return {total.column: np.zeros(1, total.dtype) for total in self.totals}

    @cached_property
    def _differences(
        self,
    ) -> tuple[
        Int64[np.ndarray, " parts"],
        Int64[np.ndarray, " parts"],
        Int64[np.ndarray, " parts"],
        Int64[np.ndarray, " extras"],
        tuple[Total, ...],
    ]:
        """For each part of a sum where it ends, begins and which it is; which sums have a second part; the sums."""
        summed = tuple(total for total in self.totals if total.of != "last_us")
        place = {back: index for index, back in enumerate(self.backs_us)}
        first, extra, extra_of = [], [], []
        for index, total in enumerate(summed):
            for number, of in enumerate(self._parts(total)):
                end_us = self._end_us(of)
                begin = place[end_us + round(total.days * DAY_US)] if total.days else len(place)
                (extra if number else first).append((place[end_us], begin, self.summed.index(of)))
                if number:
                    extra_of.append(index)
        end, begin, of = np.array([*first, *extra], np.int64).reshape(-1, 3).T
        return end, begin, of, np.array(extra_of, np.int64), summed

    def _parts(self, total: Total) -> tuple[str, ...]:
        if total.of == "last_us":
            return ()
        return (self.task, "event") if total.of == "engaged" else (total.of,)

    def _end_us(self, of: str) -> int:
        return self.delay_us if of in LATE else 0


class PastTable:
    """The running sums of one key's groups.

    Args:
        folder: What `build` wrote.
        plan: What is computed of them.
        n_times: How many times the log has.
    """

    def __init__(self, folder: Path, plan: KeyTotals, n_times: int) -> None:
        self.plan, self.n_times = plan, n_times
        self._keys = _plain(folder / "keys.npy") if (folder / "keys.npy").is_file() else None
        self._starts, self._moments, self._sums = (
            _plain(folder / f"{name}.npy") for name in ("starts", "moments", "sums")
        )
        self._last = _plain(folder / "last.npy") if plan.has_last else None

    def group(self, idx: int) -> Int64[np.ndarray, " 1"]:
        """The group of a single key; -1 for none."""
        return np.array([idx if 0 <= idx < len(self._starts) - 1 else -1], np.int64)

    def groups(self, second: Int64[np.ndarray, " rows"], first: int | None = None) -> Int64[np.ndarray, " rows"]:
        """The groups of keys: of single ones, or of pairs that share their first half; -1 for none."""
        if self._keys is None:
            return second
        if first is None or first < 0:
            return np.full(len(second), -1, np.int64)
        low, high = np.searchsorted(self._keys, [first << 32, (first + 1) << 32])
        if low == high:
            return np.full(len(second), -1, np.int64)
        own, wanted = self._keys[low:high], first << 32 | second
        at = np.minimum(np.searchsorted(own, wanted), high - low - 1)
        return np.where(own[at] == wanted, at + low, -1)

    def before(
        self, groups: Int64[np.ndarray, " rows"], ranks: Sequence[int]
    ) -> tuple[Int64[np.ndarray, "backs_plus_1 rows n_summed"], Int64[np.ndarray, "2 rows"]]:
        """What had happened to groups before some moments.

        Args:
            groups: Groups; -1 for none, to which nothing happened.
            ranks: For each of the plan's `backs_us`, how many of the log's times lie before it.

        Returns:
            What `KeyTotals.columns` takes.
        """
        plan = self.plan
        sums = np.zeros((len(ranks) + 1, len(groups), len(plan.summed)), np.int64)
        last = np.zeros((2, len(groups)), np.int64)
        everyone = bool(groups.min(initial=0) >= 0)
        found = slice(None) if everyone else np.flatnonzero(groups >= 0)
        some = groups[found]
        if not len(some):
            return sums, last
        starts = self._starts[some]
        ends = np.empty((len(ranks), len(some)), np.int64)
        ends[:] = self._starts[some + 1]
        within = [i for i, rank in enumerate(ranks) if 0 < rank < self.n_times]
        for i, rank in enumerate(ranks):
            if rank <= 0:
                ends[i] = starts
        if within:
            wanted = (some << 32) | np.array([ranks[i] for i in within], np.int64)[:, None]
            ends[within] = np.searchsorted(self._moments, wanted)
        sums[:-1, found] = self._sums[ends] - self._sums[starts]
        if self._last is not None:
            for place, back_us in enumerate((plan.delay_us, 0)):
                end = ends[plan.backs_us.index(back_us)]
                at_us = np.where(end > starts, self._last[np.maximum(end, 1) - 1, place], NEVER)
                last[place, found] = np.where(at_us > NEVER, at_us + back_us, 0)
        return sums, last


def _plain(file: Path) -> np.ndarray:
    """A mapped file as a plain array, whose slices cost less than those of NumPy's own class for it."""
    return np.asarray(map_array(file))
