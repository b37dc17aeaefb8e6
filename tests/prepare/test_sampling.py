import doctest
import json
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_oracle import TASKS, Rows, half_up, key, oracle, random_rows

from shelfrank.config import SamplingConfig
from shelfrank.prepare import sampling, strata
from shelfrank.prepare.sampling import keys, sample
from shelfrank.prepare.sampling_info import sampling_info, sampling_lines
from shelfrank.prepare.strata import portions

TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(("search_idx", "product_idx", "position"), pa.int32()),
    **dict.fromkeys(("split", *TASKS), pa.int8()),
    **dict.fromkeys(("search_key", "product_key"), pa.int64()),
    "category": pa.string(),
    "extra": pa.float64(),
}
OFFSETS = {"click": 1.5, "purchase": -0.25}
configs = st.builds(
    SamplingConfig,
    alpha=st.sampled_from([0.1, 0.3, 0.5, 0.65, 0.9]),
    beta=st.sampled_from([0.05, 0.3, 0.5, 0.7, 1.0]),
    n_bins=st.integers(1, 5),
    unit=st.sampled_from(["impression", "search"]),
)
random_cases = st.builds(
    random_rows, st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.5, 1.0])
)


def as_table(rows: Rows, columns: list[str]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], TYPES[name]) for name in columns})


def inputs(rows: Rows, products: Rows) -> tuple[pa.Table, pa.Table]:
    row_columns = ["search_idx", "extra", "product_idx", "position", "split", "search_key", *TASKS]
    return as_table(rows, row_columns), as_table(products, ["product_idx", "category", "product_key"])


def sampled(rows: Rows, products: Rows, config: SamplingConfig) -> tuple[Rows, pa.Table]:
    row_table, product_table = inputs(rows, products)
    result = sample(ibis.memtable(row_table), ibis.memtable(product_table), config, TASKS)
    return result.rows.to_pyarrow().to_pylist(), result.bins


def kept_of(rows: Rows) -> list[tuple[int, int]]:
    return sorted((row["search_idx"], row["product_idx"]) for row in rows if row["kept"])


def log(*shown: tuple[int, int, int, int | None], split: int = 0) -> Rows:
    """Rows of (search, product, position, click); nothing is bought."""
    return [
        {"search_idx": s, "product_idx": p, "position": position, "click": click, "purchase": None}
        | {"split": split, "search_key": key(f"s{s}", 0, "search"), "extra": 0.5}
        for s, p, position, click in shown
    ]


def catalogue(*categories: str | None) -> Rows:
    return [
        {"product_idx": p, "category": category, "product_key": key(f"p{p}", 0, "product")}
        for p, category in enumerate(categories)
    ]


@settings(max_examples=20, deadline=None)
@given(random_cases, configs)
def test_rows_and_bins_are_those_of_the_plain_loops(case: tuple[Rows, Rows], config: SamplingConfig) -> None:
    rows, products = case
    found, bins = sampled(rows, products, config)
    kept, expected_bins = oracle(rows, products, config)
    assert kept_of(found) == sorted(kept)
    assert bins.to_pylist() == expected_bins
    # Every row and column passes through, none twice.
    unmarked = [{name: value for name, value in row.items() if name != "kept"} for row in found]
    assert sorted(map(repr, unmarked)) == sorted(repr({name: row[name] for name in unmarked[0]}) for row in rows)


