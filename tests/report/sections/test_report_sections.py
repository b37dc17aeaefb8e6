import doctest
from typing import Any

import pytest

from shelfrank.report.blocks import Cell, Details, Missing, Orders, Row, Section, Table, Tabs
from shelfrank.report.comparison import read_comparison
from shelfrank.report.formats import number
from shelfrank.report.sections import calibration
from shelfrank.report.sections.cost import cost_section
from shelfrank.report.sections.data import data_section
from shelfrank.report.sections.learning import learning_section
from shelfrank.report.sections.personalization import personalization_section
from shelfrank.report.sections.rankers import rankers_section


def _tables(section: Section) -> dict[str, Table]:
    return {block.caption: block for block in section.blocks if isinstance(block, Table)}


def _cell(table: Table, head: str, column: int) -> Cell:
    return next(row for row in table.rows if row.head == head).cells[column]


def test_the_example_of_a_summary_holds() -> None:
    assert doctest.testmod(calibration) == (0, 1)


def test_sizes_stand_in_the_order_of_the_papers_table(full: dict[str, Any]) -> None:
    table = _tables(data_section(read_comparison(full)))["Size of the splits"]
    assert list(table.columns[:4]) == ["Queries", "Products", "Customers", "Impressions"]
    assert [cell.text for cell in table.rows[0].cells[:5]] == ["1,416", "24,000", "60,000", "6,432,000", "321,600"]


def test_words_that_are_not_understood_are_listed_by_their_searches(full: dict[str, Any]) -> None:
    full["data"]["understanding"] = {"n_terms": 9, "n_types": 2, "n_unknown": 3, "unknown": {"a": 1, "b": 30, "c": 2}}
    details = data_section(read_comparison(full)).blocks[-1]
    assert isinstance(details, Details)
    words = details.blocks[-1]
    assert isinstance(words, Table)
    assert [row.head for row in words.rows] == ["b", "c", "a"]


def test_nothing_left_out_differs_from_not_recorded(full: dict[str, Any]) -> None:
    def said(
        left_out: dict[str, int] | None,
        at_import: dict[str, int] | None,
        features: dict[str, str] | None,
    ) -> str:
        names = ("left_out", "left_out_at_import", "left_out_features")
        full["data"] |= dict(zip(names, (left_out, at_import, features), strict=True))
        return str(data_section(read_comparison(full)).blocks)

    assert "Nothing was left out" in said({}, {}, {})
    assert "Nothing was left out" in said({"reason": 0}, {}, {})
    for parts, words in (
        ((None, {}, {}), "Not recorded in this comparison: what was left out in preparation."),
        (({}, None, {}), "Not recorded in this comparison: what was left out at import."),
        (({}, {}, None), "Not recorded in this comparison: which features were left out."),
        (({"reason": 3}, {}, {}), "reason"),
        (({}, {"no_product_id": 3}, {}), "no product id"),
        (({}, {}, {"age": "one value only"}), "1 feature left out"),
    ):
        assert words in said(*parts)
        assert "Nothing" not in said(*parts)


def test_the_best_of_a_column_is_marked_and_so_is_its_tie(full: dict[str, Any]) -> None:
    for name, value in (("mmoe_dcn_v2", 0.60001), ("lambdamart", 0.60004)):
        ranker = next(ranker for ranker in full["rankers"] if ranker["name"] == name)
        ranker["mrr"]["1"]["click"] = {"value": value, "low": 0.59, "high": 0.61, "n": 10}
    table = _tables(rankers_section(read_comparison(full)))["Ranking quality by task"]
    assert [row.head for row in table.rows if row.cells[1].best] == ["LambdaMART", "MMoE + DCN-V2"]


def test_one_ranker_alone_is_not_the_best(full: dict[str, Any]) -> None:
    full["rankers"] = full["rankers"][:1]
    table = _tables(rankers_section(read_comparison(full)))["Ranking quality by task"]
    assert not any(cell.best for cell in table.rows[0].cells)


