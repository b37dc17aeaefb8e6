"""The history statistics of one key at any time: running sums of every group, memory-mapped and searched.

`history_offline` computes statistics at a log's own rows; here the same integers are looked up for any group and time.
The moments of a group are in order of time, each with the sums up to and including it, so that the sum over any span
before a search is a difference of two rows. A moment is numbered by its group and by the rank of its time among all
times of the log, which gives one sorted column of integers.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64, Num

from shelfrank.data.prepared import map_array
from shelfrank.features.history_stats import KeyPlan, KeyStat

NEVER = np.iinfo(np.int64).min
"""The time of an engagement that has not happened."""


class HistoryTable:
    """The running sums of one key's groups.

    Args:
        plan: The statistics that follow from them.
        n_times: Number of distinct times.
        starts: The first moment of each group, and the number of moments.
        moments: The number of each moment, in ascending order.
        sums: The running sums before each moment and after the last one.
        keys: Pairs of keys in ascending order, one for each group; None where a group's number is its key.
        last: At each moment, when each of the plan's `latest` was last above 0; None where the plan has none.

    Attributes:
        plan: The statistics that follow from the sums.
        n_times: Number of distinct times.
    """

    def __init__(
        self,
        plan: KeyPlan,
        n_times: int,
        *,
        starts: Int[np.ndarray, " groups_plus_1"],
        moments: Int64[np.ndarray, " moments"],
        sums: Int[np.ndarray, "moments_plus_1 n_measures"],
        keys: Int64[np.ndarray, " groups"] | None = None,
        last: Int64[np.ndarray, "moments n_latest"] | None = None,
    ) -> None:
        self.plan, self.n_times = plan, n_times
        self._starts, self._moments, self._sums, self._keys, self._last = starts, moments, sums, keys, last

    @classmethod
    def open(cls, folder: Path, plan: KeyPlan, n_times: int) -> "HistoryTable":
        """Maps what `build_store` wrote.

        Args:
            folder: The folder.
            plan: The statistics that follow from the sums.
            n_times: Number of distinct times of the log.

        Returns:
            The table.
        """
        return cls(
            plan,
            n_times,
            starts=_plain(folder / "starts.npy"),
            moments=_plain(folder / "moments.npy"),
            sums=_plain(folder / "sums.npy"),
            keys=_plain(folder / "keys.npy") if (folder / "keys.npy").is_file() else None,
            last=_plain(folder / "last.npy") if plan.latest else None,
        )

    def __len__(self) -> int:
        """Number of moments."""
        return len(self._moments)

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
    ) -> tuple[Int64[np.ndarray, "offsets_plus_1 rows n_measures"], Int64[np.ndarray, "n_latest rows"]]:
        """The running sums of groups before some times.

        Args:
            groups: Groups; -1 for none, whose sums are 0.
            ranks: For each of the plan's `offsets_us`, the number of the log's times before it.

        Returns:
            The arguments of `statistics`.
        """
        plan = self.plan
        sums = np.zeros((len(ranks) + 1, len(groups), len(plan.measures)), np.int64)
        latest_us = np.zeros((len(plan.latest), len(groups)), np.int64)
        all_known = bool(groups.min(initial=0) >= 0)
        found = slice(None) if all_known else np.flatnonzero(groups >= 0)
        some = groups[found]
        if not len(some):
            return sums, latest_us
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
            for place, measure in enumerate(plan.latest):
                known_after_us = plan.known_after_us(measure)
                end = ends[plan.offsets_us.index(known_after_us)]
                at_us = np.where(end > starts, self._last[np.maximum(end, 1) - 1, place], NEVER)
                latest_us[place, found] = np.where(at_us > NEVER, at_us + known_after_us, 0)
        return sums, latest_us

    def statistics(
        self,
        sums: Int64[np.ndarray, "offsets_plus_1 rows n_measures"],
        latest_us: Int64[np.ndarray, "n_latest rows"],
    ) -> dict[str, Num[np.ndarray, " rows"]]:
        """The statistics by their columns, in the types that `StatsOfGroups` gives.

        Args:
            sums: Sums of each row's group before each of the plan's `offsets_us`; the last entry is zeros.
            latest_us: For each measure of the plan's `latest`, the time at which it last became known; 0 if never.

        Returns:
            The columns.
        """
        end, begin, measure, further, summed = self._differences
        values = sums[end, :, measure] - sums[begin, :, measure]
        for part, stat in enumerate(further, start=len(summed)):
            values[stat] += values[part]
        narrow = values.astype(np.int32)
        columns: dict[str, Num[np.ndarray, " rows"]] = {
            each.column: values[i] if each.stat.dtype is np.int64 else narrow[i] for i, each in enumerate(summed)
        }
        for column, places in self._latest_places:
            columns[column] = latest_us[places].max(axis=0)
        return columns

    @cached_property
    def no_history(self) -> dict[str, Num[np.ndarray, " 1"]]:
        """The statistics of a group without history, one value for all rows."""
        return {each.column: np.zeros(1, each.stat.dtype) for each in self.plan.stats}

    @cached_property
    def _differences(
        self,
    ) -> tuple[
        Int64[np.ndarray, " parts"],
        Int64[np.ndarray, " parts"],
        Int64[np.ndarray, " parts"],
        tuple[int, ...],
        tuple[KeyStat, ...],
    ]:
        """For each part of a sum its end, its beginning and its measure; the sums' first parts come first.

        The last two are the sum to which each further part adds, and the sums.
        """
        plan = self.plan
        summed = tuple(each for each in plan.stats if each.stat.combine == "sum")
        place = {offset: index for index, offset in enumerate(plan.offsets_us)}
        first, further, adds_to = [], [], []
        for index, each in enumerate(summed):
            for number, part in enumerate(each.stat.parts):
                begin = place[plan.window_us(part, each.days)] if each.days else len(place)
                difference = (place[plan.known_after_us(part)], begin, plan.measures.index(part))
                if number:
                    further.append(difference)
                    adds_to.append(index)
                else:
                    first.append(difference)
        end, begin, measure = np.array([*first, *further], np.int64).reshape(-1, 3).T
        return end, begin, measure, tuple(adds_to), summed

    @cached_property
    def _latest_places(self) -> tuple[tuple[str, list[int]], ...]:
        return tuple(
            (each.column, [self.plan.latest.index(part) for part in each.stat.parts])
            for each in self.plan.stats
            if each.stat.combine == "latest"
        )


def _plain(file: Path) -> np.ndarray:
    """A mapped file as a plain array, whose slices cost less than those of NumPy's own class for it."""
    return np.asarray(map_array(file))
