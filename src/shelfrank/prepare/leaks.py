"""Declared features that tell a label implausibly well by themselves, as what is known only after the search does.

Three questions are asked of each feature and label, over training rows:

- Does it tell rows with the label from rows without it, over all rows or within a search? (AUC)
- Does it tell searches with the label from searches without it? (AUC over searches)
- Does it know a part of the rows with the label for certain, such as the bought ones among the clicked? (rate)

A feature is cut into levels: each category, each of some quantiles of a number, and missing. A level's rate of the
label is taken from one half of the searches and judged on the other, so that a level of few rows gains nothing by
chance.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num

from shelfrank.data.prepared import MISSING_SUFFIX, Column, map_array

MIN_AUC = 0.85
"""No feature of the honest logs that this was calibrated on comes near it; a label of which 10 % is flipped has 0.9."""

MARGIN = 0.02
"""A feature that tells no more than the shown order does is one that the order was made with, such as its score."""

MAX_MIN_AUC = 0.98
MIN_AUC_FOR_CERTAIN = 0.8
"""What two standard errors below the AUC must still reach."""

CERTAIN_RATE = 0.98
MIN_CERTAIN_ROWS = 30
MIN_ODDS_RATIO = 20.0
MIN_SHARE = 0.03
"""Of the rows with the label, how many must be among those that are known for certain."""

MIN_POSITIVES = 10
MIN_LEVEL_ROWS = 5
MAX_ROWS = 100_000
N_QUANTILES = 128
PRIOR_ROWS = 5.0


@dataclass(frozen=True)
class Suspect:
    """A feature that tells a label implausibly well.

    Attributes:
        feature: Its name.
        task: The label.
        auc: The largest AUC of the three: over rows, within searches, over searches.
        where: Which of them it is.
        known: Rows of the sample that have the label at a rate of `CERTAIN_RATE` or more by the feature alone.
        rate: The share of them that have the label.
        base_rate: The share of all rows.
    """

    feature: str
    task: str
    auc: float
    where: str
    known: int
    rate: float
    base_rate: float

    def as_dict(self) -> dict[str, Any]:
        """The suspicion as plain data, with a sentence for people."""
        return {**asdict(self), "text": str(self)}

    def __str__(self) -> str:
        """Why the feature is suspect."""
        told = f"by itself it tells {self.task} with an AUC of {self.auc:.3f} {self.where}"
        if self.known:
            told += f", and {self.rate:.0%} of {self.known:,} rows that it singles out have it"
            told += f", of all rows {self.base_rate:.1%}"
        return f"{told}; unless it is known before the page is shown, leave it out"


def find_suspects(
    folder: Path,
    numerical: Sequence[Column],
    categorical: Sequence[Column],
    tasks: Sequence[str],
    declared: Sequence[str],
) -> list[Suspect]:
    """Finds declared features that tell a label implausibly well.

    Computed features are not asked: they count what was known strictly before the search. The rows are those of evenly
    spaced training searches, at most about `MAX_ROWS`, so the result is the same in every run.

    Args:
        folder: The training split as `write_arrays` wrote it.
        numerical: What each column of `numerical.npy` is.
        categorical: What each column of `categorical.npy` is.
        tasks: What each column of `labels.npy` is.
        declared: The declared features.

    Returns:
        For each such feature, in the declared order, the label that it tells best.
    """
    sample = _Sample(folder)
    judges = {task: judge for place, task in enumerate(tasks) if (judge := _judge(sample, place)) is not None}
    suspects: list[Suspect] = []
    for name, levels, ordered in sample.features(numerical, categorical, declared) if judges else ():
        found = [judge.suspect(name, task, levels, ordered) for task, judge in judges.items()]
        suspects += sorted((each for each in found if each is not None), key=lambda each: -each.auc)[:1]
    return suspects


class _Sample:
    """Rows of evenly spaced training searches."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        offsets = np.asarray(map_array(folder / "search_offsets.npy"))
        chosen = np.arange(0, len(offsets) - 1, max(-(-int(offsets[-1]) // MAX_ROWS), 1))
        sizes = (offsets[1:] - offsets[:-1])[chosen]
        self.search = np.repeat(np.arange(len(chosen)), sizes)
        first = np.cumsum(sizes) - sizes
        self._rows = np.arange(int(sizes.sum())) + np.repeat(offsets[chosen] - first, sizes)
        self.labels = self.read("labels")

    def read(self, array: str, column: int | None = None) -> np.ndarray:
        """The sample of an array, or of one of its columns."""
        values = map_array(self._folder / f"{array}.npy")
        return np.asarray((values if column is None else values[:, column])[self._rows])

    def features(
        self, numerical: Sequence[Column], categorical: Sequence[Column], declared: Sequence[str]
    ) -> Iterator[tuple[str, Int64[np.ndarray, " rows"], bool]]:
        """Name, levels and whether these have an order, of each declared feature."""
        place = {column.name: index for index, column in enumerate(numerical)}
        codes = {column.name: index for index, column in enumerate(categorical)}
        for name in declared:
            if name in place:
                levels = 1 + quantile_levels(self.read("numerical", place[name]))
                if name + MISSING_SUFFIX in place:
                    levels[self.read("numerical", place[name + MISSING_SUFFIX]) > 0] = 0
                yield name, levels, True
            elif name in codes:
                yield name, self.read("categorical", codes[name]).astype(np.int64), False


@dataclass(frozen=True)
class _Judge:
    """Judges features by one label.

    Attributes:
        rows: The rows of the sample whose label is known.
        search: The search of each of them.
        positive: Their labels.
        least: The AUC that is implausible, over rows and within searches.
    """

    rows: Bool[np.ndarray, " sample"]
    search: Int64[np.ndarray, " rows"]
    positive: Bool[np.ndarray, " rows"]
    least: float

    def suspect(self, name: str, task: str, levels: Int64[np.ndarray, " sample"], ordered: bool) -> Suspect | None:
        """The feature, where it tells the label implausibly well."""
        levels, half = levels[self.rows], self.search % 2
        rates = other_half_rates(levels, half, self.positive)
        ranks = ranked(rates)[half, levels]
        # A search is told by the mean rate of its rows.
        n_rows = np.bincount(self.search)
        known = np.flatnonzero(n_rows)
        means = ranked(np.bincount(self.search, rates[half, levels])[known] / n_rows[known])
        any_positive = np.bincount(self.search, self.positive)[known] > 0
        found = [
            (grouped_auc(half, ranks, self.positive), "over all rows", self.least),
            (grouped_auc(self.search, ranks, self.positive), "within searches", self.least),
            (grouped_auc(known % 2, means, any_positive), "over searches", MIN_AUC),
        ]
        if ordered:
            # The levels of a number as they are: half of the rows is few to learn an order of many levels from.
            found += [
                (grouped_auc(np.zeros_like(half), levels, self.positive).either_way(), "over all rows", self.least),
                (grouped_auc(self.search, levels, self.positive).either_way(), "within searches", self.least),
            ]
        n_known, n_positive = certain_rows(levels, half, self.positive)
        base = float(self.positive.mean())
        rate = n_positive / n_known if n_known else 0.0
        is_certain = (
            n_known >= MIN_CERTAIN_ROWS
            and n_positive >= MIN_SHARE * self.positive.sum()
            and rate >= CERTAIN_RATE
            and rate * (1 - base) >= MIN_ODDS_RATIO * base * (1 - rate)
        )
        high = [(auc, where) for auc, where, least in found if auc.is_at_least(least)]
        if not high and not is_certain:
            return None
        auc, where = max(high or [(auc, where) for auc, where, _ in found], key=lambda each: each[0].value)
        return Suspect(name, task, round(auc.value, 4), where, n_known if is_certain else 0, rate, base)


def _judge(sample: _Sample, place: int) -> _Judge | None:
    rows = sample.labels[:, place] >= 0
    search, positive = sample.search[rows], sample.labels[rows, place] == 1
    if min(positive.sum(), (~positive).sum()) < MIN_POSITIVES:
        return None
    position = sample.read("position")[rows].astype(np.int64)
    last_first = position.max() - position
    shown = max(grouped_auc(groups, last_first, positive).value for groups in (np.zeros_like(search), search))
    return _Judge(rows, search, positive, min(max(MIN_AUC, shown + MARGIN), MAX_MIN_AUC))


@dataclass(frozen=True)
class AUC:
    """An AUC, and the rows that it was measured on: those of groups that have both."""

    value: float
    n_positive: int
    n_negative: int

    def either_way(self) -> "AUC":
        """The AUC of the feature or of its negative, whichever is larger."""
        return AUC(max(self.value, 1 - self.value), self.n_positive, self.n_negative)

    def is_at_least(self, least: float) -> bool:
        """Whether it is so large, and not by the chance of few rows (Hanley and McNeil 1982, standard error)."""
        if min(self.n_positive, self.n_negative) < MIN_POSITIVES or self.value < least:
            return False
        a, square = self.value, self.value**2
        spread = a * (1 - a) + (self.n_positive - 1) * (a / (2 - a) - square)
        spread += (self.n_negative - 1) * (2 * square / (1 + a) - square)
        error = math.sqrt(max(spread, 0.0) / (self.n_positive * self.n_negative))
        return a - 2 * error >= MIN_AUC_FOR_CERTAIN


def grouped_auc(
    groups: Int64[np.ndarray, " rows"], ranks: Int64[np.ndarray, " rows"], positive: Bool[np.ndarray, " rows"]
) -> AUC:
    """The share of pairs, one positive and one negative of one group, that the ranks put in order; ties count half.

    Example:
        Ranks 3, 1, 2 of which the first two are positive: the pairs (3, 2) and (1, 2) give 1/2.

    Args:
        groups: Each row's group, such as its search.
        ranks: Each row's score as a whole number from 0 on.
        positive: Each row's label.

    Returns:
        The AUC; 1/2 where no group has both.
    """
    width = int(ranks.max(initial=0)) + 1
    keys = np.sort((groups * width + ranks) * 2 + positive)
    cells = keys >> 1
    of_cell = np.flatnonzero(np.diff(cells, prepend=-1))
    n_rows = np.diff(np.append(of_cell, len(keys)))
    n_positive = np.add.reduceat(keys & 1, of_cell)
    n_negative = n_rows - n_positive
    starts = np.flatnonzero(np.diff(cells[of_cell] // width, prepend=-1))
    positives, negatives = (np.add.reduceat(counts, starts) for counts in (n_positive, n_negative))
    both = (positives > 0) & (negatives > 0)
    n_pairs = float((positives * negatives).sum())
    if not n_pairs:
        return AUC(0.5, 0, 0)
    before = np.cumsum(negatives) - negatives
    below = np.cumsum(n_negative) - n_negative - np.repeat(before, np.diff(np.append(starts, len(of_cell))))
    in_order = float((n_positive * (below + n_negative / 2)).sum())
    return AUC(in_order / n_pairs, int(positives[both].sum()), int(negatives[both].sum()))


def ranked(values: Float64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
    """Each value's rank from 0 on, equal ones sharing one."""
    return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int64)


def other_half_rates(
    levels: Int64[np.ndarray, " rows"], half: Int64[np.ndarray, " rows"], positive: Bool[np.ndarray, " rows"]
) -> Float64[np.ndarray, "halves levels"]:
    """For each half, each level's rate of the label in the other one, pulled towards the rate of all levels there."""
    rates = []
    for n_rows, n_positive, _ in _halves(levels, half, positive):
        base = n_positive.sum() / max(n_rows.sum(), 1)
        rates.append((n_positive + PRIOR_ROWS * base) / (n_rows + PRIOR_ROWS))
    return np.stack(rates)


def certain_rows(
    levels: Int64[np.ndarray, " rows"], half: Int64[np.ndarray, " rows"], positive: Bool[np.ndarray, " rows"]
) -> tuple[int, int]:
    """Counts the rows at levels where nearly all of the other half's rows have the label, and those that have it."""
    n_known = n_positives = 0
    for n_rows, n_positive, here in _halves(levels, half, positive):
        is_certain = (n_rows >= MIN_LEVEL_ROWS) & (n_positive >= CERTAIN_RATE * n_rows)
        chosen = is_certain[levels[here]]
        n_known += int(chosen.sum())
        n_positives += int(positive[here][chosen].sum())
    return n_known, n_positives


def quantile_levels(values: Num[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """Cuts numbers into levels by quantiles; a number that is one of the quantiles has a level of its own."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, N_QUANTILES + 1), method="lower"))
    return np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")


def _halves(
    levels: Int64[np.ndarray, " rows"], half: Int64[np.ndarray, " rows"], positive: Bool[np.ndarray, " rows"]
) -> Iterator[tuple[Int64[np.ndarray, " levels"], Int64[np.ndarray, " levels"], Bool[np.ndarray, " rows"]]]:
    """Rows and positives by level of one half, with the rows of the other."""
    n_levels = int(levels.max(initial=-1)) + 1
    for judged in (0, 1):
        there = half != judged
        n_rows = np.bincount(levels[there], minlength=n_levels)
        n_positive = np.bincount(levels[there & positive], minlength=n_levels)
        yield n_rows, n_positive, ~there
