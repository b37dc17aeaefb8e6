"""A search from its inputs to its folder: workers, progress, the chosen settings, the page."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shelfrank.config import ExperimentConfig, TuneConfig
from shelfrank.core.artifact import fingerprint, is_current, publish, refuse_foreign, verify_files
from shelfrank.core.errors import UserError
from shelfrank.core.jobs import JobResult, JobRunner, Workers, shared_cores
from shelfrank.core.progress import counted_by, measured
from shelfrank.data.prepared import PreparedData
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.report.tuning_page import write_tuning
from shelfrank.text.encoder import find_model, model_fingerprint
from shelfrank.tune.follow import following
from shelfrank.tune.result import size_result, weight_result
from shelfrank.tune.sizes import SizeSearch
from shelfrank.tune.trees import TreeSearch
from shelfrank.tune.trials import TrialTrainer
from shelfrank.tune.weights import WeightSearch

KIND = "tuning"
TUNING_VERSION = 3
"""Part of every search's inputs: raise it when the same inputs would be judged otherwise."""
TREES = ("lambdamart", "xgboost_ranking", "catboost")
"""The rankers of trees whose settings can be searched for."""
BEST, RESULT, PAGE = "best.yaml", "trials.json", "tuning.html"


def tune_weights(
    prepared_path: Path,
    ranker: str,
    config: ExperimentConfig,
    out: Path,
    settings: TuneConfig,
    n_workers: int = 1,
) -> dict[str, float]:
    """Finds the loss weights of a network; where `out` has them already, reads them.

    Args:
        prepared_path: A finished folder of prepared data, whose test split is not opened.
        ranker: A name in `RANKERS` of a network that learns several tasks.
        config: The resolved config of everything but the weights.
        out: The folder of the result.
        settings: How to search, and for what.
        n_workers: Processes that train at the same time.

    Returns:
        The chosen weight of each task.

    Raises:
        UserError: As for `tune`, or where the settings search for something else.
    """
    if settings.search != "weights":
        raise UserError(f"tune.search must be weights here, but it is {settings.search}")
    tune(prepared_path, ranker, config, out, settings, n_workers)
    best = yaml.safe_load((out / BEST).read_text(encoding="utf-8"))
    return {task: float(weight) for task, weight in best["task_weights"].items()}


def tune(
    prepared_path: Path,
    ranker: str,
    config: ExperimentConfig,
    out: Path,
    settings: TuneConfig,
    n_workers: int = 1,
) -> bool:
    """Searches for settings on the validation split and writes the result.

    A hidden folder beside `out` keeps the trials until the search is finished, so that a killed one
    resumes: finished trials are skipped, and those in progress resume from their last checkpoint.

    Args:
        prepared_path: A finished folder of prepared data, whose test split is not opened.
        ranker: A name in `RANKERS` of a network, or of trees that learn to rank, such as `lambdamart`.
        config: The resolved config that every trial starts from.
        out: The folder of the result.
        settings: How to search, and for what.
        n_workers: Processes that train at the same time.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the ranker is neither or has nothing to weigh, the data cannot be read, or a training fails.
    """
    prepared = PreparedData.open(prepared_path)
    inputs = _inputs(prepared, ranker, config, settings)
    if is_current(out, KIND, inputs):
        return False
    refuse_foreign(out, KIND)
    verify_files_but_test(prepared)
    search = _search(prepared, ranker, config, settings, inputs)
    work = work_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with publish(out, KIND, inputs) as draft, measured() as cost:
        runner = JobRunner(_trials(work, inputs))
        workers = Workers(n_workers - 1, join, (prepared_path, ranker, config, settings, out), shared_cores(n_workers))
        with workers, following("Tuning", search.stages()) as progress, counted_by(progress.add):

            def on_results(stage: str, results: Sequence[JobResult]) -> None:
                progress.update(stage, results)
                workers.check()

            if isinstance(search, WeightSearch):
                result, best, ranks = weight_result(search, search.run(runner, on_results))
            else:
                result, best, ranks = size_result(search, search.run(runner, on_results))
        result |= {
            "ranker": ranker,
            "label": ranker_spec(ranker).label_for(config),
            "data": prepared.manifest.info["log_name"],
        }
        write_result(draft.path, result, best, ranks)
        draft.info.update(chosen=result["chosen"], set=result["set"], search=result["cost"], cost=cost.stop().as_dict())
    shutil.rmtree(work, ignore_errors=True)
    return True


