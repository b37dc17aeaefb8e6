"""The strata of the sampling: bins of products by popularity within a category, and how many rows each gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from shelfrank.config import SamplingConfig


@dataclass(frozen=True)
class Strata:
    """Products in bins of equally many within their category (Paper: Sec. 3.4, step 1).

    Attributes:
        product_idx: The products that were shown, rising.
        product_key: Their keys.
        stratum: The bin of each, as a row of `bins`.
        bins: `category`, `bin` (1 = shown least) and `products`.
    """

    product_idx: Int64[np.ndarray, " products"]
    product_key: Int64[np.ndarray, " products"]
    stratum: Int64[np.ndarray, " products"]
    bins: pa.Table


def stratify(shown: pa.Table, n_bins: int) -> Strata:
    """Ranks the products of each category by impressions, ties by their index, and cuts the ranks into bins.

    Paper: Sec. 3.4.

    The product of rank r among m, from 0 for the one shown least, is in bin 1 + floor(r * n_bins / m).

    Args:
        shown: `product_idx`, `product_key`, `category` and `impressions` of every product shown.
        n_bins: Bins per category; fewer are filled where a category has fewer products.

    Returns:
        The strata, by category (null last) and bin.

    Example:
        Five products in two bins: ranks 0, 1, 2 -> bin 1; ranks 3, 4 -> bin 2.
    """
    # Unstated: what a bin is. Here it holds equally many products, so the most viewed bin holds the most rows.
    shown = shown.sort_by("product_idx")
    product_idx, product_key, impressions = (
        shown[name].to_numpy().astype(np.int64) for name in ("product_idx", "product_key", "impressions")
    )
    names, category = _coded(shown["category"])
    order = np.lexsort((product_idx, impressions, category))
    sizes = np.bincount(category, minlength=len(names))
    rank = np.empty_like(category)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    bins = rank * n_bins // np.maximum(sizes, 1)[category]
    filled, stratum, n_products = np.unique(category * n_bins + bins, return_inverse=True, return_counts=True)
    table = pa.table(
        {
            "category": pa.array([names[code] for code in (filled // n_bins).tolist()], pa.string()),
            "bin": pa.array(filled % n_bins + 1, pa.int64()),
            "products": pa.array(n_products, pa.int64()),
        }
    )
    return Strata(product_idx, product_key, stratum.astype(np.int64), table)


def with_targets(strata: Strata, counted: pa.Table, config: SamplingConfig) -> pa.Table:
    """Counts each bin's rows, and how many of them are asked for and taken (Paper: Sec. 3.4, steps 2 to 5).

    n = beta * |B| and n+ = alpha * n are rounded so that what a bin's rounding takes or gives, the next bin's gives or
    takes: every bin has its size to within 1, and so has their sum, however many bins hold a row or two. n- is what n+
    leaves of n. Where a side has fewer rows than asked for, all of them are taken and none twice.

    Args:
        strata: The bins.
        counted: `product_idx`, `impressions` and `positives`; products that are absent have none.
        config: `alpha` and `beta`.

    Returns:
        The bins with `impressions`, `positives`, `negatives` and what is asked and taken of both sides.
    """
    place = np.searchsorted(strata.product_idx, counted["product_idx"].to_numpy())
    impressions, positives = (
        _sums(strata.stratum[place], counted[name].to_numpy(), strata.bins.num_rows)
        for name in ("impressions", "positives")
    )
    negatives = impressions - positives
    asked = portions(impressions, config.beta)
    asked_positive = portions(asked, config.alpha)
    asked_negative = asked - asked_positive
    columns = {
        "impressions": impressions,
        "positives": positives,
        "negatives": negatives,
        "asked_positive": asked_positive,
        "asked_negative": asked_negative,
        "taken_positive": np.minimum(asked_positive, positives),
        "taken_negative": np.minimum(asked_negative, negatives),
    }
    bins = strata.bins
    for name, values in columns.items():
        bins = bins.append_column(name, pa.array(values, pa.int64()))
    return bins


def portions(counts: Int64[np.ndarray, " bins"], share: float) -> Int64[np.ndarray, " bins"]:
    """A share of each count, by the share's decimal digits: differences of the rounded shares of the running sum.

    Args:
        counts: The counts.
        share: The share, from 0 to 1.

    Returns:
        Whole numbers, each less than 1 from its exact share, none above its count; they sum to the rounded share of
        the sum.

    Example:
        >>> portions(np.array([10, 1, 1, 1]), 0.5).tolist()
        [5, 1, 0, 1]
    """
    # Numerics: 35 * 0.7 is 24.499999999999996 in floating point.
    exact = Fraction(str(share))
    sums = np.cumsum(counts).tolist()
    rounded = [(2 * exact.numerator * n + exact.denominator) // (2 * exact.denominator) for n in sums]
    return np.diff(np.array([0, *rounded], dtype=np.int64))


def _coded(category: pa.ChunkedArray) -> tuple[Sequence[str | None], Int64[np.ndarray, " products"]]:
    """The sorted names of the categories, null last, and each product's place among them."""
    encoded = category.cast(pa.string()).combine_chunks().dictionary_encode(null_encoding="encode")
    found = encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=lambda i: (found[i] is None, found[i] or ""))
    place = np.empty(len(found), dtype=np.int64)
    place[order] = np.arange(len(found))
    return [found[i] for i in order], place[encoded.indices.to_numpy()]


def _sums(group: Int64[np.ndarray, " rows"], values: np.ndarray, n_groups: int) -> Int64[np.ndarray, " groups"]:
    total = np.zeros(n_groups, dtype=np.int64)
    np.add.at(total, group, values)
    return total
