"""Rows grouped by search, one results page each: the checks and the mean that all metrics share."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Shaped, UInt64

from shelfrank.core.errors import UserError


def require_pages(search_offsets: Int[np.ndarray, " offsets"], **rows: Shaped[np.ndarray, " rows"]) -> None:
    """Checks that `search_offsets` cuts every array of rows into pages of at least one row.

    Args:
        search_offsets: Search s holds the rows from entry s up to, not including, entry s + 1.
        **rows: The arrays of rows by their names, for the error.

    Raises:
        UserError: Where the offsets are no signed integers, do not begin at 0, fall, leave a page empty, or
            end elsewhere than an array of rows does.
    """
    if search_offsets.ndim != 1 or not len(search_offsets) or search_offsets.dtype.kind != "i":
        raise UserError(
            "search_offsets must be a flat array of signed integers, one more than there are searches, but "
            f"it has shape {search_offsets.shape} and type {search_offsets.dtype}; give [0] for no search"
        )
    if search_offsets[0] != 0:
        raise UserError(f"search_offsets must begin with 0, not {search_offsets[0]}; count rows from the first one")
    falling = np.flatnonzero(search_offsets[1:] < search_offsets[:-1])
    if len(falling):
        raise UserError(
            f"search_offsets must never fall, but {len(falling):,} do, the first after entry {falling[0]}; "
            "group the rows by search"
        )
    empty = np.flatnonzero(search_offsets[1:] == search_offsets[:-1])
    if len(empty):
        raise UserError(
            f"each search must hold at least one row, but {len(empty):,} hold none, the first is search "
            f"{empty[0]}; leave such searches out"
        )
    n_rows = int(search_offsets[-1])
    for name, values in rows.items():
        if values.shape != (n_rows,):
            raise UserError(
                f"{name} must be flat and hold the {n_rows:,} rows that search_offsets ends with, but it has "
                f"shape {values.shape}; cut both from the same data"
            )


def require_scores(scores: Float[np.ndarray, " rows"]) -> None:
    """Checks that scores can be sorted.

    Args:
        scores: The scores.

    Raises:
        UserError: Where they are no floating-point numbers, or some are not finite; the text counts these.
    """
    if scores.dtype.kind != "f":
        raise UserError(f"scores must be floating-point numbers, but their type is {scores.dtype}; cast them")
    # Numerics: a sum is finite only if all its terms are, and costs no array; it may overflow, so look again.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(scores.sum()):
            return
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise UserError(
            f"scores must be finite, but {len(bad):,} of {len(scores):,} are not, the first in row {bad[0]}; "
            "look for a diverged model or a division by zero"
        )


def require_labels(labels: Int[np.ndarray, " rows"], highest: int) -> None:
    """Checks that labels are integers from -1 (missing) to the highest that the metric knows.

    Args:
        labels: The labels.
        highest: 1 for a binary metric, the highest grade for a graded one.

    Raises:
        UserError: Where a label is outside.
    """
    if labels.dtype.kind != "i":
        raise UserError(f"labels must be signed integers, but their type is {labels.dtype}; cast them, -1 for missing")
    if not len(labels) or (labels.min() >= -1 and labels.max() <= highest):
        return
    outside = labels[(labels < -1) | (labels > highest)]
    raise UserError(
        f"labels must lie between 0 and {highest}, or be -1 where missing, but {len(outside):,} of "
        f"{len(labels):,} do not, the first is {outside[0]}; map them before scoring"
    )


def require_tie_keys(tie_keys: UInt64[np.ndarray, " rows"]) -> None:
    """Checks the type of tie keys, since another one may not hold 64-bit hashes without rounding.

    Args:
        tie_keys: A fixed hash of (search, product) for each row.

    Raises:
        UserError: Where they are no unsigned 64-bit integers.
    """
    if tie_keys.dtype != np.uint64:
        raise UserError(f"tie_keys must be unsigned 64-bit integers, but their type is {tie_keys.dtype}; cast them")


def require_cutoff(k: int) -> None:
    """Checks the cutoff.

    Args:
        k: How many products from the top count.

    Raises:
        UserError: Where it is below 1.
    """
    if k < 1:
        raise UserError(f"the cutoff k must be at least 1, not {k}; give the number of products that count")


def mean_over_searches(values: Float[np.ndarray, " searches"]) -> float:
    """Computes the mean over the searches that are not left out.

    Args:
        values: One value per search, NaN where the search is left out.

    Returns:
        The mean, NaN where every search is left out.

    Example:
        >>> mean_over_searches(np.array([1.0, np.nan, 0.5]))
        0.75
    """
    used = values[~np.isnan(values)]
    return float(used.mean()) if len(used) else float("nan")


def at_searches(
    values: Float64[np.ndarray, " searches"], used: Bool[np.ndarray, " searches"]
) -> Float64[np.ndarray, " searches"]:
    """Keeps the values of the used searches and puts NaN at those left out."""
    return np.where(used, values, np.nan)
