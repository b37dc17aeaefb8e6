"""Whatever is unknown is scored by what is right on average over what is known, by networks and by trees.

In the planted shop no training row has an unknown value.
"""

import functools
from dataclasses import replace

import numpy as np
import pytest

from planted_shop import MAKER_RATES, planted
from shelfrank.config import TaskWeights
from shelfrank.data.prepared import Split
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.base import Problem, Ranker
from shelfrank.rankers.run import resolve_experiment

TRAIN, VALID, TEST = planted(2_000, seed=0), planted(300, seed=1, name="valid"), planted(300, seed=2, name="test")
MAKER, SEGMENT, DEVICE = range(3)
PRICE, PRICE_MISSING, AGE, AGE_MISSING = range(4)
NETWORK = (
    *("train.threads=1", "train.precision=fp32", "train.epochs=6", "train.batch_size=512", "train.learning_rate=0.01"),
    *("neural.d_embedding=8", "neural.mmoe.expert_layers=[16]", "neural.tower_layers=[8]"),
    *("neural.dcn_v2.deep_layers=[16]", "neural.ft_transformer.n_heads=2", "neural.ft_transformer.n_blocks=1"),
    *("neural.tabnet.d_decision=8", "neural.tabnet.d_attention=8"),
)
SETTINGS = {
    "mmoe": (),
    "mmoe_dcn_v2": (),
    "ft_transformer": ("neural.bottom=ft_transformer", "train.batch_size=256", "train.learning_rate=0.003"),
    "tabnet": ("neural.bottom=tabnet",),
    "xgboost": (),
    "lambdamart": (),
}
PROBABILITIES = [name for name in SETTINGS if name != "lambdamart"]
"""LambdaMART learns from the pages with a click alone, whose click rates are other ones."""


@functools.cache
def fitted(name: str, *assignments: str) -> Ranker:
    known = name if name in ("mmoe", "mmoe_dcn_v2", "xgboost", "lambdamart") else "mmoe"
    config = resolve_experiment(known, None, [*NETWORK, *SETTINGS[name], *assignments], seed=0)
    numerical, categorical = TRAIN.rows.numerical_columns, TRAIN.rows.categorical_columns
    names = tuple(column.name for column in (*numerical, *categorical))
    sizes = tuple(column.size for column in categorical)
    ranker = ranker_spec(known).build(
        Problem(config, ("click",), TaskWeights(("click",)), names, len(numerical), sizes)
    )
    ranker.fit(TRAIN.rows, VALID.rows)
    return ranker


def without(numerical: dict[int, float], categorical: tuple[int, ...] = ()) -> Split:
    numbers, codes = TEST.rows.numerical.copy(), TEST.rows.categorical.copy()
    for place, value in numerical.items():
        numbers[:, place] = value
    codes[:, categorical] = 0
    return replace(TEST.rows, numerical=numbers, categorical=codes)


def worst(ranker: Ranker, rows: Split, *known: int) -> float:
    """The greatest distance, over groups of rows that are alike in these categories, from the group's click rate."""
    scores = ranker.score(rows)[:, 0]
    _, group = np.unique(TEST.rows.categorical[:, known], axis=0, return_inverse=True)
    told, right = (np.bincount(group, values) / np.bincount(group) for values in (scores, TEST.rates))
    return float(np.abs(told - right).max())


@pytest.mark.parametrize("name", PROBABILITIES)
def test_a_customer_of_whom_nothing_is_known_clicks_as_all_do_on_average(name: str) -> None:
    assert worst(fitted(name), TEST.rows.neutral("anonymous"), MAKER) < 0.12
    assert worst(fitted(name), without({}, (SEGMENT,)), MAKER) < 0.12


@pytest.mark.parametrize("name", PROBABILITIES)
def test_a_product_of_a_new_maker_is_clicked_as_those_of_all_makers_on_average(name: str) -> None:
    assert worst(fitted(name), without({}, (MAKER,)), DEVICE) < 0.12
    new = without({PRICE: 0.0, PRICE_MISSING: 1.0}, (MAKER,))
    assert worst(fitted(name), new, DEVICE) < 0.12


@pytest.mark.parametrize("name", PROBABILITIES)
def test_an_unknown_device_and_a_number_missing_only_when_served_are_averages_too(name: str) -> None:
    assert worst(fitted(name), without({}, (DEVICE,)), MAKER) < 0.12
    assert worst(fitted(name), without({PRICE: 0.0, PRICE_MISSING: 1.0}), MAKER) < 0.12
    # The default lies four deviations from every value.
    assert worst(fitted(name), without({AGE: -4.0, AGE_MISSING: 1.0}), MAKER) < 0.12


@pytest.mark.parametrize("name", SETTINGS)
def test_the_order_for_nobody_follows_the_click_rates(name: str) -> None:
    scores = fitted(name).score(TEST.rows.neutral("anonymous"))[:, 0]
    maker = TEST.rows.categorical[:, MAKER] - 1
    told = np.bincount(maker, scores) / np.bincount(maker)
    right = np.bincount(maker, TEST.rates) / np.bincount(maker)
    assert np.corrcoef(told, right)[0, 1] > 0.85
    assert told[:3].min() > told[4:].max()
    assert right[:3].min() > right[4:].max()
    assert len(told) == len(MAKER_RATES)


@pytest.mark.parametrize("name", ["mmoe", "xgboost"])
def test_ordinary_predictions_hardly_change(name: str) -> None:
    plain = fitted(name, "train.hide_share=0")
    errors = [np.abs(ranker.score(TEST.rows)[:, 0] - TEST.rates).mean() for ranker in (fitted(name), plain)]
    assert errors[0] < errors[1] + 0.01
    # What the rest of this module relies on: hiding is what makes the difference. What a network without it makes of
    # unknown is chance, so more than one way of not knowing the customer counts.
    ways = (TEST.rows.neutral("anonymous"), without({}, (SEGMENT,)))
    hidden, known = (sum(worst(ranker, rows, MAKER) for rows in ways) for ranker in (fitted(name), plain))
    assert known > 1.4 * hidden