@settings(max_examples=6, deadline=None)
@given(random_cases, configs, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(case: tuple[Rows, Rows], config: SamplingConfig, random: Any) -> None:
    rows, products = case
    mixed_rows, mixed_products = rows.copy(), products.copy()
    random.shuffle(mixed_rows)
    random.shuffle(mixed_products)
    found, bins = sampled(rows, products, config)
    again, bins_again = sampled(mixed_rows, mixed_products, config)
    assert kept_of(found) == kept_of(again)
    assert bins.equals(bins_again)


@settings(max_examples=6, deadline=None)
@given(random_cases, configs)
def test_rows_outside_the_training_split_change_nothing_and_are_kept(
    case: tuple[Rows, Rows], config: SamplingConfig
) -> None:
    rows, products = case
    found, bins = sampled(rows, products, config)
    assert all(row["kept"] for row in found if row["split"] != 0)
    trained = [row for row in rows if row["split"] == 0]
    alone, bins_alone = sampled(trained, products, config)
    assert kept_of(alone) == kept_of([row for row in found if row["split"] == 0])
    assert bins.equals(bins_alone)


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        ({"click": 1, "purchase": 0}, True),
        ({"click": 0, "purchase": 1}, True),
        ({"click": None, "purchase": 1}, True),
        ({"click": 0, "purchase": 0}, False),
        ({"click": None, "purchase": 0}, False),
        ({"click": None, "purchase": None}, False),
    ],
    ids=["clicked", "bought", "only_buying_known", "neither", "half_known", "unknown"],
)
def test_what_counts_as_positive(labels: dict[str, int | None], positive: bool) -> None:
    rows = [row | labels for row in log((0, 0, 1, None))]
    _, bins = sampled(rows, catalogue("a"), SamplingConfig())
    assert bins["positives"].to_pylist() == [int(positive)]
    assert bins["negatives"].to_pylist() == [int(not positive)]


def test_all_there_are_are_taken_where_a_side_is_short() -> None:
    # 10 rows, 1 positive: n = 8, n+ = n- = 4; the one positive is taken, and no negative stands in for the other three.
    rows = log(*((s, 0, 1, int(s == 3)) for s in range(10)))
    found, bins = sampled(rows, catalogue("a"), SamplingConfig(alpha=0.5, beta=0.8))
    assert (3, 0) in kept_of(found)
    assert len(kept_of(found)) == 5
    info = sampling_info(bins, SamplingConfig(alpha=0.5, beta=0.8), OFFSETS)
    assert (info["totals"]["short_positive"], info["totals"]["short_negative"]) == (3, 0)


def test_bins_hold_equally_many_products_by_impressions_within_a_category() -> None:
    # a: products 0 to 4 are shown 1, 4, 2, 4, 3 times: ranked 0, 2, 4, 1, 3; ranks 0 to 2 in bin 1, 3 and 4 in bin 2.
    shown = {0: 1, 1: 4, 2: 2, 3: 4, 4: 3, 5: 9}
    rows = log(*((s, p, 1 + p, 0) for p, n in shown.items() for s in range(n)))
    _, bins = sampled(rows, catalogue(*"aaaaa", None, "never shown"), SamplingConfig(n_bins=2))
    told = [tuple(row[name] for name in ("category", "bin", "products", "impressions")) for row in bins.to_pylist()]
    assert told == [("a", 1, 3, 6), ("a", 2, 2, 8), (None, 1, 1, 9)]


@pytest.mark.parametrize("n_products", [1, 3, 10, 11, 25, 99])
def test_bins_differ_by_one_product_at_most(n_products: int) -> None:
    rows = log(*((p, p, 1, 0) for p in range(n_products)))
    _, bins = sampled(rows, catalogue(*["a"] * n_products), SamplingConfig(n_bins=10))
    sizes = bins["products"].to_pylist()
    assert len(sizes) == min(10, n_products)
    assert max(sizes) - min(sizes) <= 1


def test_a_search_is_kept_or_left_as_a_whole() -> None:
    rows, products = random_rows(seed=3, n_searches=120)
    found, bins = sampled(rows, products, SamplingConfig(unit="search", beta=0.4))
    by_search: dict[int, set[bool]] = {}
    for row in found:
        by_search.setdefault(row["search_idx"], set()).add(row["kept"])
    assert all(len(states) == 1 for states in by_search.values())
    trained = {row["search_idx"] for row in rows if row["split"] == 0}
    kept = sum(by_search[search] == {True} for search in trained)
    assert kept == sum(bins["taken_positive"].to_pylist()) + sum(bins["taken_negative"].to_pylist())
    assert 0 < kept < len(trained)


def test_a_page_counts_for_its_first_positive_product() -> None:
    # Shown as 1, 0, 2. Page 0: nothing clicked, counts for 1. Page 1: 0 and 2 clicked, counts for 0.
    shown = [(s, p, position, int(s == 1 and p != 1)) for s in (0, 1) for position, p in enumerate((1, 0, 2), start=1)]
    _, bins = sampled(log(*shown), catalogue("a", "b", "c"), SamplingConfig(unit="search"))
    assert bins["positives"].to_pylist() == [1, 0, 0]
    assert bins["negatives"].to_pylist() == [0, 1, 0]


