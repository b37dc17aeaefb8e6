import io
from typing import Any

import pytest
from comparison_example import full_comparison, with_difference
from rich.console import Console

from shelfrank.report import comparison_table, conclusion_lines
from shelfrank.report.terminal import clipped_lines

NAMES = ("popularity", "text_match", "lambdamart", "mmoe_dcn_v2", "mmoe_ft_transformer_text")


def _printed(comparison: dict[str, Any], width: int = 100) -> str:
    stream = io.StringIO()
    table = comparison_table(comparison, width)
    Console(file=stream, width=width, color_system=None, force_terminal=False).print(table)
    return stream.getvalue()


def _row(printed: str, name: str) -> list[str]:
    line = next(line for line in printed.splitlines() if name in line)
    return [cell.strip() for cell in line.split("│")[1:-1]]


@pytest.mark.parametrize("n_rankers", [1, 6, 12])
def test_the_table_fits_100_columns(n_rankers: int) -> None:
    printed = _printed(full_comparison(n_rankers))
    assert max(map(len, printed.splitlines())) <= 100
    assert "…" not in printed


@pytest.mark.parametrize("width", [66, 70, 80, 90])
@pytest.mark.parametrize("is_even", [True, False])
def test_names_and_figures_are_whole_in_a_narrow_terminal(full: dict[str, Any], width: int, is_even: bool) -> None:
    for ranker in full["rankers"]:
        for cutoff in ranker["mrr"].values():
            for task in cutoff:
                cutoff[task] = {"value": 0.25, "low": 0.24 if is_even else 0.05, "high": 0.26, "n": 100}
    printed = _printed(full, width)
    assert max(map(len, printed.splitlines())) <= width
    assert "…" not in printed
    assert "LambdaMART" in printed
    assert printed.count("±0.010" if is_even else "0.050–0.260") >= 2 * len(full["rankers"]) * len(full["tasks"])
    assert all(word in printed for word in ("Click", "MRR@1", "MRR@10", "AUC", "PD@10", "0.930"))


def test_a_row_holds_the_figures_with_half_widths(full: dict[str, Any]) -> None:
    full["rankers"][3]["mrr"]["1"]["click"] = {"value": 0.25, "low": 0.24, "high": 0.262, "n": 100}
    full["rankers"][3]["auc"]["click"] = None
    task, name, mrr_1, _, auc, pd = _row(_printed(full), "LambdaMART")
    assert (task, name, pd) == ("", "LambdaMART", "0.930")
    assert mrr_1.startswith("0.250 ±0.012")
    assert auc == "–"


@pytest.mark.parametrize("width", [66, 80, 100])
def test_expected_figures_stand_beside_the_logged_one(full: dict[str, Any], width: int) -> None:
    """Of a simulated log; they take the place of the smallest cutoff, and carry marks of their own differences."""
    for place, ranker in enumerate(full["rankers"]):
        for figure, value in (("redrawn", 0.31), ("unbiased", 0.62)):
            known = {"value": value + place / 1000, "low": value - 0.01, "high": value + 0.01, "n": 100}
            ranker[figure] = {"10": dict.fromkeys(full["tasks"], known)}
    won = {"value": 0.2, "low": 0.1, "high": 0.3, "n": 100}
    full["differences"]["lambdamart"]["unbiased"] = {"10": dict.fromkeys(full["tasks"], won)}
    printed = _printed(full, width)
    assert max(map(len, printed.splitlines())) <= width
    heading = "".join(printed.splitlines()[1:4])
    assert all(word in heading for word in ("MRR@10", "Redrawn", "Unbiased", "AUC", "PD@10"))
    assert "MRR@1 " not in heading
    assert "0.623 ▲" in printed.replace(" ±0.013", "")
    assert printed.count("0.313") == len(full["tasks"])


@pytest.mark.parametrize(
    ("low", "high", "mark"),
    [(0.01, 0.03, "▲"), (-0.03, -0.01, "▼"), (-0.01, 0.01, "")],
    ids=["above", "below", "level"],
)
def test_a_mark_stands_only_where_the_interval_excludes_zero(
    full: dict[str, Any], low: float, high: float, mark: str
) -> None:
    changed = with_difference(full, "lambdamart", "click", low, high)
    mrr_10 = _row(_printed(changed), "LambdaMART")[3]
    assert mrr_10[-1] == (mark or "0")


