"""How well graded labels agree with true grades: quadratic-weighted kappa, Spearman's rho, Kendall's tau-b.

Every figure is made of counts by group (a query), so that a bootstrap over groups only weighs them anew. A group
without a pair of different grades says nothing and is left out of means over groups; a score that is the same for all
orders nothing and counts as 0, not as left out, or a voter would gain by keeping silent.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64


def confusions(
    labels: Int[np.ndarray, " pairs"],
    grades: Int[np.ndarray, " pairs"],
    group: Int[np.ndarray, " pairs"],
    n_groups: int,
    n_grades: int,
) -> Int64[np.ndarray, "groups n_grades n_grades"]:
    """Counts the pairs of each group by label and by true grade.

    Args:
        labels: 0 to `n_grades` - 1.
        grades: The same of the truth.
        group: 0 to `n_groups` - 1.
        n_groups: How many groups.
        n_grades: How many grades.

    Returns:
        Rows are labels, columns are grades.
    """
    cells = (group.astype(np.int64) * n_grades + labels) * n_grades + grades
    return np.bincount(cells, minlength=n_groups * n_grades**2).reshape(n_groups, n_grades, n_grades)


def quadratic_kappa(confusion: Int[np.ndarray, "parts n_grades n_grades"]) -> Float64[np.ndarray, " parts"]:
    """Cohen's kappa with squared distances as weights: 1 is agreement, 0 is chance.

    Grouping: one figure for each part. Ties and cutoff: none. Graded: labels and grades must mean the same scale.

    Args:
        confusion: Counts by label and grade, for each part.

    Returns:
        Kappa, NaN where chance alone agrees fully: without pairs, or all of one label and grade.

    Example:
        Two of four pairs are one grade off: 1/2 on average. Chance would give 14/16.

        >>> quadratic_kappa(np.array([[[1, 1, 0], [0, 1, 0], [0, 1, 0]]])).round(3)
        array([0.429])
    """
    counts = confusion.astype(np.float64)
    n_grades = counts.shape[-1]
    distance = np.subtract.outer(np.arange(n_grades), np.arange(n_grades)) ** 2.0
    by_chance = np.einsum("pij,pkl,il->p", counts, counts, distance)
    pairs = counts.sum(axis=(1, 2))
    seen = (counts * distance).sum(axis=(1, 2)) * pairs
    return 1 - np.divide(seen, by_chance, out=np.full(pairs.shape, np.nan), where=by_chance > 0)


@dataclass(frozen=True)
class RankedPairs:
    """Pairs sorted by score, so that both correlations cost O(pairs) for any weights of the groups.

    Attributes:
        cell: For each pair, its score's level and its grade as one number.
        group: The group of each pair.
        n_levels: Different scores, counted in each group apart where `by_group`.
        n_grades: How many grades.
        level_starts: First level of each group; one entry where all groups are pooled.
    """

    cell: Int64[np.ndarray, " pairs"]
    group: Int64[np.ndarray, " pairs"]
    n_levels: int
    n_grades: int
    level_starts: Int64[np.ndarray, " parts"]

    @classmethod
    def of(
        cls,
        scores: Float64[np.ndarray, " pairs"],
        grades: Int[np.ndarray, " pairs"],
        group: Int[np.ndarray, " pairs"],
        n_grades: int,
        by_group: bool,
        max_levels: int | None = None,
    ) -> "RankedPairs":
        """Sorts pairs by score.

        Args:
            scores: Finite scores.
            grades: 0 to `n_grades` - 1.
            group: 0 and up, without gaps.
            n_grades: How many grades.
            by_group: Whether each group is ranked by itself; else all pairs are ranked together.
            max_levels: Where given, neighbouring scores share levels of about equal size, which makes pooled
                correlations cheap at a change far below what a bootstrap over groups can see.

        Returns:
            The sorted pairs.
        """
        part = group if by_group else np.zeros_like(group)
        order = np.lexsort((scores, part))
        scores, part = scores[order], part[order]
        new_part = np.append(True, part[1:] != part[:-1])[: len(order)]
        new_level = new_part | np.append(True, scores[1:] != scores[:-1])[: len(order)]
        level = np.cumsum(new_level) - 1
        if max_levels is not None and not by_group and len(level):
            first_pair = np.flatnonzero(new_level)[level]
            level = np.unique(first_pair * max_levels // len(level), return_inverse=True)[1]
        return cls(
            cell=level * n_grades + grades[order],
            group=group[order].astype(np.int64),
            n_levels=int(level[-1]) + 1 if len(level) else 0,
            n_grades=n_grades,
            level_starts=level[new_part],
        )

    def correlations(
        self, weights: Int[np.ndarray, " groups"] | None = None
    ) -> tuple[Float64[np.ndarray, " parts"], Float64[np.ndarray, " parts"]]:
        """Spearman's rho and Kendall's tau-b of scores and grades.

        Grouping: one figure for each group, or one for all. Ties: rho gives them their mean rank, tau-b corrects for
        them.

        Args:
            weights: How often each group counts; once if not given.

        Returns:
            Rho and tau-b; NaN without two pairs of different grades, 0 where all scores are the same.
        """
        if not self.n_levels:
            return np.empty(0), np.empty(0)
        of_pairs = None if weights is None else weights[self.group]
        counts = np.bincount(self.cell, of_pairs, self.n_levels * self.n_grades).reshape(self.n_levels, self.n_grades)
        counts = counts.astype(np.float64)
        by_level = counts.sum(axis=1)
        by_grade = self._per_part(counts)
        n = by_grade.sum(axis=1)
        level_pairs = self._per_part(by_level**2)
        below = self._exclusive(counts)
        lower_grades = np.cumsum(below, axis=1) - below
        higher_grades = below.sum(axis=1, keepdims=True) - below - lower_grades
        balance = self._per_part((counts * (lower_grades - higher_grades)).sum(axis=1))
        # Pairs of pairs that differ in score, and that differ in grade: (n^2 - sum of squares) / 2 of each.
        differ = np.sqrt(np.maximum(n**2 - level_pairs, 0)) * np.sqrt(np.maximum(n**2 - (by_grade**2).sum(axis=1), 0))
        tau = _ratio(2 * balance, differ)
        # Mean ranks around 0: what lies below plus half of the own level, minus half of all.
        score_rank = below.sum(axis=1) + by_level / 2 - np.repeat(n, self._sizes()) / 2
        grade_rank = np.cumsum(by_grade, axis=1) - by_grade / 2 - n[:, None] / 2
        of_levels = np.repeat(grade_rank, self._sizes(), axis=0)
        covariance = self._per_part((counts * of_levels).sum(axis=1) * score_rank)
        score_spread = self._per_part(by_level * score_rank**2)
        rho = _ratio(covariance, np.sqrt(score_spread) * np.sqrt((by_grade * grade_rank**2).sum(axis=1)))
        undefined = (by_grade > 0).sum(axis=1) < 2
        return np.where(undefined, np.nan, rho), np.where(undefined, np.nan, tau)

    def _sizes(self) -> Int64[np.ndarray, " parts"]:
        return np.diff(np.append(self.level_starts, self.n_levels))

    def _per_part(self, of_levels: np.ndarray) -> np.ndarray:
        return np.add.reduceat(of_levels, self.level_starts, axis=0)

    def _exclusive(self, of_levels: np.ndarray) -> np.ndarray:
        before = np.cumsum(of_levels, axis=0) - of_levels
        return before - np.repeat(before[self.level_starts], self._sizes(), axis=0)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
