from dataclasses import replace
from pathlib import Path

import pytest

from shelfrank.core.schema import TASKS
from shelfrank.data.prepared import PreparedData
from shelfrank.paper.reproduce.budgets import BUDGETS
from shelfrank.paper.reproduce.rows import BY_NAME, ROWS, TableRow, printed_weights, rows_of, why_not
from shelfrank.paper.reproduce.runs import plan, resolve_row
from shelfrank.rankers import RANKERS


def test_table_2_has_the_papers_ten_rows() -> None:
    assert len([row for row in ROWS if row.table == 2]) == 10


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_a_known_ranker_in_a_folder_of_its_own(row: TableRow) -> None:
    assert row.ranker in RANKERS
    assert BY_NAME[row.name] is row
    assert row.base is None or row.base in BY_NAME


@pytest.mark.parametrize("row", [row for row in ROWS if row.printed.weights], ids=lambda row: row.name)
def test_printed_weights_sum_to_1(row: TableRow) -> None:
    assert sum(row.printed.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("row", [row for row in ROWS if row.table == 3], ids=lambda row: row.name)
def test_printed_percents_are_those_of_the_printed_figures(row: TableRow) -> None:
    base = BY_NAME[row.base or ""].printed.mrr
    for task, percent in row.printed.percent.items():
        # The paper rounds, and cuts, to two digits.
        assert 100 * (row.printed.mrr[task] / base[task] - 1) == pytest.approx(percent, abs=0.03)


def test_an_ablation_differs_from_its_base_in_one_thing() -> None:
    budget = BUDGETS["small"]
    for row in ROWS:
        if row.base is None:
            continue
        own = resolve_row(row, budget, 0).model_dump()
        its = resolve_row(BY_NAME[row.base], budget, 0).model_dump()
        own["neural"]["text"].pop("matching")
        its["neural"]["text"].pop("matching")
        differing = {name for name in own if own[name] != its[name]}
        assert differing == {3: {"exclude_features"}, 4: set(), 5: {"relevance_weight"}}[row.table]
        assert printed_weights(row) == printed_weights(BY_NAME[row.base])


def test_tables_share_their_rows() -> None:
    assert {row.name for row in rows_of(4)} == {"mmoe_dcn_v2_tinybert_cross", "mmoe_dcn_v2_tinybert_dot"}
    assert {row.name for row in rows_of(5)} == {"mmoe_dcn_v2", "mmoe_dcn_v2-relevance"}
    assert len(rows_of(3)) == 6
    assert rows_of(1) == []


def test_the_relevance_task_is_learned_in_table_5_alone(tmp_path: Path) -> None:
    for training in plan(ROWS, BUDGETS["small"], tmp_path, {}):
        assert training.config.relevance_weight == (0.1 if training.row.table == 5 else 0)


def test_tuned_weights_replace_the_printed_ones(tmp_path: Path) -> None:
    weights = dict(zip(TASKS, (0.6, 0.3, 0.1), strict=True))
    (training,) = plan([BY_NAME["mmoe"]], BUDGETS["small"], tmp_path, {"mmoe": weights})[:1]
    assert training.config.task_weights == weights


def test_a_row_that_the_data_cannot_have_says_why(small_prepared: Path) -> None:
    small = PreparedData.open(small_prepared)
    missing = {row.name: why for row in ROWS if (why := why_not(row, small))}
    assert missing.pop("mmoe_dcn_v2-relevance") == "the data has no relevance labels"
    assert set(missing.values()) == {"the data has no semantic score to leave out"}
    assert set(missing) == {row.name for row in ROWS if row.table == 3}
    left_out = {**small.manifest.info, "left_out_features": {"query_in_document": "one value only"}}
    wordless = replace(small, manifest=replace(small.manifest, info=left_out))
    reading = {row.name for row in ROWS if row.reads_text}
    assert {
        row.name for row in ROWS if why_not(row, wordless) == "no query shares a word with a product's text"
    } == reading


def test_no_budget_hides_values_of_the_training_rows() -> None:
    assert all("train.hide_share=0" in budget.settings for budget in BUDGETS.values())
