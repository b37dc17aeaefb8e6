"""The MMoE paper's comparison on Census-Income: MMoE, shared bottom and single task, several seeds each."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shelfrank.config import EvaluateConfig
from shelfrank.core.artifact import is_current, publish
from shelfrank.core.errors import unknown_name
from shelfrank.core.progress import console, measured
from shelfrank.data.prepared import SPLITS, PreparedData
from shelfrank.metrics import bootstrap_auc
from shelfrank.paper.census.columns import GROUPS
from shelfrank.paper.census.prepare import prepare_census
from shelfrank.rankers.run import Run, resolve_experiment, train

KIND = "census_comparison"
FIGURES = "census.json"

SETTINGS = (
    "train.batch_size=1024",
    "train.learning_rate=1e-3",
    "train.epochs=20",
    "train.patience=2",
    # Numerics: on one thread and in float32 the figures are the same however many cores the processor has.
    "train.threads=1",
    "train.precision=fp32",
    # These serve no traffic, and the published experiments hide nothing.
    "train.hide_share=0",
    "neural.d_embedding=8",
    "neural.tower_layers=[16]",
)
"""Settings of all models."""


@dataclass(frozen=True)
class Model:
    """One of the compared models.

    Attributes:
        label: Its name in tables.
        settings: Settings of the model; the widths give all networks the same number of parameters within 1 %.
        per_task: Whether it is a network of its own for each task.
    """

    label: str
    settings: tuple[str, ...]
    per_task: bool = False


_DENSE = ("neural.bottom=mlp", "neural.head=none", "neural.dropout=0.1")

MODELS = {
    "mmoe": Model("MMoE", ("neural.bottom=none", "neural.mmoe.n_experts=8", "neural.mmoe.expert_layers=[16]")),
    "shared_bottom": Model("Shared bottom", (*_DENSE, "neural.mlp.layers=[130]")),
    "single_task": Model("Single task", (*_DENSE, "neural.mlp.layers=[138]"), per_task=True),
}
"""The compared models by the name of their runs."""


@dataclass(frozen=True)
class _Training:
    """One network to train: which model of which group, from which seed, and the one task it learns, if it is one."""

    group: str
    model: str
    seed: int
    task: str | None

    @property
    def name(self) -> str:
        """The name of its run."""
        return "-".join([self.model, *([self.task] if self.task else []), f"seed{self.seed}"])


def compare_census(
    folder: Path,
    out: Path,
    n_seeds: int,
    overrides: Sequence[str] = (),
    group: str | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Runs every step that is not finished yet, training from its last checkpoint.

    Args:
        folder: Holds the two official files.
        out: Folder of all results: prepared data and runs by group, and the comparison.
        n_seeds: Every model is trained from the seeds 0 to `n_seeds` - 1.
        overrides: Assignments as the command line's `--set` takes them, on top of every model's own.
        group: A key of `GROUPS`; None compares on every group.
        split: The split to measure on.

    Returns:
        What `census.json` holds: every run's figures, and their mean and range over the seeds.

    Raises:
        UserError: Where the data or a setting is wrong.
    """
    if group is not None and group not in GROUPS:
        raise unknown_name("group", group, GROUPS)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    groups = [group] if group else list(GROUPS)
    trainings = list(_trainings(groups, n_seeds))
    for name in groups:
        prepared = out / name / "prepared"
        changed = prepare_census(folder, prepared, name)
        _said(f"prepare {name}", changed)
        if changed:
            _describe(PreparedData.open(prepared).manifest.info)
    for training in trainings:
        settings = [*SETTINGS, *MODELS[training.model].settings, *overrides]
        if training.task:
            settings.append(f"neural.single_task={training.task}")
        config = resolve_experiment("mmoe", None, settings, training.seed)
        run = _run_folder(out, training)
        changed = train(out / training.group / "prepared", "mmoe", config, run, resume=True, ignore_foreign=True)
        _said(f"train {training.group}/{training.name}", changed)
    _said(f"measure on {split}", _measure(out, trainings, split))
    return json.loads((comparison_folder(out, split) / FIGURES).read_text(encoding="utf-8"))


