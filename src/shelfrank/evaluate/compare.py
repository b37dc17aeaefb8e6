"""Several rankers on the same searches: paired differences to a baseline, and everything a report shows."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from shelfrank import __version__
from shelfrank.config import EvaluateConfig
from shelfrank.config.rankers import DEFAULT_RANKER
from shelfrank.core.artifact import is_current, publish, read_manifest
from shelfrank.core.errors import UserError, unknown_name
from shelfrank.core.progress import measured
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.data_facts import data_facts, log_manifest
from shelfrank.evaluate.differences import differences, paired_difference
from shelfrank.evaluate.evaluation import Evaluation, Scored, evaluated_searches, figures
from shelfrank.evaluate.moves import moves
from shelfrank.evaluate.segmentations import segmentations
from shelfrank.evaluate.segments import segment_figures
from shelfrank.evaluate.truth import EXPECTED_FIGURES, Truth
from shelfrank.logs import search_log
from shelfrank.metrics import METRICS, left_out_searches
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.run import Run, problem

KIND = "comparison"
COMPARE_VERSION = 7
"""Part of every comparison's inputs: raise it when the same evaluations give other figures."""
SHOWN_ORDER = "shown_order"
LAMBDAMART = "lambdamart"
HEADLINE_K = 10
"""Cutoff of the MRR that conclusions rest on; the largest one where it was not measured."""


def compare(
    evaluation_paths: list[Path], out: Path, baseline: str, write_page: Callable[[dict[str, Any], Path], None]
) -> bool:
    """Compares evaluations of the same split under the same settings.

    Args:
        evaluation_paths: Finished evaluations; see `evaluation_names` for how they are named.
        out: Where `comparison.json` goes.
        baseline: The name, or the path as given, of the evaluation that the others are measured against.
        write_page: Writes the comparison as a page to the given file.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the evaluations are not of the same data, split and settings, or the baseline is missing.
    """
    names = evaluation_names(evaluation_paths)
    evaluations = {name: Evaluation.open(path) for name, path in zip(names, evaluation_paths, strict=True)}
    if baseline not in evaluations:
        by_path = {str(path): name for name, path in zip(names, evaluation_paths, strict=True)}
        baseline = by_path.get(baseline, by_path.get(str(Path(baseline)), baseline))
    if baseline not in evaluations:
        if baseline == SHOWN_ORDER:
            raise UserError(
                f"the baseline must be one of the evaluations, but {SHOWN_ORDER}, the baseline where none is named, is "
                f"not among {', '.join(evaluations)}; name one of these with --baseline (in Python, baseline=), or "
                f"evaluate a run of the ranker {SHOWN_ORDER} and compare it too"
            )
        raise unknown_name("baseline", baseline, evaluations)
    shared = _shared_inputs(evaluations)
    inputs = {
        "evaluations": {name: evaluation.manifest.fingerprint for name, evaluation in evaluations.items()},
        "baseline": baseline,
        "version": COMPARE_VERSION,
    }
    if is_current(out, KIND, inputs):
        return False
    prepared = next(iter(evaluations.values())).prepared()
    config = EvaluateConfig.model_validate(shared["config"])
    with publish(out, KIND, inputs) as draft, measured() as cost:
        comparison = _comparison(evaluations, prepared, config, shared["split"], baseline)
        comparison["steps"].append({"name": "compare", **cost.stop().as_dict(), "rows": comparison["counts"]["rows"]})
        (draft.path / "comparison.json").write_text(json.dumps(comparison, indent=1), encoding="utf-8")
        write_page(comparison, draft.path / "report.html")
        paths = {name: str(evaluation.path) for name, evaluation in evaluations.items()}
        draft.info.update(evaluations=paths, cost=cost.stop().as_dict())
    return True


