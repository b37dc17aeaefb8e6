"""The settings that a ranker reads: all that it looks at, and nothing else."""

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from shelfrank.config import ExperimentConfig, Strict
from shelfrank.config.settings import settings_of
from shelfrank.rankers import RANKERS, ranker_spec, read_settings
from shelfrank.rankers.paper import PAPER_ROWS
from shelfrank.rankers.run import Run, resolve_experiment, train, unused_settings
from tiny import tiny

PASSED_ON = {"task_weights", "relevance_weight", "neural.text.matching", "neural.text.learning_rate"}
"""What is passed on whatever the ranker is, which may ignore it."""
READ_LATER = {"score_weights"}
"""What `evaluate` reads."""
PER_BOX = {"neural.batch_norm", "neural.dropout", "neural.tower_layers"}
"""Settings of several boxes of a network, of which it may have none."""


def leaves(settings: dict[str, Any], prefix: str = "") -> set[str]:
    known = {setting.path for setting in settings_of(ExperimentConfig) if setting.section is None}
    found = set()
    for name, value in settings.items():
        path = f"{prefix}{name}"
        found |= {path} if path in known else leaves(value, f"{path}.")
    return found


@pytest.mark.parametrize(
    "name",
    [
        *("shown_order", "popularity", "xgboost", "lambdamart", "xgboost_ranking", "catboost"),
        *("dcn_v2", "tabnet", "mmoe_ftt"),
    ],
)
def test_a_ranker_reads_the_settings_that_are_listed_for_it(
    name: str, small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = {setting.section: f"{setting.path}." for setting in settings_of(ExperimentConfig) if setting.section}
    prefixes: dict[type, str] = {ExperimentConfig: "", **sections}  # pyright: ignore[reportAssignmentType]
    config = tiny(name)
    looked_at: set[str] = set()

    def recording(self: Strict, attribute: str) -> Any:
        if type(self) in prefixes and attribute in type(self).model_fields:
            looked_at.add(f"{prefixes[type(self)]}{attribute}")
        return object.__getattribute__(self, attribute)

    with monkeypatch.context() as patch:
        patch.setattr(Strict, "__getattribute__", recording, raising=False)
        train(small_prepared, name, config, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    prepared = run.prepared()
    ranker = run.ranker(prepared)
    with monkeypatch.context() as patch:
        patch.setattr(Strict, "__getattribute__", recording, raising=False)
        ranker.score(run.select(prepared.split("valid")))
    looked_at &= leaves(config.model_dump(mode="json"))
    listed = leaves(read_settings(name, config))
    assert looked_at - PASSED_ON <= listed
    assert listed - READ_LATER - PER_BOX <= looked_at


@pytest.mark.parametrize(
    ("assignments", "read", "unread"),
    [
        ((), {"dcn_v2", "mmoe"}, {"mlp", "tabnet", "ft_transformer"}),
        (("neural.bottom=mlp",), {"mlp", "mmoe"}, {"dcn_v2"}),
        (("neural.head=none",), {"dcn_v2"}, {"mmoe"}),
    ],
)
def test_the_settings_of_a_network_decide_which_others_it_reads(
    assignments: tuple[str, ...], read: set[str], unread: set[str]
) -> None:
    neural = read_settings("mmoe_dcn_v2", tiny("mmoe_dcn_v2", *assignments))["neural"]
    assert read <= neural.keys()
    assert not unread & neural.keys()
    assert neural["text"] == {"matching": "none"}


def test_a_network_with_text_reads_the_encoder_and_a_single_task_no_weights() -> None:
    with_text = read_settings("mmoe_dcn_v2_text_cross", resolve_experiment("mmoe_dcn_v2_text_cross", None, [], 0))
    assert with_text["neural"]["text"]["max_tokens"] == 64
    single = read_settings("dcn_v2_single", resolve_experiment("dcn_v2_single", None, [], 0))
    assert not {"task_weights", "score_weights", "relevance_weight"} & single.keys()


@pytest.mark.parametrize(
    ("name", "assignments", "note"),
    [
        ("mmoe", ("lambdamart.n_leaves=5",), "note: mmoe does not use lambdamart.n_leaves, which was set"),
        (
            "lambdamart",
            ("lambdamart.grades={click: 1, purchase: 9}", "train.epochs=3", "lambdamart.n_leaves=5"),
            "note: lambdamart does not use train.epochs, lambdamart.grades, which were set",
        ),
        ("lambdamart", ("lambdamart.grades={click: 1, purchase: 9}", "lambdamart.per_task=false"), None),
        (
            "popularity",
            tuple(f"xgboost.{key}=2" for key in ("n_rounds", "max_depth", "early_stopping_rounds"))
            + tuple(f"train.{key}=7" for key in ("epochs", "patience", "batch_size", "threads")),
            "note: popularity does not use train.batch_size, train.epochs, train.patience, train.threads, "
            "xgboost.n_rounds and 2 more, which were set",
        ),
        ("blend", ("blend.network=mmoe_dcn_v2", "lambdamart.n_leaves=5", "neural.mmoe.n_experts=2"), None),
        ("blend", ("neural.mmoe.n_experts=2",), "note: blend does not use neural.mmoe.n_experts, which was set"),
    ],
)
def test_a_note_names_the_settings_that_were_set_and_are_not_used(
    name: str, assignments: tuple[str, ...], note: str | None
) -> None:
    config = resolve_experiment(name, None, list(assignments), 7)
    assert unused_settings(name, config) == ([] if note is None else [note])


@pytest.mark.parametrize("name", RANKERS)
def test_a_preset_is_used_whole(name: str) -> None:
    assert unused_settings(name, resolve_experiment(name, None, [], None)) == []
    if name in PAPER_ROWS and PAPER_ROWS[name].sizes:
        assert unused_settings(name, resolve_experiment(name, None, [], None, "paper")) == []


def test_a_run_keeps_the_note_on_settings_that_are_not_used(small_prepared: Path, tmp_path: Path) -> None:
    train(small_prepared, "popularity", resolve_experiment("popularity", None, ["train.epochs=3"], 0), tmp_path / "run")
    choices = Run.open(tmp_path / "run").manifest.info["fitted"]["choices"]
    assert choices == ["note: popularity does not use train.epochs, which was set"]


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("name", RANKERS)
def test_the_read_settings_alone_give_the_whole_config_again(
    name: str, preset: Literal["default", "paper"], tmp_path: Path
) -> None:
    if preset == "paper" and not (name in PAPER_ROWS and PAPER_ROWS[name].sizes):
        pytest.skip("a ranker without sizes in the paper")
    config = resolve_experiment(name, None, ["seed=3"] if ranker_spec(name).reads is None else [], None, preset)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(read_settings(name, config)))
    assert resolve_experiment(name, file, [], None) == config
