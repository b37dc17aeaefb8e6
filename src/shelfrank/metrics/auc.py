"""AUC-ROC over rows, sorted once and then weighed as often as a bootstrap asks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, Num

from shelfrank.core.errors import UserError
from shelfrank.metrics.pages import require_labels, require_scores


def auc_roc(
    scores: Float[np.ndarray, " rows"],
    labels: Int[np.ndarray, " rows"],
    weights: Num[np.ndarray, " rows"] | None = None,
) -> float:
    """Computes the share of (positive, negative) pairs of rows in which the positive has the higher score.

    Paper: Sec. 4.3.

    - Grouping: none; a pair may come from two searches. All rows of the task are pooled.
    - Cutoff: none.
    - Ties: a pair with equal scores counts half, so that no order among equals matters.
    - Searches without positives: their rows count as negatives. Rows whose label is missing are left out.
    - Graded labels: refused; AUC needs two classes.

    Args:
        scores: The ranker's score of each row.
        labels: 1 for a positive row, 0 for a negative one, -1 for a missing label.
        weights: How often each row counts; a pair counts as often as the product of its two weights.

    Returns:
        A share between 0 and 1; NaN where no row, or no weight, is left in one of the classes.

    Raises:
        UserError: Where lengths differ, a score is not finite, a label is unknown, or a weight is
            negative or not finite.

    Example:
        Of the four pairs, 0.9 > 0.1, 0.9 > 0.5 and 0.5 > 0.1 are right and 0.5 = 0.5 counts half: 3.5 / 4.

        >>> auc_roc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0], dtype=np.int8))
        0.875
    """
    if weights is None:
        _require_rows(scores, labels)
        # Without weights it need not be known which row a score came from, and scores alone sort far faster.
        positives, negatives = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
        n_below, n_up_to = _count_lower(positives, negatives)
        n_pairs = len(positives) * len(negatives)
        return int(n_below.sum() + n_up_to.sum()) / 2 / n_pairs if n_pairs else float("nan")
    if weights.shape != labels.shape or not (weights >= 0).all() or not np.isfinite(weights).all():
        raise UserError(
            f"weights must be one finite number of at least 0 for each of the {len(labels):,} rows, but they "
            f"are {weights.shape} numbers from {weights.min(initial=0)} to {weights.max(initial=0)}; weigh "
            "rows by how often they count"
        )
    return sort_by_score(scores, labels, np.arange(len(labels))).auc(weights)


@dataclass(frozen=True)
class GroupParts:
    """Each group's part of an AUC: the groups with a positive row, or with a negative one where these are fewer.

    Attributes:
        mean: The share of right pairs among those of the group's rows of that class.
        weight: Rows of that class in the group, over their mean number: the mean of `mean * weight` is the AUC.
    """

    mean: Float64[np.ndarray, " parts"]
    weight: Float64[np.ndarray, " parts"]


@dataclass(frozen=True)
class SortedRows:
    """Rows of one task in ascending order of score, from which AUC under any weights costs O(rows).

    Rows share a weight by group: in a bootstrap over searches, a row counts as often as its search was drawn.

    Attributes:
        positive_groups: The group of each positive row.
        negative_groups: The group of each negative row.
        n_below: For each positive row, how many negative rows have a lower score.
        n_up_to: For each positive row, how many negative rows have a lower or the same score.
    """

    positive_groups: Int[np.ndarray, " positives"]
    negative_groups: Int[np.ndarray, " negatives"]
    n_below: Int[np.ndarray, " positives"]
    n_up_to: Int[np.ndarray, " positives"]

    def auc(self, weights: Num[np.ndarray, " groups"]) -> float:
        """Computes AUC-ROC with each row counted as often as its group's weight says.

        Args:
            weights: At least 0, one per group. Whole numbers are summed exactly.

        Returns:
            AUC as `auc_roc` defines it.
        """
        dtype = np.int64 if weights.dtype.kind in "iu" else np.float64
        # total[i] = weight of the i negative rows with the lowest scores
        total = np.zeros(len(self.negative_groups) + 1, dtype=dtype)
        np.cumsum(weights.take(self.negative_groups), dtype=dtype, out=total[1:])
        positives = weights.take(self.positive_groups).astype(dtype)
        n_pairs = float(positives.sum()) * float(total[-1])
        if n_pairs == 0:
            return float("nan")
        twice_right = positives @ (total.take(self.n_below) + total.take(self.n_up_to))
        return float(twice_right) / 2 / n_pairs

    def auc_by_group(self, n_groups: int) -> GroupParts:
        """Splits the unweighted AUC into the groups' parts.

        Args:
            n_groups: How many groups there are.

        Returns:
            One part for each group with a row of the class that fewer groups have; none without two classes.

        Example:
            Of group 0's positives, 2 and 1 of the two negatives lie below; group 1's has 0.

            >>> rows = sort_by_score(
            ...     np.array([0.9, 0.5, 0.2, 0.6, 0.3]), np.array([1, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 2])
            ... )
            >>> parts = rows.auc_by_group(3)
            >>> parts.mean.tolist(), parts.weight.round(2).tolist()
            ([0.75, 0.0], [1.33, 0.67])
        """
        n_positives, n_negatives = len(self.positive_groups), len(self.negative_groups)
        if not n_positives or not n_negatives:
            return GroupParts(np.empty(0), np.empty(0))
        groups, right = self.positive_groups, (self.n_below + self.n_up_to) / 2 / n_negatives
        if len(np.unique(self.negative_groups)) < len(np.unique(groups)):
            # Both counts rise with the positives' scores: negative i lies below the positives that count more than i.
            place = np.arange(n_negatives)
            n_not_above = np.searchsorted(self.n_below, place, side="right")
            n_below = np.searchsorted(self.n_up_to, place, side="right")
            groups, right = self.negative_groups, 1 - (n_not_above + n_below) / 2 / n_positives
        rows = np.bincount(groups, minlength=n_groups)
        used = rows > 0
        # Rounded, so that groups that agree but for rounding have one value.
        mean = (np.bincount(groups, right, minlength=n_groups)[used] / rows[used]).round(12)
        return GroupParts(mean, rows[used] / rows[used].mean())


def sort_by_score(
    scores: Float[np.ndarray, " rows"], labels: Int[np.ndarray, " rows"], groups: Int[np.ndarray, " rows"]
) -> SortedRows:
    """Sorts the rows of one task for repeated AUCs; rows whose label is missing are left out.

    Args:
        scores: The ranker's score of each row.
        labels: 1 for a positive row, 0 for a negative one, -1 for a missing label.
        groups: Which entry of the later weights each row follows, one per row.

    Returns:
        The sorted rows.

    Raises:
        UserError: Where lengths differ, a score is not finite, or a label is unknown.
    """
    _require_rows(scores, labels)
    positive_rows, negative_rows = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    positive_rows = positive_rows[np.argsort(scores[positive_rows])]
    negative_rows = negative_rows[np.argsort(scores[negative_rows])]
    n_below, n_up_to = _count_lower(scores[positive_rows], scores[negative_rows])
    return SortedRows(groups[positive_rows], groups[negative_rows], n_below, n_up_to)


def _count_lower(
    positives: Float[np.ndarray, " positives"], negatives: Float[np.ndarray, " negatives"]
) -> tuple[Int[np.ndarray, " positives"], Int[np.ndarray, " positives"]]:
    return np.searchsorted(negatives, positives, side="left"), np.searchsorted(negatives, positives, side="right")


def _require_rows(scores: Float[np.ndarray, " rows"], labels: Int[np.ndarray, " rows"]) -> None:
    if scores.shape != labels.shape or scores.ndim != 1:
        raise UserError(
            f"scores and labels must be flat and equally long, but their shapes are {scores.shape} and "
            f"{labels.shape}; cut them from the same rows"
        )
    require_scores(scores)
    require_labels(labels, highest=1)
