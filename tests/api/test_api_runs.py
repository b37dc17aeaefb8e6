"""Runs from Python: trained, explained, described, carded, tracked."""

from pathlib import Path

import pytest
import yaml
from small_steps import TREES, Steps

import shelfrank as sr
from shelfrank import tracking
from shelfrank.api import rankers


def test_settings_come_over_a_preset_and_a_file(tmp_path: Path, small_prepared: Path) -> None:
    (tmp_path / "config.yaml").write_text("lambdamart: {n_rounds: 9, min_rows_per_leaf: 7}\n")
    run = sr.train(
        small_prepared,
        ranker="lambdamart",
        out=tmp_path / "run",
        config=tmp_path / "config.yaml",
        lambdamart={"n_rounds": 3},
    )
    written = yaml.safe_load((run.path / "config.yaml").read_text())
    assert (written["lambdamart"]["n_rounds"], written["lambdamart"]["min_rows_per_leaf"]) == (3, 7)


def test_without_a_name_a_blend_is_trained_and_says_what_it_is(tmp_path: Path, small_prepared: Path) -> None:
    run = sr.train(small_prepared, out=tmp_path / "run", blend={"min_searches": 10_000}, **TREES)
    assert (run.info["fitted"]["choices"][0]).startswith("trees alone: the log has ")
    assert yaml.safe_load((run.path / "config.yaml").read_text())["blend"]["network"] == "network"


def test_a_search_is_explained(steps: Steps) -> None:
    table = steps.evaluations["lambdamart"].per_search()
    found = sr.explain(steps.runs["lambdamart"], search=table["search_id"][0], top=3)
    assert found.query == table["query"][0]
    assert [product.rank for product in found.products] == [1, 2, 3]


def test_a_search_is_named_by_the_number_that_its_id_is(steps: Steps) -> None:
    with pytest.raises(sr.UserError, match="but it has no '3'"):
        sr.explain(steps.runs["lambdamart"], search=3)


def test_a_network_is_described_for_some_data(steps: Steps) -> None:
    small, large = (
        sr.describe("mmoe", data=steps.data, neural={"mmoe": {"n_experts": n_experts}}) for n_experts in (2, 4)
    )
    assert 0 < small.trainable < large.trainable
    assert str(steps.data.path) in small.lines()[0]


def test_rankers_are_listed_with_their_labels() -> None:
    assert rankers()["lambdamart"] == "LambdaMART"


def test_a_card_is_written_once_and_shown_in_a_notebook(steps: Steps, tmp_path: Path) -> None:
    run, evaluation = steps.runs["lambdamart"], steps.evaluations["lambdamart"]
    written = [sr.model_card(run, evaluation, out=tmp_path / "card", license="mit") for _ in range(2)]
    assert [card.changed for card in written] == [True, False]
    assert "license: mit" in written[0].markdown.read_text()
    assert written[0]._repr_markdown_().lstrip().startswith("# LambdaMART")
    assert written[0].page.is_file()


def test_a_run_is_tracked_with_its_evaluations(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(tracking, "track", lambda *arguments: given.extend(arguments) or "id7")
    run, evaluation = steps.runs["lambdamart"], steps.evaluations["lambdamart"]
    assert sr.track(run, [evaluation], uri="mlruns") == "id7"
    assert given == [run.path, [evaluation.path], "mlruns", None]
