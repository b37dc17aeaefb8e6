import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from metric_cases import no_pages, page, simulated

from shelfrank.core.errors import UserError
from shelfrank.metrics import bootstrap
from shelfrank.metrics.auc import auc_roc
from shelfrank.metrics.bootstrap import (
    bootstrap_auc,
    bootstrap_auc_difference,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_mean_auc,
)
from shelfrank.metrics.interval import Interval, wilson_bounds


def many_values(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


def few_values(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice([0.0, 1 / 3, 0.5, 1.0], size=n)


# Many distinct values are resampled search by search, few by their counts; both must be the same bootstrap.
both_kinds = pytest.mark.parametrize("values", [many_values, few_values])
Values = Callable[[np.random.Generator, int], np.ndarray]


@both_kinds
def test_covers_the_true_mean_as_often_as_it_says(values: Values) -> None:
    rng = np.random.default_rng(10)
    true_mean = 0.0 if values is many_values else 11 / 24
    covered = [
        interval.low <= true_mean <= interval.high
        for seed in range(400)
        for interval in [bootstrap_mean(values(rng, 100), 200, seed=seed, confidence=0.9)]
    ]
    # 0.9 +- 0.0375 is two and a half standard deviations of 400 trials.
    assert 0.8625 <= np.mean(covered) <= 0.9375


@both_kinds
def test_interval_is_as_wide_as_the_standard_error_says(values: Values) -> None:
    sample = values(np.random.default_rng(11), 2000)
    interval = bootstrap_mean(sample, 4000, seed=0)
    assert interval.value == pytest.approx(sample.mean())
    assert interval.n == 2000
    expected = 2 * 1.96 * sample.std() / math.sqrt(2000)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.06)


def test_resamples_of_few_values_have_the_spread_of_drawn_searches() -> None:
    sample = few_values(np.random.default_rng(12), 60)
    by_count = bootstrap_mean(sample, 20_000, seed=0)
    # A millionth between the values makes all of them distinct and moves no figure that is compared.
    by_search = bootstrap_mean(sample + np.linspace(0, 1e-6, 60), 20_000, seed=0)
    assert by_search != by_count
    assert by_count.low == pytest.approx(by_search.low, abs=0.01)
    assert by_count.high == pytest.approx(by_search.high, abs=0.01)


@pytest.mark.parametrize("value", [0.0, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("n", [2, 50])
def test_searches_that_agree_leave_a_doubt_that_shrinks(n: int, value: float) -> None:
    interval = bootstrap_mean(np.full(n, value), 200)
    assert interval.value == value
    assert (interval.low, interval.high) == wilson_bounds(value, n, 0.95)
    assert interval.low < interval.high


def test_one_search_that_differs_says_no_more_than_none() -> None:
    values = np.zeros(200)
    values[3] = 0.1
    interval = bootstrap_mean(values, 1000)
    # Resampling would end at 0.0015, though 3 of 200 searches may well have a 1 that was not seen.
    assert interval.low == pytest.approx(0.0, abs=1e-3)
    assert interval.high > 0.015


def test_the_fewest_searches_are_as_wide_as_chance() -> None:
    rng = np.random.default_rng(30)
    covered = [
        found.low <= 0.5 <= found.high
        for seed in range(400)
        for found in [bootstrap_mean((rng.random(8) < 0.5).astype(float), 100, seed=seed)]
    ]
    # Wilson's interval of 8 coins covers 0.93 in the long run, the percentiles of resamples 0.89 at most.
    assert np.mean(covered) > 0.9


def test_too_few_resamples_have_no_percentile() -> None:
    values = few_values(np.random.default_rng(31), 400)
    mean = bootstrap_mean(values, 2)
    assert (mean.low, mean.high) == wilson_bounds(values.mean(), 400, 0.95)
    difference = bootstrap_difference(np.ones(400), values, 2)
    assert difference.p_value == pytest.approx(2 / 3)
    assert difference.sign == 0


@both_kinds
def test_the_seed_alone_decides(values: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = values(np.random.default_rng(13), 90)
    np.random.seed(1)
    expected_next = np.random.random()
    np.random.seed(1)
    first = bootstrap_mean(sample, 50, seed=3)
    assert np.random.random() == expected_next
    assert bootstrap_mean(sample, 50, seed=3) == first
    assert bootstrap_mean(sample, 50, seed=4) != first
    monkeypatch.setattr(bootstrap, "MAX_BLOCK_DRAWS", 1)
    in_blocks = bootstrap_mean(sample, 50, seed=3)
    assert (in_blocks.low, in_blocks.high) == pytest.approx((first.low, first.high), rel=1e-12)


def test_memory_does_not_grow_with_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = many_values(np.random.default_rng(14), 2000)
    monkeypatch.setattr(bootstrap, "MAX_BLOCK_DRAWS", 1 << 14)
    tracemalloc.start()
    bootstrap_mean(sample, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All draws at once would take 16 MB, a block takes 128 kB for its draws and as much for their values.
    assert peak < 1e6


def test_searches_left_out_do_not_count() -> None:
    sample = many_values(np.random.default_rng(15), 50)
    with_gaps = np.insert(sample, [0, 10, 50], np.nan)
    assert bootstrap_mean(with_gaps, 100) == bootstrap_mean(sample, 100)


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_without_a_search_there_is_no_figure(values: list[float]) -> None:
    assert bootstrap_mean(np.array(values)).as_dict() == {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
        "n_undefined": 0,
    }
    difference = bootstrap_difference(np.array(values), np.array(values))
    assert difference.n == 0
    assert all(map(math.isnan, (difference.value, difference.low, difference.high, difference.p_value)))


def test_one_search_has_a_figure_but_no_interval() -> None:
    interval = bootstrap_mean(np.array([0.5, math.nan]))
    assert (interval.value, interval.n) == (0.5, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    difference = bootstrap_difference(np.array([0.5]), np.array([0.2]))
    assert difference.value == pytest.approx(0.3)
    assert all(map(math.isnan, (difference.low, difference.high, difference.p_value)))


@both_kinds
def test_a_ranker_differs_from_itself_by_exactly_nothing(values: Values) -> None:
    sample = values(np.random.default_rng(16), 70)
    difference = bootstrap_difference(sample, sample.copy(), 100)
    assert (difference.value, difference.p_value, difference.n_differing, difference.sign) == (0.0, 1.0, 0, 0)
    assert difference.low == -difference.high < 0


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        pytest.param([0.5, 0.5], 1 / 2, id="two of one sign: every second pair"),
        pytest.param([1.0, 0.5, -1.0], 1.0, id="three: all eight sums are as far from 0"),
        pytest.param([0.5] * 5, 2 / 32, id="five of one sign"),
        pytest.param([1.0] + [0.0] * 400, 1.0, id="one of 401 differs"),
        pytest.param([1.0, 0.25] + [0.0] * 198, 1 / 2, id="two of 200 differ"),
        pytest.param([1 / 3] * 8 + [0.0] * 100, 2 / 256, id="eight of 108 differ"),
    ],
)
def test_few_searches_that_differ_have_an_exact_p_value(differences: list[float], p_value: float) -> None:
    base = np.full(len(differences), 0.0)
    difference = bootstrap_difference(np.array(differences), base, 1000)
    assert difference.p_value == pytest.approx(p_value)
    assert difference.n_differing == np.count_nonzero(differences)
    assert (difference.low > 0) <= (p_value < 0.05)
    assert difference.low <= difference.value <= difference.high


def test_few_searches_that_differ_are_called_shown_as_rarely_as_asked() -> None:
    rng = np.random.default_rng(32)
    signs = []
    for seed in range(400):
        differences = np.zeros(150)
        differences[:6] = rng.choice([-1.0, -0.5, 0.5, 1.0], 6)
        signs.append(bootstrap_difference(differences, np.zeros(150), 200, seed=seed).sign)
    assert np.count_nonzero(signs) <= 0.05 * 400


def test_pairing_takes_out_what_both_rankers_share() -> None:
    rng = np.random.default_rng(17)
    hardness = rng.normal(size=300)
    a, b = hardness + 0.1 + rng.normal(size=300) / 20, hardness + rng.normal(size=300) / 20
    difference = bootstrap_difference(a, b, 500)
    assert difference.value == pytest.approx(a.mean() - b.mean())
    assert 0.08 < difference.low < difference.high < 0.12
    assert difference.p_value == pytest.approx(2 / 501)
    alone = bootstrap_mean(a, 500)
    assert difference.high - difference.low < (alone.high - alone.low) / 5


def test_a_search_counts_only_where_both_rankers_have_a_value() -> None:
    a = np.array([1.0, math.nan, 0.5, 0.25])
    b = np.array([0.5, 0.0, math.nan, 0.25])
    difference = bootstrap_difference(a, b, 50)
    assert (difference.n, difference.value) == (2, 0.25)
    mirrored = bootstrap_difference(b, a, 50)
    assert (mirrored.value, mirrored.low, mirrored.high) == (-0.25, -difference.high, -difference.low)


def test_equal_rankers_are_told_apart_as_rarely_as_asked() -> None:
    rng = np.random.default_rng(18)
    p_values = [
        bootstrap_difference(rng.normal(size=100), rng.normal(size=100), 199, seed=seed).p_value for seed in range(400)
    ]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.085
    assert 0.4 <= np.mean(np.array(p_values) <= 0.5) <= 0.6


def test_auc_is_resampled_by_whole_searches() -> None:
    pages = simulated(n_searches=80, seed=20)
    scores, labels, offsets, _ = pages.args()
    # A search of which some rows have a label counts as one.
    labels[[rows.stop - 1 for rows in pages.pages if rows.stop - rows.start > 2]] = -1
    rng = np.random.default_rng(9)
    aucs = []
    for _ in range(40):
        drawn = rng.integers(0, 80, size=80)
        rows = np.concatenate([np.arange(len(scores))[pages.pages[search]] for search in drawn])
        aucs.append(auc_roc(scores[rows], labels[rows]))
    interval = bootstrap_auc(scores, labels, offsets, 40, seed=9, confidence=0.8)
    assert interval.value == auc_roc(scores, labels)
    assert (interval.low, interval.high) == pytest.approx(np.quantile(aucs, [0.1, 0.9]), abs=1e-14)
    n_positive = sum(bool((labels[rows] == 1).any()) for rows in pages.pages)
    assert n_positive >= 30
    assert (interval.n, interval.n_undefined) == (n_positive, 0)


def test_auc_interval_covers_the_true_auc_as_often_as_it_says() -> None:
    # Two rows of different pages differ by the signal, 1, and by two levels and two noises: variance 4.
    true_auc = 0.5 * (1 + math.erf(1 / math.sqrt(4) / math.sqrt(2)))
    covered = []
    for seed in range(200):
        scores, labels, offsets, _ = simulated(n_searches=80, seed=1000 + seed).args()
        interval = bootstrap_auc(scores, labels, offsets, 150, seed=seed, confidence=0.9)
        covered.append(interval.low <= true_auc <= interval.high)
    assert 0.84 <= np.mean(covered) <= 0.955


def auc_of_uneven_searches(sizes: list[int], rng: np.random.Generator, n_resamples: int = 1) -> Interval:
    """AUC of searches whose positives lie all above or, one time in five, all below the negatives."""
    lies = np.where(rng.random(len(sizes)) < 0.8, 0.9, 0.1)
    scores = np.concatenate([np.repeat(lies, sizes), np.full(len(sizes), 0.5)])
    labels = np.concatenate([np.ones(sum(sizes)), np.zeros(len(sizes))]).astype(np.int8)
    offsets = np.concatenate([[0], np.cumsum([*sizes, *([1] * len(sizes))])])
    return bootstrap_auc(scores, labels, offsets, n_resamples)


def test_auc_of_searches_that_weigh_unequally_has_bounds_of_as_many_equal_ones() -> None:
    rng = np.random.default_rng(5)
    found = [auc_of_uneven_searches([40] * 4 + [1] * 16, rng) for _ in range(400)]
    assert {each.n for each in found} == {20}
    # Bounds of twenty equal searches cover it in every second of them.
    assert np.mean([each.low <= 0.8 <= each.high for each in found]) > 0.92
    expected = wilson_bounds(found[0].value, 176**2 / (4 * 1600 + 16), 0.95)
    assert (found[0].low, found[0].high) == pytest.approx(expected)
    same = auc_of_uneven_searches([3] * 20, rng)
    assert (same.low, same.high) == pytest.approx(wilson_bounds(same.value, 20, 0.95))


def test_auc_of_hardly_more_than_one_search_has_no_bounds() -> None:
    found = auc_of_uneven_searches([200] + [1] * 19, np.random.default_rng(6), n_resamples=200)
    assert found.n == 20
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_auc_leaves_searches_without_labels_out_of_the_draws() -> None:
    pages = simulated(n_searches=40, seed=21)
    scores, labels, offsets, _ = pages.args()
    labelled = bootstrap_auc(scores, labels, offsets, 60)
    more_scores, more_labels = np.concatenate([[9.0, 9.0], scores]), np.concatenate([[-1, -1], labels])
    with_gap = bootstrap_auc(more_scores, more_labels.astype(np.int8), np.concatenate([[0], offsets + 2]), 60)
    assert with_gap == labelled


def test_auc_counts_resamples_without_a_positive() -> None:
    scores, offsets = np.array([0.9, 0.1] * 9), np.arange(0, 19, 2)
    some = bootstrap_auc(scores, np.array([1, 0] * 4 + [0, 0] * 5, dtype=np.int8), offsets, 2000)
    # (5/9)^9 = 0.5 % of the draws miss the four searches with positives: less than a tail.
    assert 1 <= some.n_undefined <= 30
    # Four searches with a positive are too few to resample.
    assert some.n == 4
    assert (some.low, some.high) == wilson_bounds(some.value, 4, 0.95)
    one = bootstrap_auc(scores, np.array([1, 0] + [0, 0] * 8, dtype=np.int8), offsets, 2000)
    # (8/9)^9 = 35 % miss the only one.
    assert 600 <= one.n_undefined <= 800
    assert one.n == 1
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_auc_without_a_search_and_with_one() -> None:
    scores, labels, offsets, _ = no_pages().args()
    none = bootstrap_auc(scores, labels, offsets)
    assert none.n == 0
    assert all(map(math.isnan, (none.value, none.low, none.high)))
    scores, labels, offsets, _ = page([0.9, 0.1], [1, 0]).args()
    one = bootstrap_auc(scores, labels, offsets)
    assert (one.n, one.value) == (1, 1.0)
    assert math.isnan(one.low)
    both = bootstrap_auc_difference(scores, -scores, labels, offsets)
    assert (both.n, both.value) == (1, 1.0)
    assert math.isnan(both.p_value)


def test_auc_difference_is_exactly_nothing_for_the_same_ranker() -> None:
    scores, labels, offsets, _ = simulated(n_searches=30, seed=22).args()
    difference = bootstrap_auc_difference(scores, scores**3, labels, offsets, 50)
    assert (difference.value, difference.p_value, difference.n_differing, difference.sign) == (0.0, 1.0, 0, 0)


def test_auc_difference_uses_the_same_draws_for_both() -> None:
    pages = simulated(n_searches=100, seed=23)
    scores, labels, offsets, _ = pages.args()
    noisy = scores + np.random.default_rng(24).normal(size=len(scores))
    difference = bootstrap_auc_difference(scores, noisy, labels, offsets, 300)
    assert difference.value == pytest.approx(auc_roc(scores, labels) - auc_roc(noisy, labels))
    assert difference.n == sum(bool((labels[rows] == 1).any()) for rows in pages.pages)
    alone = bootstrap_auc(scores, labels, offsets, 300)
    other = bootstrap_auc(noisy, labels, offsets, 300)
    unpaired = math.hypot(alone.high - alone.low, other.high - other.low)
    assert difference.high - difference.low < unpaired
    mirrored = bootstrap_auc_difference(noisy, scores, labels, offsets, 300)
    assert (mirrored.low, mirrored.high) == pytest.approx((-difference.high, -difference.low))


def test_an_auc_difference_rests_on_the_searches_with_a_positive() -> None:
    rng = np.random.default_rng(33)
    offsets = np.arange(0, 601, 3)
    labels = np.zeros(600, dtype=np.int8)
    labels[[0, 3]] = 1
    base = rng.random(600)
    better = base.copy()
    better[[0, 3]] = 2.0
    # 200 searches, of which two have a positive; both favour one ranker, as every second pair would.
    difference = bootstrap_auc_difference(better, base, labels, offsets, 200)
    assert (difference.n, difference.n_differing, difference.p_value, difference.sign) == (2, 2, 0.5, 0)
    assert difference.low < 0 < difference.high
    # Turned round, few searches have a negative row, and the same is known.
    turned = bootstrap_auc_difference(-better, -base, 1 - labels, offsets, 200)
    assert (turned.n, turned.p_value) == (2, 0.5)
    assert turned.value == pytest.approx(difference.value)


@pytest.mark.usefixtures("unchecked_shapes")
def test_refuses() -> None:
    values = np.array([0.1, 0.2])
    with pytest.raises(UserError, match="n_resamples must be at least 1, not 0"):
        bootstrap_mean(values, 0)
    with pytest.raises(UserError, match="between 0 and 1, not 95"):
        bootstrap_mean(values, confidence=95.0)
    with pytest.raises(UserError, match="1 of 2 are infinite"):
        bootstrap_mean(np.array([0.1, math.inf]))
    with pytest.raises(UserError, match=r"shapes \(2,\) and \(1,\)"):
        bootstrap_difference(values, values[:1])
    with pytest.raises(UserError, match="1 of 2 are infinite"):
        bootstrap_difference(values, np.array([0.1, math.inf]))
    with pytest.raises(UserError, match="scores_b must be flat and hold the 2 rows"):
        bootstrap_auc_difference(values, values[:1], np.array([0, 1], dtype=np.int8), np.array([0, 2]))


def test_a_mean_of_rankers_aucs_lies_between_them_and_one_ranker_is_itself() -> None:
    rng = np.random.default_rng(21)
    labels = rng.integers(0, 2, 600).astype(np.int8)
    offsets = np.arange(0, 601, 10)
    better, worse = labels + rng.normal(0, 1, 600), labels + rng.normal(0, 3, 600)
    together = bootstrap_mean_auc([better, worse], labels, offsets, 200, seed=4)
    alone = [bootstrap_auc(scores, labels, offsets, 200, seed=4) for scores in (better, worse)]
    assert together.value == pytest.approx((alone[0].value + alone[1].value) / 2)
    assert together.n == 60 == sum(bool((labels[start : start + 10] == 1).any()) for start in range(0, 600, 10))
    # The mean of two noisy figures is no more uncertain than their mean uncertainty.
    assert together.high - together.low < sum(each.high - each.low for each in alone) / 2
    assert bootstrap_mean_auc([better], labels, offsets, 200, seed=4) == alone[0]