def evaluation_names(paths: Sequence[Path]) -> list[str]:
    """Names evaluations by their folders, with as many parent folders as make them distinct.

    Args:
        paths: The evaluations' folders.

    Returns:
        A name for each.

    Raises:
        UserError: Where a folder is given twice.

    Example:
        >>> evaluation_names([Path("/a/mmoe"), Path("/b/mmoe"), Path("/b/xgboost")])
        ['a/mmoe', 'b/mmoe', 'xgboost']
    """
    # The root is the same for all, and the first part of none of the names.
    parts = [Path(os.path.abspath(path)).parts[1:] for path in paths]
    twice = next((path for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1), None)
    if twice is not None:
        raise UserError(f"every evaluation must be given once, but {twice} is given twice; leave one out")
    depths = [1] * len(parts)
    while True:
        names = ["/".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        repeated = [names.count(name) > 1 for name in names]
        if not any(repeated):
            return names
        depths = [depth + again for depth, again in zip(depths, repeated, strict=True)]


def compare_scored(
    rankers: Mapping[str, Scored],
    prepared: PreparedData,
    config: EvaluateConfig,
    split_name: str,
    baseline: str | None,
) -> dict[str, Any]:
    """Puts rankers beside each other on the same searches, in every measure and on every segment.

    Args:
        rankers: Rankers that were measured on the same split, by name.
        prepared: The data.
        config: The settings that all were measured with.
        split_name: The split.
        baseline: The ranker that the others are measured against; None measures no differences.

    Returns:
        What a report reads, without what takes the log's truth or an evaluation's folder.
    """
    split = prepared.split(split_name)
    # A log that has changed since has the kinds of other searches; the data's own folder has none.
    log = prepared.path if log_manifest(prepared) is None else Path(prepared.manifest.info["log"])
    return {
        "title": prepared.manifest.info["log_name"],
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "shelfrank": __version__,
        "tasks": list(prepared.tasks),
        "ks": list(config.ks),
        "confidence": config.confidence,
        "split": split_name,
        "data": data_facts(prepared),
        "baseline": baseline,
        "counts": {**evaluated_searches(prepared, split_name), **_counts(split)},
        "rankers": [{**scored.report, "name": name} for name, scored in rankers.items()],
        "differences": {} if baseline is None else differences(rankers, split, config, baseline),
        "segments": segment_figures(
            segmentations(log, prepared, split_name),
            {name: scored.fused for name, scored in rankers.items()},
            split,
            config,
            baseline,
        ),
    }


def compare_with_shown_order(run: Run, evaluation: Evaluation) -> dict[str, Any]:
    """Compares one run with the order that the shop showed, which is scored here and needs no run of its own.

    Args:
        run: A run.
        evaluation: Its evaluation.

    Returns:
        As `compare_scored`; the shown order comes first and is the baseline. It is absent where the run is one of it,
        and where the log's positions are not those of a page that was shown.

    Raises:
        UserError: Where the data is no longer what was evaluated.
    """
    split_name = str(evaluation.manifest.inputs["split"])
    config = EvaluateConfig.model_validate(evaluation.manifest.inputs["config"])
    prepared = run.prepared()
    prepared = prepared if config.only is None else prepared.only(split_name, config.only)
    log = log_manifest(prepared)
    name = run.path.name if run.path.name != SHOWN_ORDER else f"{SHOWN_ORDER} (run)"
    rankers = {name: evaluation.scored}
    made_up = log is not None and "position" in log.info["notes"]
    if run.name != SHOWN_ORDER and not made_up:
        split = prepared.split(split_name)
        ranker = ranker_spec(SHOWN_ORDER).build(problem(prepared, run.config))
        tasks = ranker.score(split)
        fused = np.ascontiguousarray(tasks[:, 0])
        report = {"label": ranker_spec(SHOWN_ORDER).label, "learned": ranker.learned}
        report |= figures(split, tasks, fused, ranker.scored_tasks, config)
        rankers = {SHOWN_ORDER: Scored(report, tasks, fused), **rankers}
    return compare_scored(rankers, prepared, config, split_name, SHOWN_ORDER if SHOWN_ORDER in rankers else None)


def _comparison(
    evaluations: dict[str, Evaluation], prepared: PreparedData, config: EvaluateConfig, split_name: str, baseline: str
) -> dict[str, Any]:
    scored = {name: evaluation.scored for name, evaluation in evaluations.items()}
    found = compare_scored(scored, prepared, config, split_name, baseline)
    base = scored[baseline].fused
    log = Path(prepared.manifest.info["log"])
    truth = Truth.open(prepared, split_name)
    bounds = None if truth is None else truth.bounds(config)
    if truth is not None:
        for name, differences_of_ranker in found["differences"].items():
            differences_of_ranker |= truth.differences(scored[name].fused, base, config)
        for ranker in found["rankers"]:
            # An evaluation that was made while the log was elsewhere has none.
            if not EXPECTED_FIGURES.keys() <= ranker.keys():
                ranker |= truth.figures(scored[ranker["name"]].fused, config)
    for ranker in found["rankers"]:
        ranker["share_of_possible"] = share_of_possible(ranker, evaluations[baseline].report, bounds, config)
    moved = {name: moves(evaluation, prepared, log, split_name) for name, evaluation in evaluations.items()}
    return {
        **found,
        "bounds": bounds,
        "moves": {name: each for name, each in moved.items() if each is not None} or None,
        "network_against_lambdamart": network_against_lambdamart(scored, prepared.split(split_name), config),
        "steps": _steps(log, prepared, evaluations),
    }


def network_against_lambdamart(
    rankers: Mapping[str, Scored], split: Split, config: EvaluateConfig
) -> dict[str, Any] | None:
    """The paired difference in MRR of a network to a LambdaMART, which tells what the network adds to boosted trees.

    Of several networks, and of several runs of LambdaMART, the one of the highest MRR on the first task is taken; a
    blend only where there is no network by itself.

    Args:
        rankers: Rankers that were measured on the same split, by name.
        split: The split.
        config: The settings that all were measured with.

    Returns:
        `network` and `lambdamart`, the names of the two, `n_networks` to choose from, and their difference as `mrr` by
        cutoff and task. None where either is missing.
    """
    k = HEADLINE_K if HEADLINE_K in config.ks else max(config.ks)
    task = split.tasks[0]

    def height(name: str) -> float:
        value = rankers[name].report["mrr"][str(k)][task]["value"]
        return -1.0 if value is None else value

    networks = [name for name, scored in rankers.items() if scored.report["params"] is not None]
    networks = [name for name in networks if rankers[name].report["ranker"] != DEFAULT_RANKER] or networks
    trees = [name for name, scored in rankers.items() if scored.report["ranker"] == LAMBDAMART]
    if not networks or not trees:
        return None
    network, lambdamart = max(networks, key=height), max(trees, key=height)
    found = {}
    for index, each in enumerate(split.tasks):
        labels = np.ascontiguousarray(split.labels[:, index])
        own, base = (
            METRICS["mrr"](rankers[name].fused, labels, split.search_offsets, split.tie_keys, k)
            for name in (network, lambdamart)
        )
        found[each] = paired_difference(own, base, config)
    return {"network": network, "lambdamart": lambdamart, "n_networks": len(networks), "mrr": {str(k): found}}


def share_of_possible(
    report: dict[str, Any], baseline: dict[str, Any], bounds: dict[str, Any] | None, config: EvaluateConfig
) -> dict[str, float | None] | None:
    """By task, how much of the way from the baseline's MRR to the best possible one a ranker has come."""
    if bounds is None:
        return None
    k = str(max(config.ks))
    shares: dict[str, float | None] = {}
    for task, best in bounds["best"]["mrr"][k].items():
        own, base = report["mrr"][k][task]["value"], baseline["mrr"][k][task]["value"]
        known = None not in (own, base, best) and best != base
        shares[task] = (own - base) / (best - base) if known else None
    return shares


def _shared_inputs(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    kinds: dict[str, dict[str, list[str]]] = {"data": {}, "split": {}, "config": {}}
    values: dict[str, Any] = {}
    for name, evaluation in evaluations.items():
        inputs = evaluation.manifest.inputs
        for what, value in (
            ("data", evaluation.manifest.info["data"]),
            ("split", inputs["split"]),
            ("config", inputs["config"]),
        ):
            kinds[what].setdefault(json.dumps(value, sort_keys=True), []).append(name)
            values[what] = value
    for what, groups in kinds.items():
        if len(groups) > 1:
            told = " against ".join(", ".join(names) for names in groups.values())
            where = f" in {', '.join(_unlike([json.loads(text) for text in groups]))}" if what == "config" else ""
            raise UserError(
                f"compared evaluations must share their {what}, but they differ{where}: {told}; evaluate them alike"
                + ("; to compare features, leave them out with exclude_features of train" if what == "data" else "")
            )
    return values


def _unlike(configs: Sequence[dict[str, Any]]) -> list[str]:
    """The settings that are not the same in all."""
    return [name for name, value in configs[0].items() if any(other.get(name) != value for other in configs[1:])]


def _counts(split: Split) -> dict[str, Any]:
    counts = {
        task: left_out_searches(np.ascontiguousarray(split.labels[:, i]), split.search_offsets)
        for i, task in enumerate(split.tasks)
    }
    return {
        "searches": split.n_searches,
        "of_one_product": int((np.diff(split.search_offsets) == 1).sum()),
        "rows": split.n_rows,
        "with_positive": {task: split.n_searches - sum(left_out.values()) for task, left_out in counts.items()},
        "missing_label": {task: left_out.get("label missing", 0) for task, left_out in counts.items()},
        "left_out": counts,
    }


def _steps(log: Path, prepared: PreparedData, evaluations: dict[str, Evaluation]) -> list[dict[str, Any]]:
    steps = []
    rows = sum(split["impressions"] for split in prepared.manifest.info["splits"].values())
    if (log / "manifest.json").is_file():
        info = read_manifest(log, search_log.KIND).info
        steps.append({"name": "import", **info["cost"], "rows": info["rows"]["impressions"]})
    steps.append({"name": "prepare", **prepared.manifest.info["cost"], "rows": rows})
    for name, evaluation in evaluations.items():
        if evaluation.report["cost"]["train"]:
            steps.append(
                {
                    "name": f"train {name}",
                    **evaluation.report["cost"]["train"],
                    "rows": prepared.manifest.info["splits"]["train"]["impressions"],
                }
            )
        steps.append(
            {
                "name": f"evaluate {name}",
                **evaluation.manifest.info["cost"],
                "rows": evaluation.report["cost"]["score"]["rows"],
            }
        )
    return steps
