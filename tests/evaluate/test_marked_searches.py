"""Figures on some searches alone: the last of each session, and those whose page was randomised."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from shelfrank.core.errors import UserError
from shelfrank.core.schema import RANDOMISED
from shelfrank.data.prepared import LAST_OF_SESSION, PreparedData
from shelfrank.evaluate.compare import compare
from shelfrank.evaluate.evaluation import Evaluation, evaluate
from shelfrank.evaluate.tables import per_search_columns
from shelfrank.rankers.run import train
from shelfrank.report.model_card import write_model_card
from shelfrank.report.page import render, write_report
from shelfrank.report.terminal import conclusion_lines, evaluation_lines
from small_log import START, prepare_small_log, small_tables
from tiny import TINY_EVALUATION, tiny

LAST = TINY_EVALUATION.model_copy(update={"only": "last_of_session"})
RANDOM = TINY_EVALUATION.model_copy(update={"only": "randomised"})

# Ten searches, an hour apart: seven of training, one of validation, two of test.
SESSIONS = ["a", "b", "a", None, "b", "c", "d", "c", "e", "e"]
ENDS = [False, False, True, None, True, False, True, True, False, True]


def hand_written(sessions: list[str | None], marks: list[int | None]) -> dict[str, list[dict[str, Any]]]:
    """A log of a search an hour; each shows three products, the second of which is clicked."""
    impressions = [
        {
            "search_id": f"s{number}",
            "timestamp": START + dt.timedelta(hours=number),
            "customer_id": None,
            "session_id": session,
            "query": "sofa",
            "product_id": f"p{place}",
            "position": place,
            "click": int(place == 2),
            "add_to_cart": None,
            "purchase": None,
            "device": "phone",
            RANDOMISED: mark,
        }
        for number, (session, mark) in enumerate(zip(sessions, marks, strict=True))
        for place in (1, 2, 3)
    ]
    products = [{"product_id": f"p{place}", "title": "sofa", "brand": "acme", "price": 9.5} for place in (1, 2, 3)]
    return {"impressions": impressions, "products": products, "customers": [{"customer_id": "c", "age_band": "old"}]}


def marks_of(prepared: Path, column: str) -> list[bool | None]:
    splits = [pq.read_table(prepared / split / "searches.parquet") for split in ("train", "valid", "test")]
    return [mark for table in splits for mark in table[column].to_pylist()]


@pytest.fixture(scope="module")
def evaluations(small_folds: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Evaluation]:
    out = tmp_path_factory.mktemp("evaluations")
    for ranker in ("shown_order", "lambdamart"):
        for name, config in (("whole", TINY_EVALUATION), ("last", LAST), ("randomised", RANDOM)):
            assert evaluate(small_folds / "runs" / ranker, out / name / ranker, config)
    return {f"{path.parent.name}/{path.name}": Evaluation.open(path) for path in out.glob("*/*")}


def test_marks_of_a_hand_written_log(tmp_path: Path) -> None:
    marks = [1, 0, None, 0, 1, 1, 0, 0, 1, 0]
    prepared = prepare_small_log(tmp_path, hand_written(SESSIONS, marks))
    assert marks_of(prepared, LAST_OF_SESSION) == ENDS
    assert marks_of(prepared, RANDOMISED) == [None if mark is None else bool(mark) for mark in marks]


def test_a_log_without_sessions_or_marks_has_no_such_columns(tmp_path: Path) -> None:
    tables = hand_written([None] * 10, [0] * 10)
    for row in tables["impressions"]:
        del row[RANDOMISED]
    prepared = prepare_small_log(tmp_path, tables)
    assert PreparedData.open(prepared).searches("test").column_names == ["search_id", "timestamp", "customer_id"]
    train(prepared, "shown_order", tiny("shown_order"), tmp_path / "run")
    for config, needed in ((LAST, "session_id"), (RANDOM, "randomised")):
        with pytest.raises(UserError, match=f"must have the column {needed} to evaluate only {config.only}, but"):
            evaluate(tmp_path / "run", tmp_path / "out", config)


def test_a_split_without_such_a_search_is_refused(tmp_path: Path) -> None:
    prepared = prepare_small_log(tmp_path, hand_written(SESSIONS, [1] * 8 + [0] * 2))
    train(prepared, "shown_order", tiny("shown_order"), tmp_path / "run")
    with pytest.raises(UserError, match=r"the test split of .* must have searches marked randomised, but it has none"):
        evaluate(tmp_path / "run", tmp_path / "out", RANDOM)


@pytest.mark.parametrize("ranker", ["shown_order", "lambdamart"])
@pytest.mark.parametrize("name", ["last", "randomised"])
def test_figures_are_on_the_marked_searches_alone(
    small_folds: Path, evaluations: dict[str, Evaluation], ranker: str, name: str
) -> None:
    # From the log by plain loops: the tables of the fixture.
    tables = small_tables(160, seed=3)
    last: dict[str, str] = {}
    for row in tables["impressions"]:
        last[row["session_id"]] = row["search_id"]
    expected = {"last": set(last.values())}
    numbers = {row["search_id"]: int(row["search_id"].removeprefix("s")) for row in tables["impressions"]}
    expected["randomised"] = {search for search, n in numbers.items() if n % 3 == 0 and n % 10 != 0 and n >= 110}

    whole, some = (evaluations[f"{each}/{ranker}"] for each in ("whole", name))
    columns, marked = per_search_columns(whole), per_search_columns(some)
    ids = columns["search_id"].to_pylist()
    chosen = np.array([search in expected[name] for search in ids])
    assert 0 < chosen.sum() < len(ids)
    assert marked["search_id"].to_pylist() == [search for search in ids if search in expected[name]]
    for task in ("click", "purchase"):
        values = columns[f"mrr@5_{task}"][chosen]
        np.testing.assert_array_equal(marked[f"mrr@5_{task}"], values)
        figure = some.report["mrr"]["5"][task]
        assert (figure["value"], figure["n"]) == (
            pytest.approx(np.nanmean(values)),
            np.count_nonzero(~np.isnan(values)),
        )
    evaluated = some.report["evaluated"]
    assert evaluated["searches"] == chosen.sum() == sum(evaluated["folds"])
    assert evaluated["of"] == len(ids)
    assert (evaluated["folds"][0] == 0) == (name == "randomised")
    line = evaluation_lines(some.report)[0]
    what = {"last": "the last of each session", "randomised": "those whose page was shown in random order"}[name]
    assert line == f"evaluated on {chosen.sum()} of {len(ids)} searches ({what}) in 3 test windows"


def test_randomised_pages_stand_beside_the_whole(evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    paths = [evaluations[f"whole/{name}"].path for name in ("shown_order", "lambdamart")]
    assert compare(paths, tmp_path / "out", "shown_order", write_report)
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    segments = comparison["segments"]["randomised"]
    alone = evaluations["randomised/lambdamart"].report
    assert segments["randomised"]["rankers"]["lambdamart"]["mrr"]["5"] == alone["mrr"]["5"]
    assert segments["randomised"]["searches"] == alone["evaluated"]["searches"]
    # Searches without a mark are in neither segment.
    both = segments["randomised"]["searches"] + segments["ranked"]["searches"]
    assert both < comparison["counts"]["searches"]
    lines = [line for line in conclusion_lines(comparison) if line.startswith("MRR@5 on randomised pages alone")]
    assert len(lines) == 1
    assert f"alone, {segments['randomised']['searches']} searches: " in lines[0]
    assert lines[0].endswith("The table is on all pages.")
    assert "The log marks the page as shown in random order." in render(comparison)


def test_a_comparison_of_some_searches_says_so(evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    paths = [evaluations[f"last/{name}"].path for name in ("shown_order", "lambdamart")]
    assert compare(paths, tmp_path / "out", "shown_order", write_report)
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    counts = comparison["counts"]
    assert (counts["only"], counts["of"]) == (
        "last_of_session",
        evaluations["last/lambdamart"].report["evaluated"]["of"],
    )
    said = f"{counts['searches']} of {counts['of']} searches (the last of each session) in 3 test windows"
    assert f"Evaluated on {said}." in conclusion_lines(comparison)
    assert f"evaluated on {said}" in render(comparison)
    mixed = [evaluations["last/lambdamart"].path, evaluations["whole/shown_order"].path]
    with pytest.raises(UserError, match="must share their config, but they differ in only"):
        compare(mixed, tmp_path / "mixed", "shown_order", write_report)


def test_a_model_card_of_some_searches_says_so(small_folds: Path, tmp_path: Path) -> None:
    run = small_folds / "runs" / "lambdamart" / "fold-3"
    evaluate(run, tmp_path / "evaluation", LAST)
    assert write_model_card(run, tmp_path / "evaluation", tmp_path / "card")
    counts = Evaluation.open(tmp_path / "evaluation").report["evaluated"]
    card = (tmp_path / "card" / "model_card.md").read_text()
    assert f"Evaluated on {counts['searches']} of {counts['of']} searches (the last of each session)." in card
    assert "**Split by:** time, fold 3 of 3: a test window of 16.7 % of the log's searches" in card
    assert 'only="last_of_session"' in card