@pytest.mark.parametrize(
    ("low", "high", "n", "note"),
    [
        (0.01, 0.03, 30, ("▲ +0.020", "up")),
        (-0.03, -0.01, 30, ("▼ −0.020", "down")),
        (-0.01, 0.01, 30, ("0.000", "")),
        (None, None, 30, ("0.000", "")),
        pytest.param(0.01, 0.03, 29, ("+0.020", ""), id="too few searches"),
    ],
)
def test_a_difference_is_marked_only_where_its_interval_excludes_zero(
    full: dict[str, Any], low: float | None, high: float | None, n: int, note: tuple[str, str]
) -> None:
    value = (low + high) / 2 if low is not None and high is not None else 0.0
    full["differences"]["lambdamart"]["auc"]["click"] = {"value": value, "low": low, "high": high, "n": n}
    table = _tables(rankers_section(read_comparison(full)))["Ranking quality by task"]
    assert _cell(table, "LambdaMART", 0).notes[-1] == note


def test_the_baseline_has_no_difference_to_itself(full: dict[str, Any]) -> None:
    full["differences"]["shown_order"] = full["differences"]["lambdamart"]
    table = _tables(rankers_section(read_comparison(full)))["Ranking quality by task"]
    assert [len(_cell(table, name, 0).notes) for name in ("Shown order", "LambdaMART")] == [1, 2]


def test_the_headline_measure_is_shown_first(full: dict[str, Any]) -> None:
    tabs = [block for block in rankers_section(read_comparison(full)).blocks if isinstance(block, Tabs)]
    assert [tab.items[tab.chosen][0] for tab in tabs] == ["MRR@10", "MRR@10"]


def test_the_profile_tells_size_and_cost(full: dict[str, Any]) -> None:
    table = _tables(rankers_section(read_comparison(full)))["Size, weights and cost of the rankers"]
    row = next(row for row in table.rows if row.head.startswith("MMoE + FT"))
    assert [cell.text for cell in row.cells] == [
        "0.860", "0.50", "0.30", "0.20", "10.1M", "70.0M", "1 h 05 min", "1.3 GB", "196K",
    ]  # fmt: skip


def test_the_profile_shows_the_trees_share_of_a_blend(full: dict[str, Any]) -> None:
    full["rankers"][-1]["shares"] = {"click": {"network": 0.512, "trees": 0.488}}
    table = _tables(rankers_section(read_comparison(full)))["Size, weights and cost of the rankers"]
    notes = [note for cell in table.rows[-1].cells for note, _ in cell.notes if "trees" in note]
    assert notes == ["trees 48.8 %"]


@pytest.mark.parametrize("is_single_task", [False, True])
def test_the_profile_shows_that_trees_have_no_share(full: dict[str, Any], is_single_task: bool) -> None:
    ranker = full["rankers"][-1]
    ranker["shares"] = {"click": {"network": 1.0, "trees": 0.0}}
    if is_single_task:
        full["tasks"] = ["click"]
        ranker["task_weights"] = ranker["score_weights"] = None
    table = _tables(rankers_section(read_comparison(full)))["Size, weights and cost of the rankers"]
    cell = table.rows[-1].cells[1]
    assert [note for note, _ in cell.notes if "trees" in note] == ["trees 0.0 %"]


def test_the_experts_that_each_task_uses_are_a_table(full: dict[str, Any]) -> None:
    title = "Experts that each task uses"
    assert title not in _tables(rankers_section(read_comparison(full)))
    full["rankers"][-1]["gates"] = {"click": [0.02, 0.98], "purchase": [0.5, 0.5]}
    full["rankers"][-2]["gates"] = {"click": [0.2, 0.3, 0.5]}
    table = _tables(rankers_section(read_comparison(full)))[title]
    assert table.columns == ["Expert 1", "Expert 2", "Expert 3"]
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["20 %", "30 %", "50 %"],
        ["2 %", "98 %", number(None)],
        ["50 %", "50 %", number(None)],
    ]
    assert table.rows[1].head.endswith(", Click")