def join(
    prepared_path: Path,
    ranker: str,
    config: ExperimentConfig,
    settings: TuneConfig,
    out: Path,
) -> None:
    """Works on the trials of a search that another process started with the same arguments, and writes no result.

    Args:
        prepared_path: As for `tune`.
        ranker: As for `tune`.
        config: As for `tune`.
        settings: As for `tune`.
        out: As for `tune`; its hidden neighbour must be the same folder for all workers.

    Raises:
        UserError: As for `tune`.
    """
    prepared = PreparedData.open(prepared_path)
    inputs = _inputs(prepared, ranker, config, settings)
    if is_current(out, KIND, inputs):
        return
    search = _search(prepared, ranker, config, settings, inputs)
    try:
        with counted_by(lambda _: None):
            search.run(JobRunner(_trials(work_folder(out), inputs)), lambda *_: None)
    except Exception:
        # The trials are removed as soon as the result stands.
        if not is_current(out, KIND, inputs):
            raise


def work_folder(out: Path) -> Path:
    """Where the trials of an unfinished search are."""
    return out.with_name(f".{out.name}.tuning")


def _trials(work: Path, inputs: dict[str, Any]) -> Path:
    """The folder of the trials of these inputs; other inputs have another one."""
    return work / fingerprint(inputs)[:16]


def write_result(folder: Path, result: dict[str, Any], best: ExperimentConfig, ranks: dict[str, np.ndarray]) -> None:
    """Writes figures, chosen config, ranks and page."""
    (folder / RESULT).write_text(json.dumps(plain(result), indent=1), encoding="utf-8")
    settings = best.model_dump(mode="json")
    (folder / BEST).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    np.savez_compressed(folder / "ranks.npz", **ranks)  # pyright: ignore[reportArgumentType]
    write_tuning(plain(result), folder / PAGE)


def unused(settings: TuneConfig, of_trees: bool = False) -> set[str]:
    """The settings that a search does not look at, so that another value of theirs is the same search."""
    if settings.search == "sizes":
        return {"method", "step", "relevance_weights", "cheap", *(() if of_trees else ("trees",))}
    return {"sizes", "trees"} if settings.method == "cheap" else {"sizes", "trees", "cheap"}


def verify_files_but_test(prepared: PreparedData) -> None:
    """Compares the sha256 of all files but the test split's, which tuning must not even read."""
    manifest = prepared.manifest
    left = {name: entry for name, entry in manifest.files.items() if not name.startswith("test/")}
    verify_files(prepared.path, type(manifest)(**{**vars(manifest), "files": left}))


def _inputs(prepared: PreparedData, ranker: str, config: ExperimentConfig, settings: TuneConfig) -> dict[str, Any]:
    spec = ranker_spec(ranker)
    if ranker in TREES:
        if settings.search == "weights":
            raise UserError(
                f"{ranker} has no loss weights to search for; search for its settings with --search sizes, or tune the "
                "weights that fuse its tasks with tune-fusion"
            )
    elif spec.build is not NeuralRanker or config.neural.single_task is not None:
        raise UserError(
            f"tune needs a network that learns several tasks, such as mmoe_dcn_v2, or trees ({', '.join(TREES)}), but "
            f"{ranker} is neither"
        )
    if settings.search == "weights" and config.score_weights is not None:
        raise UserError(
            "score_weights must not be set while loss weights are tuned, which fuse the scores too; tune them "
            "afterwards with tune-fusion"
        )
    if settings.relevance_weights and not prepared.relevance_classes:
        raise UserError(
            f"relevance_weights need prepared data with relevance labels, but {prepared.path} has none; prepare with "
            "them"
        )
    inputs = {
        "prepared": prepared.manifest.fingerprint,
        "ranker": ranker,
        "config": config.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json", exclude=unused(settings, ranker in TREES)),
        "version": TUNING_VERSION,
    }
    if ranker not in TREES and config.neural.text.matching != "none":
        inputs["text_model"] = model_fingerprint(find_model(config.neural.text.model))
    return inputs


def _search(
    prepared: PreparedData, ranker: str, config: ExperimentConfig, settings: TuneConfig, inputs: dict[str, Any]
) -> WeightSearch | SizeSearch | TreeSearch:
    trainer = TrialTrainer(prepared, config, settings)
    if not trainer.judge.split.n_searches:
        raise UserError(f"{prepared.path} must have validation searches to tune on, but it has none")
    assert sum(trainer.judge.weights) > 0
    owner = fingerprint(inputs)
    search = (
        WeightSearch(trainer, owner)
        if settings.search == "weights"
        else TreeSearch(trainer, ranker, owner)
        if ranker in TREES
        else SizeSearch(trainer, owner)
    )
    search.stages()
    return search


def plain(data: Any) -> Any:
    """Data for JSON, with None for numbers that are not finite."""
    if isinstance(data, dict):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
