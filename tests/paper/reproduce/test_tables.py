"""Tables and claims from figures, in every format; and the committed ones from the committed figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from html_checks import StrictPage
from shelfrank.paper.reproduce.claims import pairs
from shelfrank.paper.reproduce.formats import latex_table, markdown_claims, markdown_table
from shelfrank.paper.reproduce.page import conclusion
from shelfrank.paper.reproduce.pipeline import TABLES, write_pages
from shelfrank.paper.reproduce.rows import BY_NAME
from shelfrank.paper.reproduce.tables import tables

ROOT = Path(__file__).resolve().parents[3]
KEPT = sorted(folder.parent for folder in (ROOT / "results").glob("*/summary.json"))


def figure(value: float | None, n_seeds: int = 2) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.01, value + 0.01)
    return {"value": value, "low": low, "high": high, "n": 100, "n_undefined": 0, "seeds": [value] * n_seeds}


def summary() -> dict[str, Any]:
    """Figures of two rows."""

    def row(mrr: float) -> dict[str, Any]:
        tasks = {"click": figure(mrr), "add_to_cart": figure(mrr), "purchase": figure(None)}
        weights = {"click": 0.4, "add_to_cart": 0.1, "purchase": 0.5}
        parameters = {"trainable": 998_000, "total": 998_000}
        auc = {"click": figure(0.8)}
        return {
            "auc": auc, "mrr": tasks, "pd": figure(0.9), "weights": weights, "parameters": parameters, "n_seeds": 2,
        }  # fmt: skip

    change = {**figure(-0.01), "p": 0.01, "base": 0.33, "percent": {"value": -3.03, "low": -6.0, "high": -0.1}}
    split = {"searches": 10, "queries": 5, "products": 7, "customers": 3, "impressions": 90}
    return {
        "shelfrank": "0.1.0",
        "torch": "2.13.0",
        "budget": {
            "name": "smoke", "text_model": "packaged", "weights": "paper", "settings": [],
            "ft_transformer_settings": [], "text_settings": [],
        },
        "tasks": ["click", "add_to_cart", "purchase"],
        "data": {
            "name": "a & b <shop>", "fingerprint": "f" * 64, "sampled": True, "notes": ["Kept 5 of 10."],
            "splits": dict.fromkeys(("train", "valid", "test"), split), "features": {}, "columns": 9,
        },
        "rows": {"mmoe_dcn_v2": row(0.33), "mmoe_dcn_v2-no_semantic_score": row(0.32)},
        "differences": {"mrr/click/mmoe_dcn_v2-no_semantic_score/mmoe_dcn_v2": change},
        "left_out": {"tabnet": "the reason"},
    }  # fmt: skip


def test_a_markdown_cell_has_figure_interval_change_and_the_papers() -> None:
    third = markdown_table(tables(summary(), ["table3"])[0])
    assert "0.320<br>(0.310–0.330)<br>−3.03 % (−6.00 to −0.10)<br>*0.322 (−2.12 %)*" in third
    assert "TabNet" not in third
    second = markdown_table(tables(summary(), ["table2"])[0])
    assert "0.800<br>(0.790–0.810)<br>*0.830*" in second
    assert "998K<br>*998K*" in second
    assert "- TabNet is left out: the reason." in second


def test_a_latex_table_has_as_many_cells_in_every_row() -> None:
    for table in tables(summary(), TABLES):
        text = latex_table(table)
        rows = [line for line in text.splitlines() if line.endswith(r" \\")]
        width = len(table.columns) + 1
        for line in rows:
            spans = sum(int(part.split("{")[1].rstrip("}")) - 1 for part in line.split(r"\multicolumn")[1:] if part)
            assert line.replace(r"\&", "").count("&") + 1 + spans == width, line
        assert "%" not in text.replace(r"\%", "")


def test_table_1_counts_every_split() -> None:
    (first,) = tables(summary(), ["table1"])
    assert [line.label for line in first.lines] == ["the paper's sampled data", "train, sampled", "valid", "test"]
    assert first.lines[0].figures[3].paper == "59,153,886"
    assert [figure.ours for figure in first.lines[1].figures] == ["5", "7", "3", "90"]


def test_the_page_is_sound_and_escapes_names(tmp_path: Path) -> None:
    write_pages(tmp_path, summary(), TABLES, with_claims=True)
    html = (tmp_path / "reproduction.html").read_text(encoding="utf-8")
    StrictPage(html)
    assert "a &amp; b &lt;shop&gt;" in html
    assert {"tables.md", "tables.tex", "tables.json", "claims.md"} <= {file.name for file in tmp_path.iterdir()}


def test_what_no_search_counts_for_is_a_dash(tmp_path: Path) -> None:
    told = summary()
    change = {**dict.fromkeys(("value", "low", "high", "p", "base", "percent")), "seeds": [None, None], "n": 0}
    told["rows"]["mmoe_dcn_v2"]["pd"] = figure(None)
    told["differences"] = {pair.key: change for pair in pairs()}
    (line,) = (line for line in tables(told, ["table2"])[0].lines if line.label == BY_NAME["mmoe_dcn_v2"].label)
    assert [each.ours for each in line.figures] == [
        *("0.800", "", "", "0.330", "0.330", "–", "0.4", "0.1", "0.5", "–", "998K", "998K")
    ]  # fmt: skip
    write_pages(tmp_path, told, TABLES, with_claims=True)
    StrictPage((tmp_path / "reproduction.html").read_text(encoding="utf-8"))
    assert (tmp_path / "claims.md").read_text(encoding="utf-8").count("| not measured | –, – | inconclusive |") == 72


def test_without_figures_no_claim_is_decided() -> None:
    said = markdown_claims({})
    assert said.count("not measured") == 72
    assert conclusion({}) == "Of the paper's claims, C1, C2, C3, C4, C5, C6, C7 and C8 are inconclusive."


@pytest.mark.parametrize("kept", KEPT, ids=lambda folder: folder.name)
def test_committed_tables_are_those_of_the_committed_figures(kept: Path, tmp_path: Path) -> None:
    write_pages(tmp_path, json.loads((kept / "summary.json").read_text(encoding="utf-8")), TABLES, with_claims=True)
    for name in ("tables.md", "tables.tex", "tables.json", "claims.md"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (kept / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("kept", KEPT, ids=lambda folder: folder.name)
def test_committed_figures_are_those_of_the_committed_reports(kept: Path) -> None:
    """Each cell is the mean of its runs' own figures."""
    told = json.loads((kept / "summary.json").read_text(encoding="utf-8"))
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((kept / "runs").glob("*.json"))]
    assert {report["inputs"]["prepared"] for report in reports} == {told["data"]["fingerprint"]}
    for name, row in told["rows"].items():
        own = [report for report in reports if report["name"].rpartition("-seed")[0] == name]
        assert len(own) == row["n_seeds"]
        assert sorted(report["seed"] for report in own) == list(range(row["n_seeds"]))
        for task in told["tasks"]:
            values = [report["mrr"]["1"][task]["value"] for report in own]
            assert row["mrr"][task]["seeds"] == pytest.approx(values)
            assert row["mrr"][task]["value"] == pytest.approx(sum(values) / len(values))
            if task in row["auc"]:
                assert row["auc"][task]["seeds"] == [report["auc"][task]["value"] for report in own]
        if row["pd"]:
            assert row["pd"]["seeds"] == pytest.approx([report["pd"]["10"]["value"] for report in own])