def test_the_profile_shows_the_weights_that_made_the_order(full: dict[str, Any]) -> None:
    ranker = next(ranker for ranker in full["rankers"] if ranker["name"] == "mmoe_dcn_v2")
    ranker["task_weights"] = {"click": 0.5, "add_to_cart": 0.25, "purchase": 0.25}
    ranker["score_weights"] = {"click": 0.1, "add_to_cart": 0.25, "purchase": 0.65}
    table = _tables(rankers_section(read_comparison(full)))["Size, weights and cost of the rankers"]
    cells = next(row for row in table.rows if row.head == ranker["label"]).cells[1:4]
    assert [cell.text for cell in cells] == ["0.10", "0.25", "0.65"]
    assert [[note for note, _ in cell.notes] for cell in cells] == [["loss 0.50"], [], ["loss 0.25"]]


def test_learning_curves_name_the_learned_rankers_without_losses(full: dict[str, Any]) -> None:
    (figures,) = learning_section(read_comparison(full)).blocks
    assert "Without recorded losses: LambdaMART." in str(figures)
    assert "5 epochs, 41 s each; stopped after epoch 5, weights of epoch 3 kept" in str(figures)


def test_calibration_offers_each_ranker_that_has_bins(full: dict[str, Any]) -> None:
    (tabs,) = calibration.calibration_section(read_comparison(full)).blocks
    assert isinstance(tabs, Tabs)
    assert [label for label, _ in tabs.items] == ["MMoE + DCN-V2", "MMoE + FT-Transformer + text cross"]


def _orders(full: dict[str, Any], neutral: list[str], personalized: list[str]) -> Orders:
    def products(ids: list[str]) -> list[dict[str, Any]]:
        return [
            {"product_id": name, "title": name.upper(), "clicked": name == "c", "price": 1200, "shown": 3}
            for name in ids
        ]

    example = {"query": "q", "customer": None, "neutral": products(neutral), "personalized": products(personalized)}
    full["moves"] = {"lambdamart": {"histogram": [], "examples": [example, example]}}
    tabs = next(b for b in personalization_section(read_comparison(full)).blocks if isinstance(b, Tabs))
    blocks = tabs.items[0][1]
    assert any(isinstance(block, Missing) for block in blocks)
    assert any(isinstance(block, Details) for block in blocks)
    return next(block for block in blocks if isinstance(block, Orders))


def test_an_example_tells_where_products_come_from_and_go_to(full: dict[str, Any]) -> None:
    orders = _orders(full, ["a", "b", "c", "d"], ["c", "a", "b", "e"])
    assert [(placed.move, placed.tone) for placed in orders.personalized] == [
        ("↑2", "up"), ("↓1", "down"), ("↓1", "down"), ("from below", "up"),
    ]  # fmt: skip
    assert [(placed.move, placed.tone) for placed in orders.neutral] == [
        ("", "down"), ("", "down"), ("", "up"), ("leaves", "down"),
    ]  # fmt: skip
    assert orders.personalized[0].facts == "1,200.00 · shown at 3"
    assert orders.customer == "an anonymous visitor"
    assert "link up clicked" in orders.links


def test_the_cost_adds_times_and_takes_the_largest_memory(full: dict[str, Any]) -> None:
    full["steps"] = [
        {"name": "a", "wall_s": 30, "peak_rss_mb": 100, "rows": 600},
        {"name": "b", "wall_s": 90, "peak_rss_mb": None, "rows": None},
        {"name": "c", "wall_s": None, "peak_rss_mb": 1500, "rows": 1},
    ]
    (table,) = cost_section(read_comparison(full)).blocks
    assert isinstance(table, Table)
    texts = {row.head: [cell.text for cell in row.cells] for row in table.rows if isinstance(row, Row)}
    assert texts["a"] == ["30 s", "100 MB", "600", "20"]
    assert texts["c"] == ["–", "1.5 GB", "1", "–"]
    assert texts["all steps"] == ["2 min 00 s", "1.5 GB", "", ""]


@pytest.mark.parametrize(("n", "told"), [(3, "3 searches show one product only"), (1, "1 search shows one"), (0, None)])
def test_searches_of_one_product_are_told(full: dict[str, Any], n: int, told: str | None) -> None:
    full["counts"]["of_one_product"] = n
    blocks = str(data_section(read_comparison(full)).blocks)
    assert ("MRR and NDCG are always 1" in blocks) == (told is not None)
    assert told is None or told in blocks
