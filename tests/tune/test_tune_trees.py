"""The random search over the settings of trees."""

import json
from pathlib import Path

import numpy as np
import pytest
from planted import planted_prepared

from shelfrank.config import ExperimentConfig, TuneConfig, resolve
from shelfrank.config.tune import TreesConfig
from shelfrank.core.errors import UserError
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.tune.sizes import draws
from shelfrank.tune.trees import space
from shelfrank.tune.tuning import tune, unused
from tiny import tiny

SETTINGS = TuneConfig.model_validate(
    {
        "search": "sizes",
        "sizes": {"n_trials": 4},
        "trees": {"min_rows_per_leaf": [5], "n_leaves": [4, 8], "l2": [0, 1]},
        "n_resamples": 50,
        "objective": {"weights": {"click": 1}},
    }
)


@pytest.mark.parametrize(
    ("name", "size"), [("lambdamart", "n_leaves"), ("xgboost_ranking", "n_leaves"), ("catboost", "depth")]
)
def test_every_draw_is_a_config_within_the_space(name: str, size: str) -> None:
    own = type(getattr(ExperimentConfig(), name))
    drawn = draws(space(TreesConfig(), own), 40, seed=0)
    assert drawn[0] == {}
    for params in drawn[1:]:
        settings = own.model_validate(params)
        assert 0.03 <= settings.learning_rate <= 0.15
        assert getattr(settings, size) in getattr(TreesConfig(), size)
    assert len({params[size] for params in drawn[1:]}) == 4
    # Drawn evenly in the logarithm.
    assert np.median([params["learning_rate"] for params in drawn[1:]]) < 0.085


def test_the_best_trees_are_found_and_a_killed_search_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, out = planted_prepared(tmp_path / "prepared", 60, 60), tmp_path / "tuned"
    # Where every leaf must hold more rows than there are, no tree distinguishes products.
    config = tiny("lambdamart", "lambdamart.min_rows_per_leaf=100000")
    fit, fits = LambdaMART.fit, []

    def killed(self: LambdaMART, *arguments: object) -> object:
        fits.append(self.settings)
        if len(fits) == 3:
            raise KeyboardInterrupt
        return fit(self, *arguments)

    monkeypatch.setattr(LambdaMART, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(prepared, "lambdamart", config, out, SETTINGS)
    assert tune(prepared, "lambdamart", config, out, SETTINGS)
    # The two that had ended are not tried again.
    assert len(fits) == 3 + 2
    found = json.loads((out / "trials.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 4
    best = next(trial for trial in found["trials"] if trial["id"] == found["chosen"])
    assert best["params"]["min_rows_per_leaf"] == 5
    resolved = resolve(ExperimentConfig, out / "best.yaml")
    assert resolved == resolve(ExperimentConfig, None, found["set"], base=config.model_dump(mode="json"))
    assert "Trial" in (out / "tuning.html").read_text()
    assert not tune(prepared, "lambdamart", config, out, SETTINGS)


@pytest.mark.parametrize("name", ["xgboost_ranking", "catboost"])
def test_the_settings_of_every_library_are_searched(name: str, tmp_path: Path) -> None:
    settings = TuneConfig.model_validate({**SETTINGS.model_dump(), "sizes": {"n_trials": 2}})
    prepared = planted_prepared(tmp_path / "prepared", 60, 60)
    assert tune(prepared, name, tiny(name), tmp_path / "tuned", settings)
    found = json.loads((tmp_path / "tuned" / "trials.json").read_text())
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 2
    drawn = found["trials"][1]["params"]
    assert set(drawn) < set(getattr(ExperimentConfig(), name).model_dump())
    assert "row_share" in drawn


def test_a_search_that_trees_do_not_have_is_told(small_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lambdamart has no loss weights to search for"):
        tune(small_prepared, "lambdamart", tiny("lambdamart"), tmp_path / "out", TuneConfig())
    with pytest.raises(UserError, match=r"such as mmoe_dcn_v2, or trees .*, but xgboost is neither"):
        tune(small_prepared, "xgboost", tiny("xgboost"), tmp_path / "out", SETTINGS)


def test_the_space_of_trees_makes_another_search_of_trees_alone() -> None:
    assert "trees" in unused(SETTINGS)
    assert "trees" not in unused(SETTINGS, of_trees=True)


def test_a_rate_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(UserError, match="learning_rate must be a minimum and a maximum"):
        resolve(TuneConfig, settings={"trees": {"learning_rate": [0.2, 0.1]}})
