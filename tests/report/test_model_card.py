"""Model cards: every figure is that of the evaluation or computed anew, and every statement follows from a fact."""

import dataclasses
import json
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markupsafe import Markup

from html_checks import StrictPage, drawings
from shelfrank.config import EvaluateConfig, PrepareConfig, RelevanceConfig, resolve
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.compare import compare
from shelfrank.evaluate.evaluation import Evaluation, evaluate
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers.run import Run, train
from shelfrank.report.card_facts import FEW_SEARCHES, Facts, commands, gather
from shelfrank.report.comparison import read_comparison
from shelfrank.report.estimates import Estimate
from shelfrank.report.formats import brief, number, task_name
from shelfrank.report.model_card import MARKDOWN, PAGE, card_markdown, card_page, model_card, plain, write_model_card
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import simulate
from tiny import TINY_EVALUATION, tiny

RANKERS = ("mmoe_dcn_v2", "xgboost", "lambdamart", "blend", "popularity", "shown_order")


@pytest.fixture(scope="module")
def facts(small_runs: dict[str, Path], small_evaluations: dict[str, Path]) -> Facts:
    return gather(Run.open(small_runs["mmoe_dcn_v2"]), Evaluation.open(small_evaluations["mmoe_dcn_v2"]))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """A simulated shop with relevance labels, measured on the validation split."""
    folder = tmp_path_factory.mktemp("simulated")
    config = resolve(
        StorefrontConfig, None, ["searches=150", "products=400", "customers=60", "seed=5", "queries.typo=0.2"]
    )
    simulate(folder / "log", config)
    settings = PrepareConfig(relevance=RelevanceConfig(min_products=3))
    prepare(folder / "log", folder / "prepared", settings)
    train(folder / "prepared", "mmoe", tiny("mmoe", "exclude_sides=[customer]", seed=4), folder / "run")
    evaluate(folder / "run", folder / "evaluation", TINY_EVALUATION, "valid")
    return gather(Run.open(folder / "run"), Evaluation.open(folder / "evaluation"))


def test_the_card_of_a_blend_has_both_parts(small_runs: dict[str, Path], small_evaluations: dict[str, Path]) -> None:
    card = model_card(Run.open(small_runs["blend"]), Evaluation.open(small_evaluations["blend"]))
    assert "a model per task, up to 15 leaves) and the network that follows" in card
    assert "Towers, one per task: click, add to cart and purchase" in card
    assert re.search(r"click: network [\d]+ %, trees [\d]+ %", card)


