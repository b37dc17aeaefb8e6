"""Impressions, clicks and transactions of each (query, product) pair (Paper: Sec. 3.5, step 1)."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# ibis's own annotations reject its operators and column methods.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int, Int32, Int64

POSITION_POWER = 1.5
ROUNDING = 1e-12

POSITION_WEIGHTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    # Differs: the prose of step 2 wants "a logarithmic decay function"; 1 at position 1, 0.501 at position 2.
    "decay": lambda position: (np.log(2.0) / np.log(position + 1.0)) ** POSITION_POWER,
    # Paper: the formula of step 2, which grows: 0.577 at position 1, 1.151 at position 2.
    "as_printed": lambda position: np.log(position + 1.0) ** POSITION_POWER,
    "none": lambda position: np.ones(position.shape),
}
"""What one click counts by its 1-based position."""


def pair_counts(rows: ibis.Table, tasks: Sequence[str]) -> tuple[ibis.Table, ibis.Table]:
    """Counts what happened to each product that was shown for a query, and where it was clicked.

    Both results hold integers only, so that every engine gives the same. An impression whose click is missing says
    nothing about clicks: it makes its pair known, but adds nothing to the counts.

    Args:
        rows: Training impressions: `query_idx`, `product_idx`, `position`, and the columns of `tasks`.
        tasks: The tasks whose columns the rows have.

    Returns:
        `impressions`, `clicks` and `transactions` of each pair; and `clicks` of each pair and position with any.
    """
    click = rows.click if "click" in tasks else ibis.null("int8")
    purchase = rows.purchase.fill_null(0) if "purchase" in tasks else ibis.literal(0, "int8")
    known = rows.select("query_idx", "product_idx", "position", click=click, purchase=purchase)
    counts = known.group_by("query_idx", "product_idx").aggregate(
        impressions=known.click.notnull().sum().cast("int64"),
        clicks=known.click.fill_null(0).sum().cast("int64"),
        transactions=known.click.isnull().ifelse(0, known.purchase).sum().cast("int64"),
    )
    clicked = known.filter(known.click == 1)
    return counts, clicked.group_by("query_idx", "product_idx", "position").aggregate(clicks=clicked.count())


@dataclass(frozen=True)
class PairTable:
    """The pairs of the training rows, ascending by query and product.

    Attributes:
        query_idx: The query of each pair.
        product_idx: The product of each pair.
        impressions: How often the product was shown for the query with a known click label.
        clicks: How often it was clicked there.
        transactions: How often it was bought there.
        click_offsets: Pair i was clicked at the entries from `click_offsets[i]` up to `click_offsets[i + 1]`.
        click_position: Position of each entry, ascending within a pair.
        click_count: Clicks of each entry.
    """

    query_idx: Int32[np.ndarray, " pairs"]
    product_idx: Int32[np.ndarray, " pairs"]
    impressions: Int64[np.ndarray, " pairs"]
    clicks: Int64[np.ndarray, " pairs"]
    transactions: Int64[np.ndarray, " pairs"]
    click_offsets: Int64[np.ndarray, " pairs_plus_1"]
    click_position: Int32[np.ndarray, " entries"]
    click_count: Int64[np.ndarray, " entries"]

    def __post_init__(self) -> None:
        keys = pack(self.query_idx, self.product_idx)
        assert (keys[1:] > keys[:-1]).all(), "pairs must ascend and be unique"
        assert len(self.click_offsets) == len(keys) + 1, "every pair needs its entries of clicks"
        assert np.array_equal(_sums(self.click_count, self.click_offsets), self.clicks), "clicks must have positions"

    def __len__(self) -> int:
        return len(self.query_idx)

    @classmethod
    def from_arrow(cls, counts: pa.Table, clicked: pa.Table) -> "PairTable":
        """Puts the two results of `pair_counts` together; their order does not matter."""
        query, product = (column(counts, name, np.int32) for name in ("query_idx", "product_idx"))
        order = np.lexsort((product, query))
        at_query, at_product, position = (
            column(clicked, name, np.int32) for name in ("query_idx", "product_idx", "position")
        )
        click_order = np.lexsort((position, at_product, at_query))
        keys = pack(query[order], product[order])
        entries = pack(at_query[click_order], at_product[click_order])
        return cls(
            query_idx=query[order],
            product_idx=product[order],
            impressions=column(counts, "impressions", np.int64)[order],
            clicks=column(counts, "clicks", np.int64)[order],
            transactions=column(counts, "transactions", np.int64)[order],
            click_offsets=np.append(np.searchsorted(entries, keys), len(entries)).astype(np.int64),
            click_position=position[click_order],
            click_count=column(clicked, "clicks", np.int64)[click_order],
        )

    def weighted_clicks(self, position_weight: str) -> Float64[np.ndarray, " pairs"]:
        """Clicks, each counted by its position, and more where they led to purchases.

        Paper: Sec. 3.5, steps 1 to 4: clicks x position weight x (1 + transactions / clicks).
        Unstated: "across all positions" is each click's own weight, summed; a pair without clicks has 0.

        Args:
            position_weight: A key of `POSITION_WEIGHTS`.

        Returns:
            The weighted clicks, before the division by impressions.

        Example:
            Two clicks at position 1 (weight 1 each) and one purchase: 2 x (1 + 1/2).

            >>> pair = {"query_idx": [0], "product_idx": [0]}
            >>> counts = pa.table(pair | {"impressions": [4], "clicks": [2], "transactions": [1]})
            >>> clicked = pa.table(pair | {"position": [1], "clicks": [2]})
            >>> PairTable.from_arrow(counts, clicked).weighted_clicks("decay")
            array([3.])
        """
        weights = POSITION_WEIGHTS[position_weight](self.click_position.astype(np.float64))
        summed = _sums(self.click_count * weights, self.click_offsets)
        return summed * (1 + self.transactions / np.maximum(self.clicks, 1))


def weighted_ctr(
    weighted_clicks: Float64[np.ndarray, " pairs"], impressions: Int64[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """Weighted clicks per impression (Paper: Sec. 3.5, step 5); NaN without impressions."""
    return np.divide(weighted_clicks, impressions, out=np.full(len(impressions), np.nan), where=impressions > 0)


def min_max(
    values: Float64[np.ndarray, " pairs"], query_idx: Int[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """Stretches the values of each query over 0 to 1 (Paper: Sec. 3.5, step 7, "normalized").

    Unstated: min-max within the query. Where a query's values are all the same, they tell nothing apart and become
    0.5; NaN stays NaN and is no part of the range.

    Args:
        values: One value per pair.
        query_idx: The pairs' queries, ascending.

    Returns:
        The stretched values.

    Example:
        >>> min_max(np.array([2.0, 6.0, 4.0, 9.0]), np.array([0, 0, 0, 1]))
        array([0. , 1. , 0.5, 0.5])
    """
    if not len(values):
        return values
    starts = group_starts(query_idx)
    sizes = np.diff(np.append(starts, len(values)))
    low, high = (np.repeat(end.reduceat(values, starts), sizes) for end in (np.fmin, np.fmax))
    # Numerics: 3 clicks on 3 impressions and 1 on 1 are the same rate, but may differ in their last bit.
    differ = high - low > ROUNDING * np.maximum(np.abs(high), np.abs(low))
    flat = np.where(np.isnan(values), np.nan, 0.5)
    return np.divide(values - low, high - low, out=flat, where=differ)


def pack(query_idx: Int[np.ndarray, " rows"], product_idx: Int[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """One integer per pair that orders as (query, product) does."""
    return (query_idx.astype(np.int64) << 32) | product_idx.astype(np.int64)


def group_starts(sorted_keys: Int[np.ndarray, " rows"]) -> Int64[np.ndarray, " groups"]:
    """Where each run of equal keys begins."""
    if not len(sorted_keys):
        return np.empty(0, dtype=np.int64)
    return np.append(0, np.flatnonzero(sorted_keys[1:] != sorted_keys[:-1]) + 1).astype(np.int64)


def column(table: pa.Table, name: str, dtype: type[np.generic]) -> np.ndarray:
    """A column without nulls as a NumPy array."""
    return table[name].combine_chunks().to_numpy(zero_copy_only=False).astype(dtype)


def _sums(values: np.ndarray, offsets: Int64[np.ndarray, " pairs_plus_1"]) -> np.ndarray:
    # `add.reduceat` gives an empty group its next value, and a difference of cumulative sums would round.
    filled = np.diff(offsets) > 0
    sums = np.zeros(len(filled), dtype=values.dtype)
    if filled.any():
        sums[filled] = np.add.reduceat(values, offsets[:-1][filled])
    return sums