@pytest.mark.parametrize("n", [2, 29])
def test_few_searches_have_no_mark(full: dict[str, Any], n: int) -> None:
    changed = with_difference(full, "lambdamart", "click", 0.01, 0.03)
    changed["differences"]["lambdamart"]["mrr"]["10"]["click"]["n"] = n
    assert "▲" not in _row(_printed(changed), "LambdaMART")[3]


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.0, 0.0, 0.49, "0.000 0.000–0.490"),
        (1.0, 0.51, 1.0, "1.000 0.510–1.000"),
        (0.25, 0.24, 0.262, "0.250 ±0.012"),
        (0.5, None, None, "0.500"),
    ],
)
def test_one_half_width_stands_only_for_an_even_interval(
    full: dict[str, Any], value: float, low: float | None, high: float | None, words: str
) -> None:
    full["rankers"][3]["mrr"]["1"]["click"] = {"value": value, "low": low, "high": high, "n": 4}
    printed = _printed(full)
    assert _row(printed, "LambdaMART")[2].startswith(words)
    assert max(map(len, printed.splitlines())) <= 100


def test_runs_of_one_ranker_have_their_names(full: dict[str, Any]) -> None:
    for ranker in full["rankers"][3:5]:
        ranker["label"] = "LambdaMART"
    printed = _printed(full)
    assert _row(printed, "(lambdamart)")[1] == "LambdaMART (lambdamart)"
    assert _row(printed, "(mmoe_dcn_v2)")[1] == "LambdaMART (mmoe_dcn_v2)"


def test_the_baseline_has_no_mark_even_if_a_difference_is_given(full: dict[str, Any]) -> None:
    full["differences"]["shown_order"] = full["differences"]["lambdamart"]
    assert "▲" not in " ".join(_row(_printed(full), "Shown order"))


def test_square_brackets_in_a_name_are_no_markup(click_only: dict[str, Any]) -> None:
    click_only["rankers"][1]["label"] = "[red]gbdt[/red]"
    click_only["title"] = "[bold]"
    printed = _printed(click_only)
    assert "[red]gbdt[/red]" in printed
    assert "[bold]" in printed


def test_unknown_figures_are_dashes(click_only: dict[str, Any]) -> None:
    assert _row(_printed(click_only), "gbdt") == ["", "gbdt", "–", "0.630 ±0.010 ▲", "–", "–"]


def test_an_empty_comparison_gives_an_empty_table() -> None:
    assert comparison_table({}).row_count == 0


def test_the_words_below_the_table_name_the_winner(full: dict[str, Any]) -> None:
    for task in full["tasks"]:
        full = with_difference(full, "lambdamart", task, 0.30, 0.32)
    assert conclusion_lines(full)[0].startswith(
        "LambdaMART beats the baseline (Shown order) on click, add to cart and purchase (95 % intervals above 0)."
    )


def test_each_figure_that_is_not_a_standard_one_is_explained_in_a_line(full: dict[str, Any]) -> None:
    assert [line.split(":")[0] for line in conclusion_lines(full)[1:]] == ["PD@10"]
    for figure in ("redrawn", "unbiased"):
        full["rankers"][0][figure] = {"10": {"click": {"value": 0.3, "low": 0.2, "high": 0.4, "n": 100}}}
    explained = conclusion_lines(full)[1:]
    assert [line.split(":")[0] for line in explained] == ["Redrawn MRR@10", "Unbiased MRR@10", "PD@10"]
    for ranker in full["rankers"]:
        ranker["pd"] = None
    assert conclusion_lines(full)[1:] == explained[:2]


def test_an_empty_comparison_has_no_words() -> None:
    assert conclusion_lines({}) == []


def test_clipped_numbers_are_listed_by_feature() -> None:
    assert clipped_lines({"clipped": {"price": 1200, "age": 3}}) == [
        "clipped to the training range: age of 3 rows",
        "clipped to the training range: price of 1,200 rows",
    ]
    assert clipped_lines({}) == []
