"""What sampling adds to the log-odds of training rows."""

import ibis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_oracle import TASKS, random_rows
from test_sampling import inputs

from shelfrank.config import SamplingConfig
from shelfrank.prepare.sampling import sample
from shelfrank.prepare.sampling_offsets import SMOOTHING, mean_offsets, sampling_offsets
from shelfrank.prepare.strata import Strata, stratify


def two_bins() -> Strata:
    """Product 0 alone in its category, product 1 in another, product 2 never shown."""
    columns = {"product_idx": [0, 1], "product_key": [5, 6], "category": ["a", "b"], "impressions": [10, 10]}
    return stratify(ibis.memtable(columns).to_pyarrow(), n_bins=1)


def test_the_offset_is_the_log_of_the_ratio_of_two_rates() -> None:
    # Product 0: 2 of 2 rows with a click kept, 2 of 8 without. Product 1: 1 of 1 and 9 of 9.
    product_idx = np.repeat([0, 1], 10)
    click = np.array([1] * 2 + [0] * 8 + [1] + [0] * 9, np.int8)
    kept = np.array([True] * 4 + [False] * 6 + [True] * 10)
    found = sampling_offsets(two_bins(), product_idx, [click], kept, n_products=3)
    without = 11 / 17
    first = np.log((2 + SMOOTHING) / (2 + SMOOTHING) / ((2 + SMOOTHING * without) / (8 + SMOOTHING)))
    second = np.log(1 / ((9 + SMOOTHING * without) / (9 + SMOOTHING)))
    assert found[:, 0] == pytest.approx([first, second, 0.0])
    assert mean_offsets(found, product_idx[kept], ["click"]) == {
        "click": pytest.approx((4 * first + 10 * second) / 14, abs=1e-4)
    }


def test_a_missing_label_counts_on_neither_side() -> None:
    product_idx, kept = np.repeat([0, 1], 10), np.array([True] * 5 + [False] * 5 + [True] * 10)
    known = np.array([1, 0] * 10, np.int8)
    found = sampling_offsets(two_bins(), product_idx, [known], kept, 3)
    more = np.r_[product_idx, product_idx], [np.r_[known, np.full(20, -1, np.int8)]], np.r_[kept, ~kept]
    assert found.tolist() == sampling_offsets(two_bins(), *more, 3).tolist()


@pytest.mark.parametrize("label", [0, 1, -1])
def test_a_task_whose_labels_are_all_alike_has_none(label: int) -> None:
    labels = [np.full(20, label, np.int8)]
    assert not sampling_offsets(two_bins(), np.repeat([0, 1], 10), labels, np.arange(20) < 9, 3).any()


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.1, 0.5]),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.sampled_from(["impression", "search"]),
)
def test_offsets_are_those_of_plain_loops(seed: int, beta: float, alpha: float, unit: str) -> None:
    rows, products = random_rows(seed, 40, 12, 0.5)
    config = SamplingConfig(alpha=alpha, beta=beta, n_bins=3, unit=unit)  # pyright: ignore[reportArgumentType]
    row_table, product_table = inputs(rows, products)
    result = sample(ibis.memtable(row_table), ibis.memtable(product_table), config, TASKS)
    trained = [row for row in result.rows.to_pyarrow().to_pylist() if row["split"] == 0]
    labels = [np.array([-1 if row[task] is None else row[task] for row in trained], np.int8) for task in TASKS]
    product_idx, kept = (np.array([row[name] for row in trained]) for name in ("product_idx", "kept"))
    found = sampling_offsets(result.strata, product_idx, labels, kept.astype(bool), len(products))
    bin_of = dict(zip(result.strata.product_idx.tolist(), result.strata.stratum.tolist(), strict=True))
    for row in trained:
        for task, offset in zip(TASKS, found[row["product_idx"]].tolist(), strict=True):
            rates = []
            for side in (1, 0):
                of_side = [each for each in trained if each[task] == side]
                in_bin = [each for each in of_side if bin_of[each["product_idx"]] == bin_of[row["product_idx"]]]
                n_kept = sum(each["kept"] for each in of_side)
                if n_kept:
                    overall = n_kept / len(of_side)
                    rates.append((sum(each["kept"] for each in in_bin) + overall) / (len(in_bin) + 1))
            assert offset == pytest.approx(np.log(rates[0] / rates[1]) if len(rates) == 2 else 0.0, abs=1e-6)