def test_another_seed_takes_other_rows() -> None:
    rows, products = random_rows(seed=5, n_searches=200)
    first = sampled(rows, products, SamplingConfig())[0]
    for row in rows:
        row["search_key"] = key(f"s{row['search_idx']}", 1, "search")
    second = sampled(rows, products, SamplingConfig())[0]
    assert kept_of(first) != kept_of(second)


def test_a_larger_sample_contains_a_smaller_one() -> None:
    rows, products = random_rows(seed=6, n_searches=200)
    small, large = (set(kept_of(sampled(rows, products, SamplingConfig(beta=beta))[0])) for beta in (0.3, 0.6))
    assert small < large


def test_draws_do_not_favour_a_product_or_a_search() -> None:
    # 200 products on each of 200 pages, all in one bin: each must keep about half of its rows (4 sigma = 28).
    n = 200
    search, product = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    search_keys, product_keys = keys(map(str, range(n)), 0, "search"), keys(map(str, range(n)), 0, "product")
    table = pa.table(
        {"search_idx": search, "product_idx": product, "position": product + 1, "search_key": search_keys[search]}
        | {"split": np.zeros(n * n, np.int8), "click": (search + product) % 2}
    )
    products = pa.table({"product_idx": np.arange(n), "category": ["a"] * n, "product_key": product_keys})
    result = sample(ibis.memtable(table), ibis.memtable(products), SamplingConfig(n_bins=1), ["click"])
    kept = result.rows.filter(result.rows.kept).to_pyarrow()
    assert kept.num_rows == n * n // 2
    grid = np.zeros((n, n))
    grid[kept["search_idx"].to_numpy(), kept["product_idx"].to_numpy()] = 1
    for axis in (0, 1):
        assert abs(grid.sum(axis=axis) - n / 2).max() < 30
    # What one page keeps says nothing about the next: 4 sigma of the mean of 39,800 pairs is 0.01.
    assert abs((grid[1:] == grid[:-1]).mean() - 0.5) < 0.012


def test_cuts_beyond_one_range_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, products = random_rows(seed=8, n_searches=150)
    expected = kept_of(sampled(rows, products, SamplingConfig())[0])
    for width in (2**31, 2**20, 1):
        monkeypatch.setattr(sampling, "RANGE", width)
        assert kept_of(sampled(rows, products, SamplingConfig())[0]) == expected


def test_equal_draws_are_told_apart_by_search_and_product() -> None:
    # All keys equal, and so all draws: the first rows by search and product are taken.
    rows = [row | {"search_key": 7} for row in log(*((s, p, p + 1, 0) for s in range(3) for p in range(4)))]
    products = [product | {"product_key": 9} for product in catalogue(*"aaaa")]
    found, _ = sampled(rows, products, SamplingConfig(n_bins=1, alpha=0.5, beta=1.0))
    assert kept_of(found) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]


def test_columns_of_the_rows_keep_their_names_and_order() -> None:
    rows, products = (ibis.memtable(table) for table in inputs(*random_rows(seed=1)))
    rows = rows.mutate(draw=rows.position, place=rows.position, category=rows.extra)
    for unit in ("impression", "search"):
        result = sample(rows, products, SamplingConfig(unit=unit), TASKS)
        assert result.rows.schema() == ibis.schema({**rows.schema(), "kept": "boolean"})


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=30), st.decimals("0.001", 1, places=3))
def test_portions_are_those_of_decimal_arithmetic(counts: list[int], share: Any) -> None:
    found = portions(np.array(counts), float(share)).tolist()
    assert sum(found) == half_up(share * sum(counts))
    assert all(0 <= n <= count and abs(n - share * count) < 1 for n, count in zip(found, counts, strict=True))


def test_many_small_bins_do_not_lean_to_one_side() -> None:
    asked = portions(np.ones(1000, dtype=np.int64), 0.1)
    assert (asked.sum(), portions(asked, 0.5).sum()) == (100, 50)


def test_portion_examples() -> None:
    assert not doctest.testmod(strata).failed


