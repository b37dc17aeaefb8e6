"""Fusion weights of a finished run, tuned without training it again."""

import json
import shutil
from pathlib import Path
from typing import Any

from shelfrank.config import ExperimentConfig, TuneConfig
from shelfrank.core.artifact import MANIFEST, is_current, publish
from shelfrank.core.errors import UserError
from shelfrank.core.progress import measured, progress
from shelfrank.evaluate.evaluation import fuses
from shelfrank.metrics.order import fuse
from shelfrank.rankers.run import KIND as RUN
from shelfrank.rankers.run import Run, write_config
from shelfrank.tune.judge import Judge
from shelfrank.tune.result import about, assignment, best_of, point_figures
from shelfrank.tune.simplex import simplex
from shelfrank.tune.trials import overlaid
from shelfrank.tune.tuning import KIND, TUNING_VERSION, write_result

RUN_FOLDER = "run"


def tune_fusion(run_path: Path, out: Path, settings: TuneConfig) -> bool:
    """Finds the weights that fuse a run's scores best on the validation split, which is scored once.

    Beside the figures, `out` gets the run with these weights: what `train` would have made of them, as they do not
    enter training.

    Args:
        run_path: A finished run that scores several tasks.
        out: The folder of the result.
        settings: The grid's step, the objective and the bootstrap.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the run scores one task only, or it or its data cannot be read.
    """
    run = Run.open(run_path)
    inputs = {
        "run": run.manifest.fingerprint,
        "settings": settings.model_dump(
            mode="json", include={"step", "objective", "confidence", "n_resamples", "seed"}
        ),
        "version": TUNING_VERSION,
    }
    if is_current(out, KIND, inputs):
        return False
    prepared = run.prepared()
    ranker = run.ranker(prepared)
    if not fuses(ranker):
        raise UserError(
            f"{run_path} must score several tasks for their fusion to be tuned, but {run.name} scores "
            f"{', '.join(ranker.scored_tasks) or 'no task'} alone"
        )
    split = prepared.split("valid")
    judge = Judge(split, settings)
    # A task without weight in the loss has scores that mean nothing.
    untrained = [i for i, task in enumerate(prepared.tasks) if task not in ranker.scored_tasks]
    points = [
        point for point in simplex(len(prepared.tasks), settings.n_parts) if not any(point.parts[i] for i in untrained)
    ]
    with publish(out, KIND, inputs) as draft, measured() as cost:
        scores = ranker.score(run.select(split))
        orders = []
        with progress("Fusing", total=len(points), unit="weightings") as advance:
            for point in points:
                orders.append(judge.ranks(fuse(scores, point.weights)))
                advance(1)
        entries = point_figures(judge, [*points], orders)
        chosen = best_of(judge, orders)
        for entry, (objective, difference) in zip(entries, judge.compare(orders, chosen), strict=True):
            entry["fused"] = {"objective": objective, "difference": difference, "mrr": entry["mrr"]}
        weights = dict(zip(prepared.tasks, points[chosen].weights, strict=True))
        config = overlaid(run.config, {"score_weights": weights})
        result: dict[str, Any] = {
            "search": "fusion",
            "method": "full",
            "common": "screen",
            **about(judge),
            "points": entries,
            "chosen": points[chosen].id,
            "set": [f"score_weights={assignment(weights)}"],
            "cost": {"rows": 0, "trainings": 0, "seconds": 0.0, "stages": []},
            "ranker": run.name,
            "label": run.label,
            "data": prepared.manifest.info["log_name"],
        }
        _copy_run(run, config, draft.path / RUN_FOLDER)
        result["cost"]["seconds"] = round(cost.stop().wall_s, 2)
        write_result(draft.path, result, config, {point.id: ranks for point, ranks in zip(points, orders, strict=True)})
        draft.info.update(chosen=result["chosen"], set=result["set"], cost=cost.stop().as_dict())
    return True


def _copy_run(run: Run, config: ExperimentConfig, out: Path) -> None:
    settings = json.loads(config.model_dump_json())
    with publish(out, RUN, {**run.manifest.inputs, "config": settings}) as draft:
        shutil.copytree(run.path, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        write_config(draft, run.name, config)
        draft.info.update(run.manifest.info)
