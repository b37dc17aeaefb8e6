import base64
import copy
import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparison_example import full_comparison

from html_checks import StrictPage, drawings
from shelfrank.core.errors import UserError
from shelfrank.report import render, write_report
from shelfrank.report.comparison import read_comparison

SECTIONS = [
    "result", "rankers", "segments", "personalization", "learning",
    "calibration", "data", "sampling", "cost", "provenance",
]  # fmt: skip
HOSTILE = "</title></style></svg>\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;{{ 7*7 }}"


def _check(html: str) -> StrictPage:
    page = StrictPage(html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "for"):
        for _, attributes in page.elements:
            for target in (attributes.get(name) or "").split():
                assert target in ids
    assert {attributes["href"] for attributes in page.all("a")} <= {f"#{target}" for target in ids}
    assert [attributes["id"] for attributes in page.all("section")] == SECTIONS
    drawings(html)
    return page


def _changed(data: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(data, dict):
        return {key: _changed(value, change) for key, value in data.items()}
    if isinstance(data, list):
        return [_changed(value, change) for value in data]
    return change(data)


def _paths(data: Any, before: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every key of every dict, and of the first element of every list."""
    children = (
        list(data.items()) if isinstance(data, dict) else list(enumerate(data[:1])) if isinstance(data, list) else []
    )
    found = [(*before, key) for key, _ in children if isinstance(data, dict)]
    return found + [path for key, value in children for path in _paths(value, (*before, key))]


def _without(data: Any, path: tuple[str | int, ...], null: bool = False) -> Any:
    changed = copy.deepcopy(data)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if null:
        place[path[-1]] = None
    else:
        del place[path[-1]]
    return changed


def test_the_full_page_is_well_formed_and_speaks_of_every_ranker(full: dict[str, Any]) -> None:
    page = _check(render(full))
    for ranker in full["rankers"]:
        assert ranker["label"] in page.text
    assert "shelfrank 0.1.0" in page.text


@pytest.mark.parametrize("n_rankers", [0, 1, 2, 12])
def test_any_number_of_rankers_gives_a_page(n_rankers: int) -> None:
    page = _check(render(full_comparison(max(n_rankers, 1)) | ({} if n_rankers else {"rankers": []})))
    assert ("No ranker was evaluated" in page.text) == (n_rankers == 0)


def test_a_click_only_comparison_says_what_is_missing(click_only: dict[str, Any]) -> None:
    page = _check(render(click_only))
    for words in (
        "gbdt beats the baseline (shown_order) on click (90 % interval above 0).",
        "Sizes of the splits are not part of this comparison.",
        "Not recorded in this comparison: what was left out",
        "The best possible order is not known",
        "Figures by query frequency, customer and product are not part",
        "No ranker of this comparison recorded its losses.",
        "Predicted probabilities are not part",
        "Personalization Degree is not part",
        "How far products move, and example pages, are not part",
        "The cost of the steps was not recorded",
        "The resolved settings of the rankers are not part",
    ):
        assert words in page.text
    assert "Add to cart" not in page.text


def test_an_empty_comparison_is_still_a_page() -> None:
    page = _check(render({}))
    assert "No task was evaluated, so there is nothing to conclude." in page.text


REQUIRED = {"name", "product_id", "epoch"}


def test_any_part_may_be_missing(full: dict[str, Any]) -> None:
    small = _smaller(full) | {"tasks": ["click"], "ks": [10]}
    paths = [path for path in _paths(small) if path[-1] not in REQUIRED and "config" not in path[:-1]]
    assert len(paths) > 100
    for path in paths:
        without, null = _without(small, path), _without(small, path, null=True)
        assert read_comparison(without) == read_comparison(null), path
        html = render(without)
        assert html.count("<section") == len(SECTIONS), path
        page = StrictPage(html)
        assert not re.search(r"\b(None|nan|inf)\b", page.text), path


def _smaller(data: Any) -> Any:
    """One task, one cutoff, the baseline and one ranker, short lists: every kind of key once."""
    dropped = {
        "add_to_cart",
        "purchase",
        "1",
        "5",
        "popularity",
        "text_match",
        "lambdamart",
        "mmoe_ft_transformer_text",
    }
    if isinstance(data, dict):
        return {key: _smaller(value) for key, value in data.items() if key not in dropped}
    if isinstance(data, list):
        named = [item for item in data if not (isinstance(item, dict) and item.get("name") in dropped)]
        # The model comes first, since it has all the keys.
        return [_smaller(item) for item in reversed(named[:2])]
    return data


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_unknown_numbers_are_dashes(full: dict[str, Any], value: float | None) -> None:
    for ranker in full["rankers"]:
        ranker["config"] = {}
    page = _check(render(_changed(full, lambda leaf: value if isinstance(leaf, float) else leaf)))
    assert "No MRR@10 is known on click, add to cart and purchase." in page.text
    assert not re.search(r"\b(None|nan|inf)\b", page.text)
    assert "–" in page.text


def test_hostile_text_is_shown_and_never_run(full: dict[str, Any]) -> None:
    hostile = _changed(full, lambda leaf: HOSTILE if isinstance(leaf, str) else leaf)
    # Names that tie the parts together stay; everything that is only shown is hostile.
    for before, after in zip(full["rankers"], hostile["rankers"], strict=True):
        after["name"] = before["name"]
    hostile |= {"tasks": full["tasks"], "baseline": full["baseline"]}
    hostile["moves"] = {HOSTILE: hostile["moves"]["lambdamart"], "lambdamart": hostile["moves"]["lambdamart"]}
    hostile["data"]["left_out"] = {HOSTILE: 3}
    html = render(hostile)
    page = _check(html)
    assert not page.all("script")
    assert not page.all("img")
    assert "{{ 7*7 }}" in page.text
    assert html.count("<style>") == html.count("</style>") == 1
    assert {name for _, attributes in page.elements for name in attributes if name.startswith("on")} == set()
    assert page.text.count("<script>alert(1)</script>") > 20


def test_a_hostile_task_name_does_no_harm(click_only: dict[str, Any]) -> None:
    html = json.dumps(click_only).replace('"click"', json.dumps(HOSTILE))
    page = _check(render(json.loads(html)))
    assert not page.all("script")
    assert "onerror=alert(1)>&amp;{{ 7*7 }}, MRR@10" in page.text


def test_characters_that_no_page_can_hold_are_replaced(full: dict[str, Any], tmp_path: Path) -> None:
    full["rankers"][1]["label"] = "popul\x00ar\ud800ity\x0b"
    write_report(full, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    _check(html)
    assert "popul\ufffdar\ufffdity\ufffd" in html


def test_the_page_loads_nothing(full: dict[str, Any]) -> None:
    html = render(full)
    page = StrictPage(html)
    loading = {"src", "srcset", "data", "action", "poster", "background", "xlink:href", "style"}
    for tag, attributes in page.elements:
        assert not loading & set(attributes), (tag, attributes)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object", "embed", "img", "base"})
    assert not re.search(r"https?://|url\(|@import|javascript:", html)


def test_the_policy_allows_the_style_sheet_and_nothing_else(full: dict[str, Any]) -> None:
    html = render(full)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policies = [meta["content"] or "" for meta in StrictPage(html).all("meta") if "http-equiv" in meta]
    assert len(policies) == 1
    assert policies[0].startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


def test_every_chart_has_a_title_and_a_description(full: dict[str, Any]) -> None:
    charts = [svg for svg in drawings(render(full)) if svg.get("role") == "img"]
    assert len(charts) > 30
    for svg in charts:
        texts = [(child.tag, child.text) for child in svg if child.tag in ("title", "desc")]
        assert [tag for tag, text in texts if text] == ["title", "desc"]


def test_tables_have_captions_and_scopes(full: dict[str, Any]) -> None:
    page = _check(render(full))
    assert len(page.all("caption")) == len(page.all("table")) > 8
    assert all(head.get("scope") in {"col", "row", "colgroup"} for head in page.all("th"))


def test_every_choice_shows_one_of_its_panels(full: dict[str, Any]) -> None:
    radios = StrictPage(render(full)).all("input")
    names = {radio["name"] for radio in radios}
    assert len(names) == 6
    assert sorted(radio["name"] or "" for radio in radios if "checked" in radio) == sorted(name or "" for name in names)


def test_rows_are_as_wide_as_their_head(full: dict[str, Any]) -> None:
    for table in re.findall(r"<table.*?</table>", render(full), re.DOTALL):
        head = len(re.findall(r'scope="col"', table))
        for row in re.findall(r"<tr>.*?</tr>", table[table.index("<tbody>") :], re.DOTALL):
            assert len(re.findall(r"<t[hd][ >]", row)) == head
        spans = sum(map(int, re.findall(r'colspan="(\d+)"', table)))
        assert spans in (0, head - 1)


def test_the_same_comparison_gives_the_same_page(full: dict[str, Any]) -> None:
    assert render(full) == render(json.loads(json.dumps(full)))


def test_the_report_replaces_an_older_one(full: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(full, path)
    assert path.read_text(encoding="utf-8") == render(full)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_missing_folder_is_told(full: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder must exist"):
        write_report(full, tmp_path / "absent" / "report.html")


def test_a_part_of_the_wrong_type_is_named(full: dict[str, Any]) -> None:
    full["rankers"][2]["mrr"]["10"]["click"] = "high"
    with pytest.raises(UserError, match=r"comparison: rankers\.2\.mrr\.10\.click"):
        render(full)


def test_the_expected_figures_of_a_simulated_log_are_shown_and_explained(full: dict[str, Any]) -> None:
    assert "Redrawn" not in render(full)
    for ranker in full["rankers"]:
        for figure in ("redrawn", "unbiased"):
            known = {"value": 0.4321, "low": 0.42, "high": 0.44, "n": 100}
            ranker[figure] = {"10": dict.fromkeys(full["tasks"], known)}
    page = render(full)
    assert "Redrawn MRR@10" in page
    assert "customers examine every product of the page" in page
    assert page.count("0.432") >= 2 * len(full["rankers"]) * len(full["tasks"])
