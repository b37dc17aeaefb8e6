"""The commands that make a run again, from the manifests of everything that it was made of."""

import json
from collections.abc import Mapping
from typing import Any

from shelfrank.config import EvaluateConfig, PrepareConfig, RelevanceConfig
from shelfrank.rankers.run import resolve_experiment
from shelfrank.report.card_facts import Facts
from shelfrank.simulator.config import StorefrontConfig


def commands(facts: Facts) -> str:
    """The commands that make the run and its evaluation again, with every setting that is not the default."""
    inputs = facts.prepared.manifest.inputs
    lines = []
    source = facts.log.inputs.get("source") if facts.log else None
    if facts.log and facts.simulated:
        lines.append(
            _command("simulate", *_changed(StorefrontConfig().model_dump(mode="json"), facts.log.inputs["config"]))
        )
    elif source:
        lines.append(_command(f"import {source} PATH"))
    semantic = ["--semantic scores"] if inputs.get("semantic_scores") else []
    if semantic:
        lines.append("# the semantic scores of this log, made by: shelfrank semantic score log --out scores")
    defaults = PrepareConfig().model_dump(mode="json", exclude={"engine", "semantic_scores"})
    labels: list[str] = []
    if inputs["config"].get("relevance") is not None:
        # Switched on, then what is not the default among its settings.
        labels.append("--set 'relevance={}'")
        defaults["relevance"] = RelevanceConfig().model_dump(mode="json")
    prepared = [*semantic, *labels, *_changed(defaults, inputs["config"])]
    lines.append(_command("prepare log", *prepared, out="prepared"))
    run = facts.run
    preset = resolve_experiment(run.name, None, [], None).model_dump(mode="json")
    trained = _changed(preset, run.manifest.inputs["config"])
    lines.append(_command(f"train prepared --ranker {run.name}", *trained, out="run"))
    config = facts.evaluation.manifest.inputs["config"]
    split = [] if facts.split_name == "test" else [f"--split {facts.split_name}"]
    measured = _changed(EvaluateConfig().model_dump(mode="json"), config)
    lines.append(_command("evaluate run", *split, *measured, out="evaluation"))
    lines.append(_command("card run evaluation", out="card"))
    return "\n".join(lines)


def _command(words: str, *options: str, out: str = "log") -> str:
    parts = [f"shelfrank {words} --out {out}", *options]
    return " \\\n  ".join(parts)


def _changed(defaults: Mapping[str, Any], settings: Mapping[str, Any], before: str = "") -> list[str]:
    """Assignments of what is not the default, as `--set` takes them."""
    options = []
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping) and default:
            options += _changed(default, value, f"{before}{name}.")
        elif value != default:
            options.append(f"--set '{before}{name}={_yaml(value)}'")
    return options


def _yaml(value: Any) -> str:
    """A value in one line of YAML, which single quotes can hold."""
    return json.dumps(value, ensure_ascii=False).replace("'", "'\\''")
