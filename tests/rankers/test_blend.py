"""The blend of trees and a network: planted weights, small logs, tasks of one part, and a killed training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shelfrank.config.rankers import DEFAULT_RANKER
from shelfrank.core.artifact import read_manifest
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.explain.explanation import Method
from shelfrank.explain.rows import explain
from shelfrank.metrics import reciprocal_rank
from shelfrank.rankers import RANKERS, ranker_spec
from shelfrank.rankers.blend import Blend, fit_blend, n_positive_searches, network_of
from shelfrank.rankers.blending import NETWORK_ALONE, TREES_ALONE, TaskBlend, load_blends
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.rankers.neural import WEIGHTS, NeuralRanker
from shelfrank.rankers.run import KIND, Run, problem, resolve_experiment, train
from tiny import hand_split, tiny

SMALL_LOG = "blend.min_searches=1000000"


@pytest.fixture
def prepared(small_prepared: Path) -> PreparedData:
    return PreparedData.open(small_prepared)


def planted(network: float, trees: float, n_searches: int = 20_000, of_position: float = 0.0) -> dict[str, np.ndarray]:
    """Logits of two parts and one choice of each page of eight, by their weighted sum and the position."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(2, n_searches, 8)) * np.array([1.0, 3.0])[:, None, None] - 3
    positions = rng.permuted(np.tile(np.arange(1, 9), (n_searches, 1)), axis=1)
    utility = network * parts[0] + trees * parts[1] - of_position * np.log(positions)
    chosen = np.arange(8) == (utility + rng.gumbel(size=utility.shape)).argmax(axis=1)[:, None]
    return {
        "network": parts[0].ravel(),
        "trees": parts[1].ravel(),
        "positive": chosen.ravel(),
        "search_offsets": np.arange(0, 8 * n_searches + 1, 8),
        "positions": positions.ravel(),
    }


def test_the_weights_of_a_planted_sum_are_found() -> None:
    blend = fit_blend(**planted(1.2, 0.2))
    assert blend.trees / blend.network == pytest.approx(0.2 / 1.2, abs=0.02)
    # The trees' logits are three times as far apart.
    assert blend.share_of_trees == pytest.approx(0.6 / 1.8, abs=0.02)


def test_no_other_weights_have_a_higher_mrr_on_what_was_planted() -> None:
    data = planted(0.9, 0.5)
    blend = fit_blend(**data)
    offsets, labels = data["search_offsets"], data["positive"].astype(np.int8)
    keys = np.arange(len(labels)).astype(np.uint64)

    def mrr(trees: float) -> float:
        scores = (blend.network * data["network"] + trees * data["trees"]).astype(np.float32)
        return float(np.nanmean(reciprocal_rank(scores, labels, offsets, keys, 10)))

    best = mrr(blend.trees)
    assert best > max(mrr(blend.trees * factor) for factor in (0.0, 0.5, 2.0, 10.0)) + 0.003
    assert best > max(mrr(blend.trees * factor) for factor in (0.8, 1.25)) - 0.001


def test_a_part_that_imitates_the_shown_order_gains_nothing() -> None:
    data = planted(1.0, 0.0, of_position=1.0)
    data["trees"] = -np.log(data["positions"]) + np.random.default_rng(1).normal(0, 0.3, len(data["trees"]))
    # Where all are shown alike, the imitation is the best that there is to explain the choices.
    alike = {**data, "positions": np.ones_like(data["positions"])}
    assert fit_blend(**alike).share_of_trees > 0.3
    assert fit_blend(**data).share_of_trees < 0.05


def test_the_blends_probabilities_have_the_labels_mean() -> None:
    data = planted(0.9, 0.5)
    blend = fit_blend(**data)
    logits = blend.network * data["network"] + blend.trees * data["trees"] + blend.intercept
    assert (1 / (1 + np.exp(-logits))).mean() == pytest.approx(1 / 8, abs=1e-3)


def test_parts_that_order_the_wrong_way_leave_the_trees_alone() -> None:
    data = planted(-1.0, -1.0)
    blend = fit_blend(**data)
    assert (blend.network, blend.share_of_trees) == (0.0, 1.0)
    assert blend.trees > 0
    logits = blend.trees * data["trees"] + blend.intercept
    assert (1 / (1 + np.exp(-logits))).mean() == pytest.approx(1 / 8, abs=1e-3)


def test_searches_with_a_positive_of_any_task_are_counted() -> None:
    rows = hand_split([[1, 1], [0, 0], [0, -1], [0, 1], [-1, 0]], sizes=[2, 1, 2])
    assert n_positive_searches(rows) == 2