@pytest.mark.parametrize("name", RANKERS)
def test_every_ranker_has_a_card_and_a_strict_page(
    name: str, small_runs: dict[str, Path], small_evaluations: dict[str, Path]
) -> None:
    run, evaluation = Run.open(small_runs[name]), Evaluation.open(small_evaluations[name])
    card, html = model_card(run, evaluation), card_page(gather(run, evaluation))
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "unknown"
    sections = re.findall(r"^## (.*)$", body, re.MULTILINE)
    page = StrictPage(html)
    assert [page_section["id"] for page_section in page.all("section")] == [
        "model", "intended-use", "data", "ranking-quality", "quality-by-segment", "calibration", "learning-curve",
        "limits", "fairness", "how-to-reproduce",
    ]  # fmt: skip
    assert len(sections) == 10
    for title in sections:
        assert title in page.text
    assert not page.all("script") + page.all("link") + page.all("img")
    assert "default-src 'none'" in html
    drawings(html)
    # Every table has as many cells in each row as in its head.
    for table in re.findall(r"(?:^\|.*\|\n)+", body, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_figures_are_those_of_the_evaluation_and_of_a_comparison(
    facts: Facts, small_evaluations: dict[str, Path], tmp_path: Path
) -> None:
    own, shown = small_evaluations["mmoe_dcn_v2"], small_evaluations["shown_order"]
    compare([shown, own], tmp_path / "out", "shown_order", lambda comparison, file: file.write_text("page"))
    told: dict[str, Any] = json.loads((tmp_path / "out" / "comparison.json").read_text())
    expected = read_comparison(told)
    assert facts.known.rankers[0].mrr == expected.rankers[0].mrr
    assert facts.known.rankers[0].auc == expected.rankers[0].auc
    assert facts.ranker.ndcg == expected.rankers[1].ndcg
    found, wanted = facts.known.differences["mmoe_dcn_v2"], expected.differences["mmoe_dcn_v2"]
    for family in ("mrr", "ndcg"):
        assert {
            (k, task): (figure.value, figure.low, figure.high)
            for k, by_task in getattr(found, family).items()
            for task, figure in by_task.items()
        } == {
            (k, task): (figure.value, figure.low, figure.high)
            for k, by_task in getattr(wanted, family).items()
            for task, figure in by_task.items()
        }
    assert [figure.value for figure in found.auc.values()] == [figure.value for figure in wanted.auc.values()]
    assert facts.known.counts == expected.counts
    for name, segments in expected.segments.items():
        for part, segment in segments.items():
            mine = facts.known.segments[name][part]
            assert mine.rankers["mmoe_dcn_v2"] == segment.rankers["mmoe_dcn_v2"]
            assert mine.searches == segment.searches


def test_the_card_holds_each_figure_with_its_interval(
    facts: Facts, small_runs: dict[str, Path], small_evaluations: dict[str, Path]
) -> None:
    report = Evaluation.open(small_evaluations["mmoe_dcn_v2"]).report
    card = model_card(Run.open(small_runs["mmoe_dcn_v2"]), Evaluation.open(small_evaluations["mmoe_dcn_v2"]), "mit")
    for figure in (report["auc"]["click"], report["mrr"]["5"]["purchase"], report["ndcg"]["1"]["add_to_cart"]):
        interval = Estimate.model_validate(figure)
        assert f"{number(interval.value)} ({brief(interval)})" in card
    front = yaml.safe_load(card.split("---\n", 2)[1])
    (result,) = front["model-index"][0]["results"]
    named = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert named["MRR@5, add to cart"] == round(report["mrr"]["5"]["add_to_cart"]["value"], 4)
    assert (front["license"], front["metrics"]) == ("mit", ["auc", "mrr", "ndcg"])
    assert facts.run.manifest.fingerprint in card
    assert facts.prepared.manifest.fingerprint in card
    assert f"{report['params']['trainable']:,} trainable" in card


def test_rows_of_cold_and_warm_products_are_all_rows(facts: Facts) -> None:
    split, train_split = facts.prepared.split("test"), facts.prepared.split("train")
    cold = ~np.isin(split.product_idx, train_split.product_idx)
    assert facts.auc_of_products["cold"]["rows"] == np.count_nonzero(cold)
    assert facts.auc_of_products["warm"]["rows"] == np.count_nonzero(~cold)


def _section(facts: Facts, title: str) -> str:
    """A section of the card, without the characters that keep Markdown from reading it."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", card_markdown(facts), re.MULTILINE | re.DOTALL)
    return found.replace("\\", "")


def test_limits_follow_from_the_facts(facts: Facts, simulated: Facts) -> None:
    real, made = _section(facts, "Limits"), _section(simulated, "Limits")
    assert ("simulated" in real, "simulated" in made) == (False, True)
    assert "validation split, which decided when training stopped" in made
    assert "Excluded on purpose: all customer features." in made
    few = {task: n for task, n in facts.known.counts.with_positive.items() if n < FEW_SEARCHES}
    assert few
    for task, n in few.items():
        assert f"{task_name(task)} {n}" in real.split("these intervals are wide")[0]
    assert "note on positions" not in real
    assert "labels were collected under the shown order" in real


def test_a_log_whose_positions_nobody_was_shown_gives_no_reference(
    small_runs: dict[str, Path], small_evaluations: dict[str, Path], monkeypatch: pytest.MonkeyPatch, facts: Facts
) -> None:
    assert facts.log is not None
    monkeypatch.setitem(facts.log.info["notes"], "position", "made up from a hash")
    for module in ("report.card_facts", "evaluate.compare"):
        monkeypatch.setattr(import_module(f"shelfrank.{module}"), "log_manifest", lambda _: facts.log)
    run, evaluation = Run.open(small_runs["xgboost"]), Evaluation.open(small_evaluations["xgboost"])
    card = model_card(run, evaluation)
    assert "The log's note on positions: made up from a hash." in card
    assert "| Shown order |" not in card
    assert [ranker.name for ranker in gather(run, evaluation).known.rankers] == ["xgboost"]


def test_fairness_names_the_customer_features_that_are_read(facts: Facts, simulated: Facts) -> None:
    told = _section(facts, "Fairness")
    assert "1 declared by the log: age_band." in told
    assert "customer_recency" in told
    assert "It reads no customer features" in _section(simulated, "Fairness")


def test_the_commands_make_the_same_configs(simulated: Facts) -> None:
    lines = commands(simulated).replace("\\\n", " ").splitlines()
    steps = {words[1]: words for line in lines if (words := shlex.split(line))[0] == "shelfrank"}
    given = {step: [words[i + 1] for i, w in enumerate(words) if w == "--set"] for step, words in steps.items()}
    assert simulated.log is not None
    log = resolve(StorefrontConfig, None, given["simulate"])
    assert log.model_dump(mode="json") == simulated.log.inputs["config"]
    prepared = resolve(PrepareConfig, None, given["prepare"])
    assert (
        prepared.model_dump(mode="json", exclude={"engine", "semantic_scores"})
        == (simulated.prepared.manifest.inputs["config"])
    )
    trained = resolve(type(simulated.run.config), None, given["train"], base={"neural": {"bottom": "none"}})
    assert trained == simulated.run.config
    assert steps["train"][3:5] == ["--ranker", "mmoe"]
    assert resolve(EvaluateConfig, None, given["evaluate"]) == TINY_EVALUATION
    assert steps["evaluate"][5:7] == ["--split", "valid"]


def test_data_without_its_log_still_has_a_card(
    small_runs: dict[str, Path], small_evaluations: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("report.card_facts", "evaluate.compare", "evaluate.data_facts"):
        monkeypatch.setattr(import_module(f"shelfrank.{module}"), "log_manifest", lambda _: None)
    card = model_card(Run.open(small_runs["mmoe_dcn_v2"]), Evaluation.open(small_evaluations["mmoe_dcn_v2"]))
    assert "unknown, the log is no longer available" in card


def test_clicks_alone_have_a_card(click_only_prepared: Path, tmp_path: Path) -> None:
    train(click_only_prepared, "mmoe", tiny("mmoe"), tmp_path / "run")
    evaluate(tmp_path / "run", tmp_path / "evaluation", TINY_EVALUATION)
    card = model_card(Run.open(tmp_path / "run"), Evaluation.open(tmp_path / "evaluation"))
    assert "The log has no labels of add to cart and purchase." in card


def test_a_card_is_written_once(
    small_runs: dict[str, Path], small_evaluations: dict[str, Path], tmp_path: Path
) -> None:
    run, evaluation = small_runs["mmoe_dcn_v2"], small_evaluations["mmoe_dcn_v2"]
    assert write_model_card(run, evaluation, tmp_path / "card", "mit")
    before = {file.name: file.read_bytes() for file in (tmp_path / "card").iterdir()}
    assert set(before) == {MARKDOWN, PAGE, "manifest.json"}
    assert not write_model_card(run, evaluation, tmp_path / "card", "mit")
    assert {file.name: file.read_bytes() for file in (tmp_path / "card").iterdir()} == before
    assert write_model_card(run, evaluation, tmp_path / "card", "apache-2.0")


def test_what_does_not_belong_together_is_refused(
    small_runs: dict[str, Path], small_evaluations: dict[str, Path], small_prepared: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="of another run"):
        model_card(Run.open(small_runs["xgboost"]), Evaluation.open(small_evaluations["mmoe_dcn_v2"]))
    shutil.copytree(small_prepared, tmp_path / "prepared")
    prepared = PreparedData.open(tmp_path / "prepared")
    train(prepared.path, "shown_order", tiny("shown_order"), tmp_path / "run")
    evaluate(tmp_path / "run", tmp_path / "evaluation", TINY_EVALUATION)
    shutil.rmtree(prepared.path)
    with pytest.raises(UserError):
        write_model_card(tmp_path / "run", tmp_path / "evaluation", tmp_path / "card")
    assert not (tmp_path / "card").exists()


HOSTILE = "</h1><script>alert(1)</script> | ![x](y) *b* `c` &lt; {{ 7*7 }}\n# heading"


def test_names_are_shown_as_they_are_and_never_read_as_markup(facts: Facts) -> None:
    ranker = facts.ranker.model_copy(update={"choices": [HOSTILE, "- item"]})
    known = facts.known.model_copy(update={"title": HOSTILE})
    hostile = dataclasses.replace(facts, known=known, ranker=ranker)
    card, html = card_markdown(hostile, HOSTILE), card_page(hostile, HOSTILE)
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == HOSTILE
    assert len(re.findall(r"^# ", body, re.MULTILINE)) == 1
    page = StrictPage(html)
    assert not page.all("script") + page.all("img")
    assert len(page.all("a")) == len(page.all("section"))
    shown = "<script>alert(1)</script> | ![x](y) *b* `c` &lt; {{ 7*7 }} # heading"
    assert page.text.count(shown) >= 4
    assert page.text.count("alert(1)") == page.text.count(shown)


def test_words_mean_nothing_to_markdown() -> None:
    assert plain("a_b|c *d*\n`e` <f> [g](h) ~i~ &j") == r"a\_b\|c \*d\* \`e\` \<f\> \[g\](h) \~i\~ \&j"
    assert plain(Markup("*d*")) == "*d*"


def test_code_cannot_end_its_own_fence(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfrank.report.card_facts.commands", lambda _: "a\n```\n# not a heading\n````b")
    page = StrictPage(card_page(facts))
    assert "a ``` # not a heading ````b" in page.text
    assert len(page.all("h1")) == 1
