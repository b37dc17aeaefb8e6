"""The random search over sizes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from planted import planted_prepared

from shelfrank.config import ExperimentConfig, NeuralConfig, TuneConfig, merge, resolve
from shelfrank.config.tune import SizesConfig
from shelfrank.core.errors import UserError
from shelfrank.rankers import RANKERS
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.tune.sizes import draws, falling, is_hopeless, settings_of, space
from shelfrank.tune.tuning import tune
from tiny import tiny

NETWORKS = [name for name, spec in RANKERS.items() if spec.build is NeuralRanker]
SMALL: dict[str, Any] = {
    "d_embedding": [2, 4],
    "layer_width": [8],
    "n_experts": [4],
    "expert_width": [2, 8],
    "tower_width": [4],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_draw_is_a_config_of_every_network(name: str) -> None:
    network = ExperimentConfig.model_validate(RANKERS[name].preset).neural
    drawn = draws(space(network, SizesConfig()), 12, seed=0)
    assert drawn[0] == {}
    networks = [NeuralConfig.model_validate(merge(network.model_dump(), settings_of(network, each))) for each in drawn]
    assert networks[0] == network
    assert len({each.model_dump_json() for each in networks}) > 6
    assert {each.bottom for each in networks} == {network.bottom}


def test_the_seed_decides_the_draws() -> None:
    limits = space(NeuralConfig(), SizesConfig())
    assert draws(limits, 5, seed=1) == draws(limits, 5, seed=1)
    assert draws(limits, 8, seed=1)[:5] == draws(limits, 5, seed=1)
    assert draws(limits, 5, seed=1) != draws(limits, 5, seed=2)


def test_widths_halve_from_layer_to_layer() -> None:
    assert falling(100, 3) == [100, 50, 25]
    assert falling(1, 2) == [1, 1]


def test_widths_that_no_head_divides_are_refused() -> None:
    network = ExperimentConfig.model_validate(RANKERS["mmoe_ftt"].preset).neural
    with pytest.raises(UserError, match="must have a multiple of the 4 heads"):
        space(network, SizesConfig(d_embedding=(6,)))


@pytest.mark.parametrize(
    ("losses", "epoch", "kept_percent", "expected"),
    {
        # After the second epoch the others had 0.4, 0.3 and 0.6, of which 0.4 is the median.
        "above the median": ([0.7, 0.5], 2, 50, True),
        "once below it": ([0.35, 0.5], 2, 50, False),
        "at it": ([0.7, 0.4], 2, 50, False),
        "among the best nine tenths": ([0.7, 0.5], 2, 90, False),
        "nothing is pruned": ([9.0, 9.0], 2, 100, False),
        "no other came so far": ([9.0, 9.0, 9.0], 3, 50, False),
    }.values(),
)
def test_a_trial_is_hopeless_above_the_best_share_of_the_others(
    losses: list[float], epoch: int, kept_percent: float, expected: bool
) -> None:
    others = [[0.6, 0.4], [0.6, 0.3], [0.9, 0.6]]
    assert is_hopeless(losses, others, epoch, kept_percent) == expected


def test_hopeless_trials_are_ended_early_and_the_best_is_told(tmp_path: Path) -> None:
    prepared, out = planted_prepared(tmp_path / "prepared", 60, 60), tmp_path / "tuned"
    sizes = {**SMALL, "n_trials": 6, "n_unpruned": 2, "kept_percent": 10}
    settings = TuneConfig.model_validate({"search": "sizes", "sizes": sizes, "n_resamples": 50})
    config = tiny("mmoe", "train.epochs=3", "train.learning_rate=3e-3", "relevance_weight=0")
    assert tune(prepared, "mmoe", config, out, settings)
    found = json.loads((out / "trials.json").read_text())
    states = [trial["state"] for trial in found["trials"]]
    assert states[:2] == ["done", "done"]
    assert "pruned" in states
    assert found["cost"]["pruned"] == states.count("pruned")
    whole = 3 * 600
    assert {trial["rows"] for trial in found["trials"] if trial["state"] == "done"} == {whole}
    assert all(trial["rows"] < whole for trial in found["trials"] if trial["state"] == "pruned")
    done = [trial for trial in found["trials"] if trial["state"] == "done"]
    best = max(done, key=lambda trial: trial["objective"]["value"])
    assert found["chosen"] == best["id"]
    resolved = resolve(ExperimentConfig, out / "best.yaml")
    assert resolved == resolve(ExperimentConfig, None, found["set"], base=config.model_dump(mode="json"))


def test_a_network_that_diverges_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, out = planted_prepared(tmp_path / "prepared", 20, 20), tmp_path / "tuned"
    fit = NeuralRanker.fit

    def diverges(self: NeuralRanker, *arguments: Any) -> Any:
        if self.config.d_embedding == 4:
            raise UserError("the loss must stay finite, but it became nan")
        return fit(self, *arguments)

    monkeypatch.setattr(NeuralRanker, "fit", diverges)
    sizes = {**SMALL, "n_trials": 5}
    settings = TuneConfig.model_validate({"search": "sizes", "sizes": sizes, "n_resamples": 50})
    tune(prepared, "mmoe", tiny("mmoe", "train.epochs=1", "relevance_weight=0"), out, settings)
    trials = json.loads((out / "trials.json").read_text())["trials"]
    assert {trial["state"] for trial in trials} == {"done", "failed"}
    for trial in trials:
        assert (trial["params"].get("d_embedding") == 4) == (trial["state"] == "failed")
        assert ("loss must stay finite" in (trial["error"] or "")) == (trial["state"] == "failed")
    assert yaml.safe_load((out / "best.yaml").read_text())["neural"]["d_embedding"] != 4