def test_a_blend_adds_up_its_parts(small_runs: dict[str, Path], prepared: PreparedData) -> None:
    run = Run.open(small_runs["blend"])
    ranker, rows = run.ranker(prepared), prepared.split("test")
    assert isinstance(ranker, Blend)
    assert isinstance(network_of(ranker), NeuralRanker)
    found, of_network = ranker.score(rows), ranker.network.score(rows)
    of_trees = ranker.trees.score(rows)
    for i, task in enumerate(rows.tasks):
        blend = ranker.blends[task]
        logits = [np.log(each[:, i].astype(np.float64) / (1 - each[:, i])) for each in (of_network, of_trees)]
        expected = 1 / (1 + np.exp(-(blend.network * logits[0] + blend.trees * logits[1] + blend.intercept)))
        assert found[:, i] == pytest.approx(expected, rel=1e-4)
    shares = run.manifest.info["fitted"]["shares"]
    assert {task: sum(parts.values()) for task, parts in shares.items()} == pytest.approx(dict.fromkeys(rows.tasks, 1))
    assert any(choice.startswith("click: network ") for choice in run.manifest.info["fitted"]["choices"])
    assert run.label == "Blend (LambdaMART, Network)"
    assert run.manifest.info["fitted"]["parameters"] == ranker.network.model.parameter_counts()


def test_each_part_is_what_it_is_alone(small_runs: dict[str, Path], prepared: PreparedData) -> None:
    ranker, rows = Run.open(small_runs["blend"]).ranker(prepared), prepared.split("test")
    assert isinstance(ranker, Blend)
    for part, alone in ((ranker.trees, "lambdamart"), (ranker.network, "network")):
        assert part is not None
        assert np.array_equal(part.score(rows), Run.open(small_runs[alone]).ranker(prepared).score(rows))


def test_a_small_log_is_ranked_by_trees_alone(prepared: PreparedData, tmp_path: Path) -> None:
    config = tiny("blend", SMALL_LOG)
    assert train(prepared.path, "blend", config, tmp_path / "run")
    run, rows = Run.open(tmp_path / "run"), prepared.split("test")
    ranker = run.ranker(prepared)
    assert isinstance(ranker, Blend)
    assert (ranker.network, network_of(ranker), set(ranker.blends.values())) == (None, None, {TREES_ALONE})
    assert not (run.path / WEIGHTS).exists()
    assert np.array_equal(ranker.score(rows), ranker.trees.score(rows))
    fitted = run.manifest.info["fitted"]
    n = n_positive_searches(prepared.split("train"))
    assert fitted["choices"][0] == (
        f"trees alone: the log has {n} training searches with a positive, and a network takes 1,000,000 "
        "(blend.min_searches)"
    )
    assert (fitted["shares"], fitted["parameters"]) == (None, None)
    assert run.label == "Blend (LambdaMART alone)"
    (why,) = explain(ranker, rows.run_of_searches(0, 1).searches(np.array([0])))[:1]
    assert why.method is Method.SHAP


@pytest.mark.parametrize(("n_searches", "is_few"), [(99, True), (100, False)])
def test_shares_that_few_searches_decide_are_uncertain(n_searches: int, is_few: bool, prepared: PreparedData) -> None:
    ranker = Blend(problem(prepared, tiny("blend")))
    ranker.blends = {"click": TaskBlend(0.5, 0.5, 0.0, 0.5), "add_to_cart": TREES_ALONE}
    valid = hand_split([[1, 1, 0], [0, 0, 0]] * n_searches, sizes=[2] * n_searches)
    notes = ranker._few_searches(valid)
    assert len(notes) == is_few
    assert not is_few or "fewer than 100 validation searches have a positive (click 99)" in notes[0]


def without_positives(rows: Split, task: int) -> Split:
    labels = rows.labels.copy()
    labels[:, task] = 0
    return replace(rows, labels=labels)


def test_a_task_that_one_part_cannot_learn_is_the_others(prepared: PreparedData, tmp_path: Path) -> None:
    train_rows, valid, test = (prepared.split(name) for name in ("train", "valid", "test"))
    ranker = ranker_spec("blend").build(problem(prepared, tiny("blend", "task_weights={click: 1, purchase: 1}")))
    assert isinstance(ranker, Blend)
    ranker.fit(without_positives(train_rows, 2), valid)
    assert ranker.network is not None
    # The network weighs no carts, and the trees have no purchases.
    assert (ranker.blends["add_to_cart"], ranker.blends["purchase"]) == (TREES_ALONE, NETWORK_ALONE)
    found = ranker.score(test)
    assert found[:, 1] == pytest.approx(ranker.trees.score(test)[:, 1], rel=1e-5)
    assert found[:, 2] == pytest.approx(ranker.network.score(test)[:, 2], rel=1e-5)
    why = explain(ranker, test.searches(np.array([0])))[0]
    assert 1 / (1 + np.exp(-why.logits)) == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("baseline", ["mean", "neutral"])
