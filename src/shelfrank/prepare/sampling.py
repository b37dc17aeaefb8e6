"""Stratified sampling of the training rows by category, popularity and outcome (Paper: Sec. 3.4).

products  training impressions of each  -> bins of equally many products within their category
bins      n = beta * |B|, n+ = alpha * n, n- = n - n+, or all there are
rows      a hashed draw for each        -> the n+ and n- smallest draws of each bin

The rows are never sorted: counting draws by range finds where the cut of each bin lies, ranking one range of each bin
finds the cut, and each row is compared with its bin's cut.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# ibis's own annotations reject its operators and column methods.

import functools
import hashlib
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
from ibis.expr.types import BooleanValue
from jaxtyping import Int64

from shelfrank.config import SamplingConfig
from shelfrank.prepare.strata import Strata, stratify, with_targets

TRAIN = 0
PRIME = 2**31 - 69
"""The largest prime below 2^31 modulo which no two numbers have the same cube: 3 does not divide `PRIME` - 1."""
FACTOR = 1_583_458_089
"""Parts the two keys of a draw; any number far from 0 and from `PRIME` would do."""
RANGE = 2**26
"""Width of the ranges in which draws are counted; there are 32."""
OWN = "sampling__"
"""Begins the names of columns that are added on the way, so that they meet none of the rows' own."""
SIDES = ("negative", "positive")


@dataclass(frozen=True)
class Sampled:
    """What the sampling decided.

    Attributes:
        rows: The given rows and columns, with the boolean `kept`.
        bins: One row per category and bin: `products`, `impressions` (|B|; pages where the unit is the search),
            `positives`, `negatives`, `asked_positive`, `asked_negative`, `taken_positive`, `taken_negative`. Bin 1
            holds the products shown least.
        strata: The bins' products.
    """

    rows: ibis.Table
    bins: pa.Table
    strata: Strata


def keys(ids: Iterable[str], seed: int, salt: str) -> Int64[np.ndarray, " ids"]:
    """Hashes ids to uniform keys from 0 to below 2^31.

    Args:
        ids: The ids.
        seed: Another seed gives other keys.
        salt: What the ids name; the same id has unrelated keys under two salts.

    Returns:
        Their keys.
    """
    mixed = hashlib.blake2b(f"{seed}:{salt}".encode(), digest_size=16).digest()
    digests = b"".join(hashlib.blake2b(each.encode(), digest_size=4, salt=mixed).digest() for each in ids)
    return np.frombuffer(digests, dtype="<u4").astype(np.int64) >> 1


def sample(rows: ibis.Table, products: ibis.Table, config: SamplingConfig, tasks: Sequence[str]) -> Sampled:
    """Decides which training rows are kept (Paper: Sec. 3.4); rows of other splits always are.

    A row is positive where any task's label is 1. Where the unit is the search, a results page is kept or left as a
    whole: it is positive where any of its rows is, and belongs to the bin of its first positive product by position,
    or of its first product where none is positive. Which units of a bin are taken depends on their keys alone, neither
    on the order of the rows nor on the engine.

    Args:
        rows: `search_idx`, `product_idx`, `position`, `split` (0 = training), `search_key`, the labels, and any other
            columns. No product stands twice in a search.
        products: `product_idx`, `category` (null is a category of its own) and `product_key`, for every product of
            the training rows.
        config: How many rows are asked for. Its seed counts through the keys.
        tasks: The tasks that count.

    Returns:
        The bins, and the rows, which are not computed yet. The bins and the cuts take three passes over the narrow
        columns; the rows take one more and a join with the products that were shown.
    """
    impressions = rows.mutate(**{f"{OWN}positive": _is_positive(rows, tasks)})
    trained = impressions.filter(impressions.split == TRAIN)
    shown = _count(trained)
    shown = shown.inner_join(products.select("product_idx", "category", "product_key"), "product_idx").to_pyarrow()
    strata = stratify(shown, config.n_bins)
    by_search = config.unit == "search"
    units = _pages(trained) if by_search else trained
    bins = with_targets(strata, _count(units).to_pyarrow() if by_search else shown, config)
    cuts = _find_cuts(units, strata, bins)
    if by_search:
        pages = _draw(units, _per_product(strata, cuts))
        pages = pages.select("search_idx", **{f"{OWN}kept": _within_cut(pages)})
        decided = rows.left_join(pages, "search_idx")
        within = decided[f"{OWN}kept"]
    else:
        decided = _draw(impressions, _per_product(strata, cuts))
        within = _within_cut(decided)
    kept = (decided.split != TRAIN) | within.fill_null(False)
    return Sampled(decided.select(*rows.columns, kept=kept), bins, strata)


def _is_positive(rows: ibis.Table, tasks: Sequence[str]) -> BooleanValue:
    return functools.reduce(operator.or_, [(rows[task] == 1).fill_null(False) for task in tasks])


def _pages(trained: ibis.Table) -> ibis.Table:
    """One row per search: the product that it counts for, and whether any of its rows is positive."""
    # A smallest number instead of a first row by position, which would sort every page. Position and product take 31
    # bits each; bit 62 puts every negative row behind every positive one.
    place = trained.position.cast("int64") * 2**31 + trained.product_idx
    place = place + trained[f"{OWN}positive"].ifelse(0, 2**62)
    pages = trained.group_by("search_idx").agg(search_key=trained.search_key.min(), place=place.min())
    return pages.select(
        "search_idx",
        "search_key",
        product_idx=pages.place % 2**31,
        **{f"{OWN}positive": pages.place < 2**62},
    )


