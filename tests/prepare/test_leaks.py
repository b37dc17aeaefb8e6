"""Features that tell a label implausibly well by themselves are named, and honest ones are not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from random_log import SCHEMA, one_thread, random_tables, write_log
from shelfrank.cli.commands import _prepared_facts
from shelfrank.core.schema import Side
from shelfrank.data.prepared import Column, PreparedData
from shelfrank.prepare.leaks import MAX_ROWS, Suspect, find_suspects, grouped_auc, quantile_levels
from shelfrank.prepare.pipeline import prepare

N_SEARCHES, PAGE = 1_000, 10
ROWS = N_SEARCHES * PAGE
TASKS = ("click", "purchase")

Made = tuple[np.ndarray, np.ndarray | None]
"""A feature's numbers or codes, and where it is missing."""


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def labels_of(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, clicks (that the position draws) and purchases (a tenth of the clicks)."""
    position = np.tile(np.arange(1, PAGE + 1), N_SEARCHES)
    click = (random.random(ROWS) < 0.3 / position).astype(np.int8)
    return position, click, click * (random.random(ROWS) < 0.1).astype(np.int8)


def suspects_of(
    folder: Path, position: np.ndarray, labels: np.ndarray, feature: Made, page: int = PAGE
) -> list[Suspect]:
    values, missing = feature
    is_category = values.dtype.kind == "i"
    columns = [Column("x", Side.PRODUCT, 0, 0.0, 0.0), Column("x__missing", Side.PRODUCT, 0, 0.0, 0.0)]
    numbers = [] if is_category else [values, *([] if missing is None else [missing])]
    arrays = {
        "numerical": np.array(numbers, np.float32).reshape(len(numbers), -1).T
        if numbers
        else np.empty((len(values), 0), np.float32),
        "categorical": (values[:, None] if is_category else np.empty((len(values), 0))).astype(np.int32),
        "labels": labels,
        "position": position.astype(np.int32),
        "search_offsets": np.arange(0, len(values) + 1, page),
    }
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return find_suspects(
        folder, columns[: len(numbers)], [Column("x", Side.PRODUCT, 99, 0.0, 0.0)] * is_category, TASKS, ["x"]
    )


Maker = Callable[[np.random.Generator, np.ndarray, np.ndarray, np.ndarray], Made]


def flipped(random: np.random.Generator, label: np.ndarray, share: float) -> np.ndarray:
    return np.where(random.random(ROWS) < share, 1 - label, label).astype(np.float64)


def of_pages(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.reshape(-1, PAGE).max(axis=1), PAGE)


def pair_clicks(random: np.random.Generator, click: np.ndarray) -> np.ndarray:
    pairs = random.integers(0, ROWS // 2, ROWS)
    return np.bincount(pairs, click)[pairs]


LEAKS: dict[str, tuple[str, Maker]] = {
    "seconds on the product's page": (
        "click",
        lambda r, _, click, __: (np.where(click, r.exponential(30, ROWS), 0.0), (click == 0).astype(float)),
    ),
    "seconds, 0 where nobody clicked": ("click", lambda r, _, click, __: (click * r.exponential(30, ROWS), None)),
    "revenue": ("purchase", lambda r, _, __, bought: (bought * r.uniform(5, 99, ROWS), None)),
    "the label": ("purchase", lambda _, __, ___, bought: (bought.astype(float), None)),
    "the label the other way round": ("click", lambda _, __, click, ___: (1.0 - click, None)),
    "order number or missing": (
        "purchase",
        lambda r, _, __, bought: (np.where(bought, r.normal(size=ROWS), 0.0), 1.0 - bought),
    ),
    "category bought or not": ("purchase", lambda _, __, ___, bought: (1 + bought.astype(np.int32), None)),
    "stage of the order": ("click", lambda _, __, click, bought: (click.astype(np.int32) + bought, None)),
    "label with 5 % flipped": ("click", lambda r, _, click, __: (flipped(r, click, 0.05), None)),
    "label with 10 % flipped": ("click", lambda r, _, click, __: (flipped(r, click, 0.1), None)),
    "missing where nobody clicked": (
        "click",
        lambda r, _, click, __: (r.normal(size=ROWS), (of_pages(click) == 0).astype(float)),
    ),
    "value of the basket of the page": ("purchase", lambda r, _, __, bought: (of_pages(bought) * 9.5, None)),
    "clicks of the pair in the whole log": ("click", lambda r, _, click, __: (pair_clicks(r, click), None)),
    "a value in the middle": (
        "click",
        lambda r, _, click, __: (np.where(click, 5.0, r.choice([1, 3, 7, 9], ROWS)), None),
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_named(name: str, random: np.random.Generator, tmp_path: Path) -> None:
    task, make = LEAKS[name]
    position, click, bought = labels_of(random)
    (suspect,) = suspects_of(
        tmp_path / "train", position, np.stack([click, bought], 1), make(random, position, click, bought)
    )
    assert (suspect.feature, suspect.task) == ("x", task)
    assert suspect.auc >= 0.85
    assert f"by itself it tells {task} with an AUC of {suspect.auc:.3f} " in str(suspect)


def test_what_only_some_clicked_rows_have_is_named_though_its_auc_is_low(
    random: np.random.Generator, tmp_path: Path
) -> None:
    # A log that has clicks only: carts, mapped as a feature, know a tenth of the clicks for certain.
    position, click, bought = labels_of(random)
    unlabelled = np.full(ROWS, -1, np.int8)
    (suspect,) = suspects_of(
        tmp_path / "train", position, np.stack([click, unlabelled], 1), (bought.astype(float), None)
    )
    assert suspect.auc < 0.6
    assert (suspect.known, suspect.rate) == (bought.sum(), 1.0)
    assert f"100% of {bought.sum()} rows that it singles out have it" in str(suspect)


HONEST: dict[str, Maker] = {
    "noise": lambda r, *_: (r.normal(size=ROWS), None),
    "one category a search": lambda *_: (np.repeat(np.arange(N_SEARCHES, dtype=np.int32), PAGE), None),
    "many categories": lambda r, *_: (r.integers(0, ROWS // 3, ROWS).astype(np.int32), None),
    "position": lambda _, position, *__: (position.astype(float), None),
    "the engine's score": lambda r, position, *_: (1 / position + r.normal(0, 0.01, ROWS), None),
    "often missing": lambda r, *_: (r.normal(size=ROWS), (r.random(ROWS) < 0.7).astype(float)),
    "chance of a click": lambda r, position, *_: (0.3 / position * r.lognormal(0, 0.2, ROWS), None),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_feature_is_not_named(name: str, random: np.random.Generator, tmp_path: Path) -> None:
    position, click, bought = labels_of(random)
    made = HONEST[name](random, position, click, bought)
    assert suspects_of(tmp_path / "train", position, np.stack([click, bought], 1), made) == []


def test_what_tells_no_more_than_the_shown_order_is_not_named(random: np.random.Generator, tmp_path: Path) -> None:
    # Searches for one product by its name: nine of ten clicks are on top.
    position = np.tile(np.arange(1, PAGE + 1), N_SEARCHES)
    chosen = np.where(random.random(N_SEARCHES) < 0.95, 1, random.integers(1, PAGE + 1, N_SEARCHES))
    click = (position == np.repeat(chosen, PAGE)).astype(np.int8)
    labels = np.stack([click, np.full(ROWS, -1, np.int8)], 1)
    assert suspects_of(tmp_path / "a", position, labels, (1.0 / position, None)) == []
    assert suspects_of(tmp_path / "b", position, labels, (click.astype(float), None)) != []


def test_a_label_of_few_rows_is_not_judged(random: np.random.Generator, tmp_path: Path) -> None:
    click = np.zeros(ROWS, np.int8)
    click[:: ROWS // 8] = 1
    position = np.tile(np.arange(1, PAGE + 1), N_SEARCHES)
    labels = np.stack([click, click], 1)
    assert suspects_of(tmp_path / "train", position, labels, (click.astype(float), None)) == []


def test_of_many_rows_evenly_spaced_searches_are_judged(random: np.random.Generator, tmp_path: Path) -> None:
    n_rows, page = 3 * MAX_ROWS, 50
    position = np.tile(np.arange(1, page + 1), n_rows // page)
    click = (random.random(n_rows) < 0.1).astype(np.int8)
    # Of two searches in three the feature is the label.
    values = np.where(np.arange(n_rows) // page % 3 == 0, 0.0, click)
    labels = np.stack([click, click], 1)
    assert suspects_of(tmp_path / "a", position, labels, (values, None), page) == []
    assert suspects_of(tmp_path / "b", position, labels, (click - values, None), page) != []


def pairs_in_order(groups: np.ndarray, ranks: np.ndarray, positive: np.ndarray) -> Iterator[float]:
    for a in range(len(ranks)):
        for b in range(len(ranks)):
            if groups[a] == groups[b] and positive[a] and not positive[b]:
                yield float(ranks[a] > ranks[b]) + 0.5 * float(ranks[a] == ranks[b])


def test_auc_within_groups_is_that_of_all_pairs(random: np.random.Generator) -> None:
    for _ in range(20):
        groups, ranks = random.integers(0, 6, 40), random.integers(0, 5, 40)
        positive = random.random(40) < 0.3
        found = grouped_auc(groups, ranks, positive)
        expected = list(pairs_in_order(groups, ranks, positive))
        assert found.value == pytest.approx(np.mean(expected))
        both = [group for group in range(6) if 0 < positive[groups == group].mean() < 1]
        assert found.n_positive == positive[np.isin(groups, both)].sum()
        assert found.n_negative == (~positive[np.isin(groups, both)]).sum()
    assert grouped_auc(np.array([0, 0, 0]), np.array([3, 1, 2]), np.array([True, True, False])).value == 0.5
    assert grouped_auc(np.array([0]), np.array([3]), np.array([True])).value == 0.5


def test_a_frequent_number_has_a_level_of_its_own() -> None:
    values = np.concatenate([np.zeros(900), np.linspace(-1, -1e-9, 50), np.linspace(1e-9, 1, 50)])
    levels = quantile_levels(values)
    assert np.all(np.diff(levels[np.argsort(values)]) >= 0)
    assert set(levels[values == 0]).isdisjoint(levels[values != 0])


def test_prepare_tells_of_a_leak_and_of_nothing_else(tmp_path: Path) -> None:
    tables: dict[str, list[dict[str, Any]]] = random_tables(seed=3, n_searches=150, n_moments=150)
    for row in tables["impressions"]:
        row["revenue"] = 9.5 * row["click"]
    features = [*SCHEMA["features"], {"name": "revenue", "side": "interaction", "kind": "numerical"}]
    prepare(write_log(tmp_path / "log", tables, schema=SCHEMA | {"features": features}), tmp_path / "out", one_thread())
    data = PreparedData.open(tmp_path / "out")
    (name,) = data.manifest.info["suspect_features"]
    suspect = data.manifest.info["suspect_features"][name]
    assert (name, suspect["task"], suspect["auc"]) == ("revenue", "click", 1.0)
    assert f"feature revenue may be a leak: {suspect['text']}" in data.feature_notes()
    assert _prepared_facts(data.manifest.info)[0] == f"warning: feature revenue may be a leak: {suspect['text']}"
