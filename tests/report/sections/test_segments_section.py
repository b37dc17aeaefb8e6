from typing import Any

import pytest

from html_checks import drawings
from shelfrank.report.blocks import Block, Details, Figures, Missing, Section, Table, Tabs
from shelfrank.report.comparison import read_comparison
from shelfrank.report.sections.segments import SEGMENTATIONS, segments_section


def _section(comparison: dict[str, Any]) -> Section:
    return segments_section(read_comparison(comparison))


def _panel(section: Section, title: str = "Query type") -> list[Block]:
    (tabs,) = section.blocks
    assert isinstance(tabs, Tabs)
    (found,) = (blocks for label, blocks in tabs.items if label == title)
    return list(found)


def _tables(section: Section, title: str = "Query type") -> list[Table]:
    return [block for block in _panel(section, title) if isinstance(block, Table)]


def _charts(section: Section) -> list[Tabs]:
    details = [block for block in _panel(section) if isinstance(block, Details)]
    return [tabs for each in details for tabs in each.blocks if isinstance(tabs, Tabs)]


def _figure(value: float, half: float) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 90}


def test_kinds_are_told_with_their_searches(full: dict[str, Any]) -> None:
    full["counts"]["searches"] = 1000
    full["segments"]["query_kind"]["typo"] |= {
        "searches": 80,
        "with_positive": {"click": 40, "add_to_cart": 11, "purchase": 3},
    }
    table = _tables(_section(full))[0]
    assert [row.head for row in table.rows] == ["Plain", "Synonym", "Typo"]
    assert [cell.text for cell in table.rows[-1].cells] == [
        "Has a typing error.", "80", "8.0 %", "40", "11", "3",
    ]  # fmt: skip


def test_a_kind_that_the_page_has_no_words_for_is_still_shown(full: dict[str, Any]) -> None:
    kinds = full["segments"]["query_kind"]
    full["segments"]["query_kind"] = {"voice": kinds["plain"]}
    meanings, quality = _tables(_section(full))
    assert (meanings.rows[0].head, meanings.rows[0].cells[0].text) == ("Voice", "–")
    assert list(quality.columns) == ["Voice"] * 3


def test_each_kind_shows_value_interval_and_difference_at_the_largest_cutoff(full: dict[str, Any]) -> None:
    synonym = full["segments"]["query_kind"]["synonym"]
    synonym["rankers"]["lambdamart"]["mrr"] = {"1": {}, "10": {"add_to_cart": _figure(0.9, 0.05)}}
    synonym["differences"]["lambdamart"]["mrr"] = {"10": {"add_to_cart": _figure(0.2, 0.1)}}
    quality = _tables(_section(full))[1]
    assert quality.caption == "MRR@10 by task and query type"
    assert list(quality.columns) == ["Plain", "Synonym", "Typo"] * 3
    assert list(quality.groups) == [("Click", 3), ("Add to cart", 3), ("Purchase", 3)]
    row = next(row for row in quality.rows if row.head == "LambdaMART")
    cell = row.cells[4]
    assert (cell.text, cell.best) == ("0.900", True)
    assert list(cell.notes) == [("0.850–0.950", ""), ("▲ +0.200", "up")]
    # The same ranker's clicks on such searches were taken away.
    assert row.cells[1].text == "–"
    baseline = next(row for row in quality.rows if row.note == "baseline")
    assert {len(cell.notes) for cell in baseline.cells} == {1}


def test_charts_hold_every_kind_of_every_ranker_but_the_baseline(full: dict[str, Any]) -> None:
    full["segments"]["query_kind"]["typo"]["differences"]["lambdamart"]["mrr"]["10"]["click"] = _figure(-0.3, 0.1)
    (tabs,) = _charts(_section(full))
    assert [label for label, _ in tabs.items] == ["Click", "Add to cart", "Purchase"]
    (figures,) = tabs.items[0][1]
    assert isinstance(figures, Figures)
    titles = [ranker["label"] for ranker in full["rankers"] if ranker["name"] != full["baseline"]]
    assert [figure.heading for figure in figures.items] == titles
    chart = figures.items[titles.index("LambdaMART")].chart
    (said,) = ("".join(drawing.itertext()) for drawing in drawings(str(chart)))
    assert "Typo: −0.300" in said
    assert 'class="dot down"' in chart


def test_no_differences_give_no_charts(full: dict[str, Any]) -> None:
    for segment in full["segments"]["query_kind"].values():
        segment["differences"] = {}
    assert not _charts(_section(full))


@pytest.mark.parametrize("segments", [None, {}, {"query_kind": None}, {"another": {}}])
def test_unknown_segments_are_said_to_be_unknown(full: dict[str, Any], segments: Any) -> None:
    full["segments"] = segments
    (block,) = _section(full).blocks
    assert isinstance(block, Missing)


def test_every_segmentation_has_a_panel_in_a_fixed_order(full: dict[str, Any]) -> None:
    kinds = full["segments"]["query_kind"]
    # The windows of a comparison have the names of its folds.
    segments = {name: words.meanings or ("fold-1", "fold-2") for name, words in SEGMENTATIONS.items()}
    full["segments"] = {
        name: dict(zip(segments[name], kinds.values(), strict=False)) for name in reversed(SEGMENTATIONS)
    }
    (tabs,) = _section(full).blocks
    assert isinstance(tabs, Tabs)
    assert [label for label, _ in tabs.items] == [
        *("Shown order", "Test window", "Query frequency", "Customer", "Product", "Query type"),
    ]
    for segmentation, words in SEGMENTATIONS.items():
        sizes, quality = _tables(_section(full), words.title)
        names = [name.capitalize() for name in segments[segmentation]][: len(kinds)]
        assert [row.head for row in sizes.rows] == names
        assert list(quality.columns) == names * 3
        assert "–" not in {row.cells[0].text for row in sizes.rows}


def test_a_part_without_searches_is_counted_but_has_no_figures(full: dict[str, Any]) -> None:
    full["segments"]["query_kind"]["typo"] = {"searches": 0, "with_positive": dict.fromkeys(full["tasks"], 0)}
    sizes, quality = _tables(_section(full))
    assert [row.head for row in sizes.rows] == ["Plain", "Synonym", "Typo"]
    assert list(quality.columns) == ["Plain", "Synonym"] * 3


def test_parts_that_are_all_empty_give_a_page(full: dict[str, Any]) -> None:
    empty = {"searches": 0, "with_positive": {}}
    full["segments"] = {"query_frequency": {"head": empty, "tail": empty}}
    _, quality = _tables(_section(full), "Query frequency")
    assert quality.columns == []
