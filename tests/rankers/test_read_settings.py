"""The settings that a ranker reads: all that it looks at, and nothing else."""

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from shelfrank.config import ExperimentConfig, Strict
from shelfrank.config.settings import settings_of
from shelfrank.rankers import RANKERS, ranker_spec, read_settings
from shelfrank.rankers.paper import PAPER_ROWS
from shelfrank.rankers.run import Run, resolve_experiment, train
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


@pytest.mark.parametrize("name", ["shown_order", "popularity", "xgboost", "lambdamart", "dcn_v2", "tabnet", "mmoe_ftt"])
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
