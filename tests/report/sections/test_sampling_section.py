import copy
from typing import Any

import pytest

from html_checks import StrictPage, drawings
from shelfrank.report import render
from shelfrank.report.blocks import Details, Figures, Missing, Section, Table, Text
from shelfrank.report.comparison import read_comparison
from shelfrank.report.sections.sampling import sampling_section


def _section(comparison: dict[str, Any], **changes: Any) -> Section:
    changed = copy.deepcopy(comparison)
    changed["data"]["sampling"] |= changes
    return sampling_section(read_comparison(changed))


def _row(**counts: Any) -> dict[str, Any]:
    asked = {"asked_positive": 40, "asked_negative": 60, "taken_positive": 40, "taken_negative": 60}
    short = {"short_positive": 0, "short_negative": 0, "n_bins": 2, "n_short_bins": 0}
    return {"products": 7, "impressions": 1000, "positives": 50, "negatives": 950} | asked | short | counts


def test_bins_are_told_with_what_was_asked_taken_and_short(full: dict[str, Any]) -> None:
    short = _row(bin=1, positives=10, taken_positive=10, short_positive=30, n_short_bins=2)
    totals = _row(taken_positive=10, positives=10, short_positive=30, n_short_bins=2)
    section = _section(full, by_bin=[short], totals=totals, by_category=[])
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert [row.head for row in table.rows] == ["1", "All"]
    told = [cell.text for cell in table.rows[0].cells]
    assert told == ["7", "1,000", "1.0 %", "40", "10", "30", "60", "60", "0", "70", "14.3 %"]
    assert len(table.columns) == len(told) == sum(width for _, width in table.groups)
    summary = section.blocks[0]
    assert isinstance(summary, Text)
    assert "70 of 1,000 training impressions were kept, 100 were requested" in summary.words
    assert "from 1.0 % to 14.3 %" in summary.words
    assert "30 positives fewer than requested exist: in 2 of 2 bins" in summary.words


def test_charts_hold_both_values_of_every_bin(full: dict[str, Any]) -> None:
    bins = [_row(bin=i, impressions=1000 * i, positives=100 * i) for i in (1, 2)]
    section = _section(full, by_bin=bins)
    (figures,) = [block for block in section.blocks if isinstance(block, Figures)]
    rows, shares = ("".join(drawing.itertext()) for drawing in drawings("".join(f.chart for f in figures.items)))
    assert "1: 1.00K before, 100 after; 2: 2.00K before, 100 after" in rows
    assert "1: 10 % before, 40 % after; 2: 10 % before, 40 % after" in shares
    for chart in drawings("".join(figure.chart for figure in figures.items)):
        heights = [float(bar.get("height", "")) for bar in chart.iter("rect")]
        # Two of the legend, two of each bin.
        assert len(heights) == 6
        assert min(heights) > 0


def test_categories_with_the_largest_shortfall_come_first(full: dict[str, Any]) -> None:
    categories = [_row(category=f"c{i}", short_negative=i) for i in range(30)]
    section = _section(full, by_category=[*categories, _row(category=None, short_positive=99)])
    (details,) = [block for block in section.blocks if isinstance(block, Details)]
    (table,) = details.blocks
    assert isinstance(table, Table)
    assert [row.head for row in table.rows] == ["(no category)", *(f"c{i}" for i in range(29, 20, -1))]
    assert "30 of 31 categories fell short" in table.legend


def test_nothing_short_gives_no_list_of_categories(full: dict[str, Any]) -> None:
    section = _section(full, by_category=[_row(category="c")], totals=_row())
    assert not any(isinstance(block, Details) for block in section.blocks)
    assert isinstance(section.blocks[0], Text)
    assert "Every bin had enough rows" in section.blocks[0].words


def test_pages_are_called_pages(full: dict[str, Any]) -> None:
    section = _section(full, config={"unit": "search"})
    assert isinstance(section.blocks[0], Text)
    assert "training result pages were kept" in section.blocks[0].words
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert "Pages" in table.columns


@pytest.mark.parametrize("sampling", [None, {}, {"totals": None, "by_bin": [{"bin": 1}], "by_category": [{}]}])
def test_what_is_unknown_gives_no_error(full: dict[str, Any], sampling: dict[str, Any] | None) -> None:
    full["data"]["sampling"] = sampling
    page = StrictPage(render(full))
    assert ("No sampling of the training rows is recorded" in page.text) == (sampling is None)
    if sampling is None:
        assert any(isinstance(block, Missing) for block in sampling_section(read_comparison(full)).blocks)
