"""Former names of rankers: refused with today's where a user gives one, read where a folder holds one."""

from pathlib import Path

import pytest

from shelfrank.config import ExperimentConfig
from shelfrank.core.artifact import publish
from shelfrank.core.errors import UserError
from shelfrank.rankers import RANKERS, ranker_spec
from shelfrank.rankers.renamed import RENAMED
from shelfrank.rankers.run import KIND, RUN_VERSION, Run, resolve_experiment, write_config


@pytest.mark.parametrize("name", RENAMED)
def test_a_former_name_is_answered_with_todays(name: str) -> None:
    assert name not in RANKERS
    assert RENAMED[name] in RANKERS
    with pytest.raises(UserError, match=rf"the ranker {name} is called {RENAMED[name]} now, .*; use this name"):
        ranker_spec(name)
    with pytest.raises(UserError, match="is called"):
        resolve_experiment(name, None, [], 0)


def test_a_run_of_a_former_name_opens(tmp_path: Path) -> None:
    name = "mmoe_dcn_v2_tinybert_dot"
    config = resolve_experiment(RENAMED[name], None, ["neural.text.model=packaged"], 0)
    inputs = {"prepared": "", "ranker": name, "config": config.model_dump(mode="json"), "version": RUN_VERSION}
    with publish(tmp_path / "run", KIND, inputs) as draft:
        write_config(draft, RENAMED[name], config)
    run = Run.open(tmp_path / "run")
    assert (run.name, run.config) == (RENAMED[name], config)
    assert run.label == "MMoE + DCN-V2 + MiniLM dot"


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("huawei-noah/TinyBERT_General_6L_768D", "TinyBERT"),
        ("packaged", "MiniLM"),
        ("sentence-transformers/all-MiniLM-L6-v2", "MiniLM"),
        ("models/gte-base", "gte-base"),
    ],
)
def test_a_label_names_the_encoder_that_was_used(model: str, label: str) -> None:
    config = ExperimentConfig.model_validate({"neural": {"text": {"matching": "cross", "model": model}}})
    assert RANKERS["mmoe_ftt_text_cross"].label_for(config) == f"MMoE + FT-T + {label} cross"
    assert RANKERS["mmoe_ftt"].label_for(config) == "MMoE + FT-T"