def comparison_folder(out: Path, split: str) -> Path:
    """Where `compare_census` puts the figures of a split."""
    return out / f"comparison-{split}"


def _trainings(groups: Sequence[str], n_seeds: int) -> Iterator[_Training]:
    for group in groups:
        for name, model in MODELS.items():
            for seed in range(n_seeds):
                for task in GROUPS[group] if model.per_task else (None,):
                    yield _Training(group, name, seed, task)


def _run_folder(out: Path, training: _Training) -> Path:
    return out / training.group / "runs" / training.name


def _measure(out: Path, trainings: Sequence[_Training], split: str) -> bool:
    comparison = comparison_folder(out, split)
    runs = [Run.open(_run_folder(out, training)) for training in trainings]
    bootstrap = EvaluateConfig().model_dump(mode="json", include={"n_resamples_auc", "seed", "confidence"})
    inputs = {
        "runs": {f"{t.group}/{t.name}": run.manifest.fingerprint for t, run in zip(trainings, runs, strict=True)},
        "split": split,
        "bootstrap": bootstrap,
    }
    if is_current(comparison, KIND, inputs):
        return False
    with publish(comparison, KIND, inputs) as draft, measured() as cost:
        records = [_record(training, run, split) for training, run in zip(trainings, runs, strict=True)]
        figures = {"split": split, "bootstrap": bootstrap, "summary": summarise(records), "runs": records}
        (draft.path / FIGURES).write_text(json.dumps(figures, indent=1), encoding="utf-8")
        draft.info.update(cost=cost.stop().as_dict())
    return True


def _record(training: _Training, run: Run, split_name: str) -> dict[str, Any]:
    config = EvaluateConfig()
    prepared = run.prepared()
    split = prepared.split(split_name)
    ranker = run.ranker(prepared)
    scores = ranker.score(run.select(split))
    auc = {}
    for task in ranker.scored_tasks:
        index = prepared.tasks.index(task)
        of_task, labels = np.ascontiguousarray(scores[:, index]), np.ascontiguousarray(split.labels[:, index])
        interval = bootstrap_auc(
            of_task, labels, split.search_offsets, config.n_resamples_auc, config.seed, config.confidence
        )
        auc[task] = interval.as_dict()
    fitted = run.manifest.info["fitted"]
    return {
        "group": training.group,
        "model": training.model,
        "seed": training.seed,
        "auc": auc,
        "parameters": fitted["parameters"],
        "epochs": len(fitted["curve"]),
        "choices": fitted["choices"],
        "data": prepared.manifest.fingerprint,
        "config": run.manifest.inputs["config"],
    }


def summarise(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, least and greatest AUC over the seeds.

    Args:
        records: The runs of `census.json`.

    Returns:
        One record per group, task and model, in the order of `GROUPS`, its tasks and `MODELS`; `parameters` are those
        of the network that predicts the task.
    """
    found: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for record in records:
        for task, interval in record["auc"].items():
            key = record["group"], task, record["model"]
            found.setdefault(key, []).append((interval["value"], sum(record["parameters"].values())))
    summary = []
    for group, tasks in GROUPS.items():
        for task in tasks:
            for model in MODELS:
                if (group, task, model) not in found:
                    continue
                aucs, parameters = zip(*found[group, task, model], strict=True)
                summary.append(
                    {
                        "group": group,
                        "task": task,
                        "model": model,
                        "mean": float(np.mean(aucs)),
                        "min": min(aucs),
                        "max": max(aucs),
                        "n_seeds": len(aucs),
                        "parameters": parameters[0],
                    }
                )
    return summary


def _describe(info: dict[str, Any]) -> None:
    for name, split in info["splits"].items():
        positives = ", ".join(f"{count:,} {task}" for task, count in split["positives"].items())
        console.print(f"  {name}: {split['customers']:,} people, {positives}", highlight=False)
    for name, why in info["left_out_features"].items():
        console.print(f"  no feature: {name}: {why}", highlight=False)


def _said(step: str, changed: bool) -> None:
    console.print(f"{step}: {'done' if changed else 'unchanged'}", highlight=False)