def _count(units: ibis.Table) -> ibis.Table:
    return units.group_by("product_idx").agg(
        impressions=units.count(), positives=units[f"{OWN}positive"].cast("int64").sum()
    )


def _draw(units: ibis.Table, by_product: pa.Table) -> ibis.Table:
    """Adds the columns of each unit's product, and its draw: uniform from 0 to below `PRIME`, fixed by its keys."""
    drawn = units.left_join(ibis.memtable(by_product), [("product_idx", f"{OWN}product_idx")])
    # Numerics: all factors are below 2^31, so that no sum or product reaches 2^63, where engines differ.
    drawn = drawn.mutate(**{f"{OWN}draw": _cube(drawn.search_key) * FACTOR + drawn[f"{OWN}product_key"]})
    drawn = drawn.mutate(**{f"{OWN}draw": drawn[f"{OWN}draw"] % PRIME})
    return drawn.mutate(**{f"{OWN}draw": _cube(drawn[f"{OWN}draw"])})


def _cube(value: ibis.expr.types.IntegerValue) -> ibis.expr.types.IntegerValue:
    return value * value % PRIME * value % PRIME


@dataclass(frozen=True)
class Cuts:
    """The last unit taken of every side of every stratum: row 2 * stratum + side, side 1 being the positive one."""

    draw: Int64[np.ndarray, " sides"]
    search_idx: Int64[np.ndarray, " sides"]
    product_idx: Int64[np.ndarray, " sides"]


def _find_cuts(units: ibis.Table, strata: Strata, bins: pa.Table) -> Cuts:
    supply, taken = (
        np.stack([bins[name].to_numpy() for name in names], axis=1).ravel()
        for names in (("negatives", "positives"), ("taken_negative", "taken_positive"))
    )
    # A draw below all others takes none, one above all others takes everything.
    cuts = Cuts(np.where(taken > 0, PRIME, -1), np.zeros_like(taken), np.zeros_like(taken))
    if not np.any((taken > 0) & (taken < supply)):
        return cuts
    by_product = pa.table(
        {
            f"{OWN}product_idx": strata.product_idx,
            f"{OWN}product_key": strata.product_key,
            f"{OWN}side": 2 * strata.stratum,
        }
    )
    drawn = _draw(units, by_product)
    draw = drawn[f"{OWN}draw"]
    drawn = drawn.select(
        "search_idx",
        "product_idx",
        side=drawn[f"{OWN}side"] + drawn[f"{OWN}positive"].cast("int64"),
        draw=draw,
        start=draw - draw % RANGE,
    )
    ranges = drawn.group_by("side", "start").agg(n=drawn.count()).to_pyarrow()
    last = _last_units(drawn, _cut_ranges(ranges, supply, taken)).to_pyarrow()
    side = last["side"].to_numpy()
    for name in ("draw", "search_idx", "product_idx"):
        getattr(cuts, name)[side] = last[name].to_numpy()
    return cuts


def _cut_ranges(ranges: pa.Table, supply: Int64[np.ndarray, " sides"], taken: Int64[np.ndarray, " sides"]) -> pa.Table:
    """The range that holds each cut, and the place of the cut within it, from 0."""
    ranges = ranges.sort_by([("side", "ascending"), ("start", "ascending")])
    side, n = ranges["side"].to_numpy(), ranges["n"].to_numpy()
    before = np.cumsum(n) - n - (np.cumsum(supply) - supply)[side]
    wanted = taken[side]
    holds = (before < wanted) & (wanted <= before + n) & (wanted < supply[side])
    return pa.table(
        {"side": side[holds], "start": ranges["start"].to_numpy()[holds], "place": (wanted - before)[holds] - 1}
    )


def _last_units(drawn: ibis.Table, cut_ranges: pa.Table) -> ibis.Table:
    near = drawn.inner_join(ibis.memtable(cut_ranges), ["side", "start"])
    place = ibis.row_number().over(group_by=near.side, order_by=[near.draw, near.search_idx, near.product_idx])
    near = near.mutate(own_place=place)
    return near.filter(near.own_place == near.place).select("side", "draw", "search_idx", "product_idx")


def _per_product(strata: Strata, cuts: Cuts) -> pa.Table:
    columns = {f"{OWN}product_idx": strata.product_idx, f"{OWN}product_key": strata.product_key}
    for index, side in enumerate(SIDES):
        for name in ("draw", "search_idx", "product_idx"):
            columns[f"{OWN}{side}_{name}"] = getattr(cuts, name)[2 * strata.stratum + index]
    return pa.table(columns)


def _within_cut(drawn: ibis.Table) -> BooleanValue:
    """Whether a unit is its side's last or comes before it, by draw, search and product."""
    positive = drawn[f"{OWN}positive"]
    draw, search_idx, product_idx = (
        positive.ifelse(drawn[f"{OWN}positive_{name}"], drawn[f"{OWN}negative_{name}"])
        for name in ("draw", "search_idx", "product_idx")
    )
    tied = (drawn.search_idx < search_idx) | ((drawn.search_idx == search_idx) & (drawn.product_idx <= product_idx))
    return (drawn[f"{OWN}draw"] < draw) | ((drawn[f"{OWN}draw"] == draw) & tied)