def test_keys_are_uniform_and_depend_on_id_seed_and_salt() -> None:
    ids = [f"id-{i}" for i in range(20_000)]
    found = keys(ids, 0, "search")
    assert found.tolist()[:50] == [key(each, 0, "search") for each in ids[:50]]
    assert found.dtype == np.int64
    assert found.min() >= 0
    assert found.max() < 2**31
    # 16 ranges of 1,250 expected: 5 sigma is 177.
    assert abs(np.bincount(found >> 27, minlength=16) - 1250).max() < 177
    for other in (keys(ids, 1, "search"), keys(ids, 0, "product"), keys(ids, 10, "search")):
        assert (found == other).mean() < 0.001
    assert keys([], 0, "search").tolist() == []


def test_info_sums_to_its_totals_and_is_plain() -> None:
    rows, products = random_rows(seed=2, n_searches=100)
    config = SamplingConfig(n_bins=3)
    _, bins = sampled(rows, products, config)
    info = sampling_info(bins, config, OFFSETS)
    assert json.loads(json.dumps(info)) == info
    for part, name in (("by_bin", "bin"), ("by_category", "category")):
        assert {each[name] for each in info[part]} == set(bins[name].to_pylist())
        for field, total in info["totals"].items():
            assert sum(each[field] for each in info[part]) == total
    assert info["totals"]["impressions"] == sum(row["split"] == 0 for row in rows)
    shortfalls = [each["short_positive"] + each["short_negative"] for each in info["by_category"]]
    assert shortfalls == sorted(shortfalls, reverse=True)


def test_lines_tell_the_kept_the_balance_and_the_shortfall() -> None:
    rows = log(*((s, s % 2, 1, int(s == 3)) for s in range(20)))
    config = SamplingConfig(alpha=0.5, beta=0.8)
    info = sampling_info(sampled(rows, catalogue("lamps", None), config)[1], config, OFFSETS)
    assert sampling_lines(info) == [
        "kept 9 of 20 training impressions (16 asked for): 1 positive, 8 negative",
        "positive before 5.0 %, after 11.1 %, asked for 50.0 %",
        "added to the log-odds of a label: +1.50 (click), -0.25 (purchase); networks and XGBoost leave it out again "
        "(train.sampling_offset)",
        "short of 7 positives, all there were being kept, in 2 of 2 bins; most in lamps (4), products without a "
        "category (3)",
    ]
    enough = SamplingConfig(alpha=0.01, beta=0.5, unit="search")
    lines = sampling_lines(sampling_info(sampled(rows, catalogue("lamps", None), enough)[1], enough, OFFSETS))
    assert lines[0].startswith("kept 10 of 20 training result pages (10 asked for): 0 positive, 10 negative")
    assert lines[-1] == "every one of 2 bins had as many result pages as were asked for"


@pytest.mark.parametrize("unit", ["impression", "search"])
def test_without_training_rows_nothing_is_asked_for(unit: Any) -> None:
    rows = log((0, 0, 1, 1), split=2)
    found, bins = sampled(rows, catalogue("a"), SamplingConfig(unit=unit))
    assert kept_of(found) == [(0, 0)]
    assert bins.num_rows == 0
    assert sampling_lines(sampling_info(bins, SamplingConfig(unit=unit), OFFSETS))[1].startswith("positive before –")


@pytest.mark.spark
@pytest.mark.filterwarnings("ignore")
def test_both_engines_keep_the_same_rows() -> None:
    pyspark = pytest.importorskip("pyspark.sql")
    session = pyspark.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = session.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    try:
        backend = ibis.pyspark.connect(session)
        rows, products = random_rows(seed=4, n_searches=150)
        for name, table in zip(("sampled_rows", "sampled_products"), inputs(rows, products), strict=True):
            backend.create_view(name, ibis.memtable(table), overwrite=True)
        for unit in ("impression", "search"):
            config = SamplingConfig(n_bins=3, unit=unit)
            on_spark = sample(backend.table("sampled_rows"), backend.table("sampled_products"), config, TASKS)
            expected, bins = sampled(rows, products, config)
            assert kept_of(on_spark.rows.to_pyarrow().to_pylist()) == kept_of(expected)
            assert on_spark.bins.equals(bins)
    finally:
        session.stop()