def test_contributions_add_up_to_the_blended_logit(
    baseline: str, small_runs: dict[str, Path], prepared: PreparedData
) -> None:
    ranker, page = Run.open(small_runs["blend"]).ranker(prepared), prepared.split("test").searches(np.array([3]))
    assert isinstance(ranker, Blend)
    found = explain(ranker, page, baseline)
    parts = [explain(part, page, baseline) for part in (ranker.network, ranker.trees) if part is not None]
    for row, why in enumerate(found):
        assert why.method is Method.BLEND
        assert 1 / (1 + np.exp(-why.logits)) == pytest.approx(ranker.score(page)[row], rel=1e-4)
        assert why.gaps == pytest.approx(np.zeros(3), abs=0.02)
        for i, task in enumerate(why.tasks):
            blend = ranker.blends[task]
            expected = blend.network * parts[0][row].contributions[i] + blend.trees * parts[1][row].contributions[i]
            assert why.contributions[i] == pytest.approx(expected)


def test_what_the_trees_refuse_is_told_before_the_network_trains(
    prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*_: object) -> None:
        raise AssertionError("the network must not train")

    monkeypatch.setattr(NeuralRanker, "fit", trained)
    train_rows, valid = prepared.split("train"), prepared.split("valid")
    ranker = ranker_spec("blend").build(problem(prepared, tiny("blend")))
    with pytest.raises(UserError, match="the valid split must have at least one positive label"):
        ranker.fit(train_rows, replace(valid, labels=np.zeros_like(valid.labels)))
    monkeypatch.setattr(LambdaMART, "max_rows", 3)
    with pytest.raises(UserError, match="at most 3 products, but the train split has one of"):
        ranker.fit(train_rows, valid)


class Killed(BaseException):
    """A training that ends in mid-run."""


@pytest.mark.parametrize("when", ["before the trees", "after the trees"])
def test_a_killed_blend_resumes_to_the_same_bits(
    when: str, small_runs: dict[str, Path], prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(fit: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object) -> object:
            if when == "after the trees":
                fit(*args)
            raise Killed

        return run

    config = tiny("blend")
    with monkeypatch.context() as patch:
        patch.setattr(LambdaMART, "fit", killed(LambdaMART.fit))
        with pytest.raises(Killed):
            train(prepared.path, "blend", config, tmp_path / "run")
    checkpoint = tmp_path / ".run.checkpoint" / "checkpoint.safetensors"
    assert checkpoint.is_file()
    with monkeypatch.context() as patch:
        # The finished network is not trained again.
        patch.setattr("shelfrank.train.trainer.Trainer.train_epoch", killed(lambda *_: None))
        assert train(prepared.path, "blend", config, tmp_path / "run", resume=True)
    files = [read_manifest(path, KIND).files for path in (tmp_path / "run", small_runs["blend"])]
    for name in (WEIGHTS, "model.click.txt", "trees.json", "blend.json"):
        assert files[0][name] == files[1][name]


@pytest.mark.parametrize(
    ("assignments", "error"),
    [
        (["lambdamart.per_task=false"], "lambdamart.per_task must be true for a blend"),
        (["blend.network=lambdamart"], "blend.network must be a network, such as mmoe_dcn_v2, but lambdamart"),
        (["blend.network=blend"], "blend.network must be a network, such as mmoe_dcn_v2, but blend"),
        (["blend.network=mmoe_dcn"], "unknown ranker 'mmoe_dcn'"),
    ],
)
def test_what_cannot_be_blended_is_told(assignments: list[str], error: str, prepared: PreparedData) -> None:
    with pytest.raises(UserError, match=error):
        ranker_spec("blend").build(problem(prepared, resolve_experiment("blend", None, assignments, None)))


def test_a_blends_network_has_its_own_preset_and_name() -> None:
    config = resolve_experiment("blend", None, ["blend.network=mmoe_ftt", "neural.d_embedding=32"], None)
    assert (config.neural.bottom, config.neural.d_embedding) == ("ft_transformer", 32)
    assert RANKERS["blend"].label_for(config) == "Blend (LambdaMART, MMoE + FT-T)"
    config = resolve_experiment("blend", None, [], None, settings={"blend": {"network": "mmoe"}})
    assert config.neural == resolve_experiment("mmoe", None, [], None).neural
    assert DEFAULT_RANKER == "blend"


@pytest.mark.parametrize("text", ["", "[]", '{"click": 1}', '{"click": {"network": 1}}'])
def test_broken_weights_are_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "blend.json").write_text(text)
    with pytest.raises(UserError, match=r"blend.json must hold each task's weights"):
        load_blends(tmp_path)
