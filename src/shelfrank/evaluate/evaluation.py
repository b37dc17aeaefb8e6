"""One ranker on one split: its scores kept, its figures with intervals."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int64

from shelfrank.config import EvaluateConfig
from shelfrank.core.artifact import Manifest, fingerprint, is_current, read_manifest, verify_files
from shelfrank.core.errors import UserError
from shelfrank.core.processes import processes
from shelfrank.core.progress import measured, progress
from shelfrank.core.schema import Side
from shelfrank.data.prepared import PreparedData, Split, one_after_another
from shelfrank.evaluate.truth import Truth
from shelfrank.metrics import METRICS, Interval, bootstrap_auc, bootstrap_mean, left_out_pages, personalization_degree
from shelfrank.metrics.order import fuse
from shelfrank.rankers.base import Ranker
from shelfrank.rankers.run import Run
from shelfrank.train.distributed import publish_once, score_together

KIND = "evaluation"
EVALUATION_VERSION = 5
"""Part of every evaluation's inputs: raise it when the same run gives other figures."""
CALIBRATION_BINS = 12


class Scored(NamedTuple):
    """A measured ranker: its report, its score of each task, and the score that orders each page."""

    report: dict[str, Any]
    tasks: Float32[np.ndarray, "rows n_tasks"]
    fused: Float32[np.ndarray, " rows"]


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation on disk.

    Attributes:
        path: Its folder.
        manifest: Its manifest.
        report: The figures, as `report.json` holds them.
    """

    path: Path
    manifest: Manifest
    report: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Evaluation":
        """Opens a finished evaluation; a missing, half-written or damaged one is a `UserError`."""
        manifest = read_manifest(path, KIND)
        verify_files(path, manifest)
        return cls(path, manifest, json.loads((path / "report.json").read_text(encoding="utf-8")))

    @property
    def scored(self) -> Scored:
        """The report with the scores that it rests on."""
        return Scored(self.report, np.asarray(self.array("tasks")), np.asarray(self.array("fused")))

    def prepared(self) -> PreparedData:
        """The data that was evaluated, only its evaluated searches; a `UserError` where that has changed since."""
        prepared = PreparedData.open_folds(Path(self.manifest.info["prepared"]))
        if prepared.manifest.fingerprint != self.manifest.info["data"]:
            raise UserError(
                f"{prepared.path} must hold the data that was evaluated, but it has changed; evaluate again"
            )
        only = self.manifest.inputs["config"].get("only")
        return prepared if only is None else prepared.only(self.manifest.inputs["split"], only)

    def array(self, name: str) -> np.ndarray:
        """One of `fused`, `tasks`, `pd_searches`, `pd_fused`, `pd_neutral`."""
        return np.load(self.path / f"{name}.npy", mmap_mode="r")


def evaluate(run_path: Path, out: Path, config: EvaluateConfig, split_name: str = "test") -> bool:
    """Scores a split with a run's ranker and measures it; of folds, each test split with the ranker of its fold.

    Processes that share the scoring all call this; the first one measures and writes.

    Args:
        run_path: A finished run, or one of folds.
        out: Where scores and `report.json` go.
        config: Cutoffs, resamples, what a neutral customer is, which searches.
        split_name: The split to measure on.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the run or its data cannot be read, or the data is no longer what the run was trained on; where
            another split of folds than test is asked for, or the data does not mark the searches to evaluate.
    """
    run = Run.open_folds(run_path)
    if run.folds and split_name != "test":
        raise UserError(
            f"a run of folds must be evaluated on the test splits, which no other fold shares, but the split is "
            f"{split_name}; evaluate one fold, such as {run.folds[0].path}"
        )
    inputs = _inputs(run, config, split_name)
    group = processes()
    group.agree(fingerprint(inputs), "run, split and config")
    if group.from_lead(is_current(out, KIND, inputs)):
        return False
    prepared = run.prepared()
    if config.only is not None:
        prepared = prepared.only(split_name, config.only)
    truth = Truth.open(prepared, split_name)
    split = prepared.split(split_name)
    with publish_once(out, KIND, inputs) as draft, measured() as cost:
        scored = _score(run, prepared, split_name, config)
        ranker, personal = scored.ranker, scored.personal
        if draft is None:
            group.wait()
            return True
        tasks = scored.tasks
        fusion = run.config.fusion_weights(prepared.tasks)
        fused = fuse(tasks, fusion.shares)
        np.save(draft.path / "tasks.npy", tasks)
        np.save(draft.path / "fused.npy", fused)
        report = {
            "name": run_path.name,
            "evaluated": evaluated_searches(prepared, split_name),
            "clipped": _clipped(prepared, split_name),
            "ranker": run.name,
            "label": run.label,
            "learned": ranker.learned,
            "uses_features": ranker.uses_features,
            "task_weights": dict(run.config.loss_weights(prepared.tasks)) if fuses(ranker) else None,
            "score_weights": dict(fusion) if fuses(ranker) else None,
            **figures(split, tasks, fused, scored.scored_tasks, config),
            **({} if truth is None else truth.figures(fused, config)),
            **_figures_of_folds(prepared, split, fused, config),
            "calibration": calibrations(split, tasks, scored.scored_tasks) if ranker.gives_probabilities else None,
            "pd": personal and _personalization(personal, fusion.shares, config, draft.path),
            "params": _parameters(run),
            "curves": run.manifest.info["fitted"]["curve"] or None,
            "choices": run.manifest.info["fitted"]["choices"],
            # Runs of former versions name neither.
            "shares": run.manifest.info["fitted"].get("shares"),
            "gates": run.manifest.info["fitted"].get("gates"),
            "cost": {
                "train": run.manifest.info["cost"] if ranker.learned else None,
                "score": {"wall_s": round(scored.seconds, 3), "rows": split.n_rows},
            },
            "config": run.manifest.inputs["config"],
            "fingerprint": run.manifest.fingerprint,
            "seed": run.config.seed,
        }
        (draft.path / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        draft.info.update(
            prepared=run.manifest.info["prepared"],
            data=prepared.manifest.fingerprint,
            evaluated=report["evaluated"],
            cost=cost.stop().as_dict(),
        )
    group.wait()
    return True


def evaluated_searches(prepared: PreparedData, split_name: str) -> dict[str, Any]:
    """Which searches figures are on, as plain data.

    Args:
        prepared: The data, only its evaluated searches.
        split_name: The split.

    Returns:
        The number of `searches`, `of` how many of the split; the mark that `only` they have, None for all; and `folds`,
        the searches of each test window, None without folds.
    """
    return {
        "searches": prepared.searches(split_name).num_rows,
        "of": prepared.unmarked().searches(split_name).num_rows,
        "only": None if prepared.marked is None else prepared.marked[1],
        "folds": [fold.searches(split_name).num_rows for fold in prepared.folds] or None,
    }


def _clipped(prepared: PreparedData, split_name: str) -> dict[str, int]:
    """By feature, the split's rows whose number is clipped to what training saw."""
    found: Counter[str] = Counter()
    for part in prepared.parts:
        # Folders of other makers, such as the census, clip nothing.
        found.update(
            {name: splits.get(split_name, 0) for name, splits in part.manifest.info.get("clipped", {}).items()}
        )
    return dict(+found)


class _Scores(NamedTuple):
    """A split's scores, those for a neutral customer, and the ranker, of folds the last one's.

    Of folds only the tasks are scored that every fold's ranker scores.
    """

    tasks: Float32[np.ndarray, "rows n_tasks"]
    personal: "_Personal | None"
    ranker: Ranker
    scored_tasks: tuple[str, ...]
    seconds: float


def _score(run: Run, prepared: PreparedData, split_name: str, config: EvaluateConfig) -> _Scores:
    splits = [part.split(split_name) for part in prepared.parts]
    ends = np.cumsum([0, *(split.n_searches for split in splits)])
    chosen = sample_searches(int(ends[-1]), config)
    tasks: list[np.ndarray] = []
    personal: list[_Personal] = []
    seconds, ranker, scored_tasks = 0.0, None, prepared.tasks
    for part, data, split, first in zip(run.parts, prepared.parts, splits, ends[:-1].tolist(), strict=True):
        ranker, rows = part.ranker(data), part.select(split)
        scored_tasks = tuple(task for task in scored_tasks if task in ranker.scored_tasks)
        if not rows.n_rows:
            # Of a fold, no search may have the mark that is asked for.
            tasks.append(np.zeros((0, len(rows.tasks)), np.float32))
            continue
        started = time.monotonic()
        tasks.append(score_together(ranker.score, rows))
        seconds += time.monotonic() - started
        own = chosen[(chosen >= first) & (chosen < first + split.n_searches)] - first
        subset = rows.searches(own) if ranker.uses_features else None
        if subset is not None and knows_customers(subset):
            scores = score_together(ranker.score, subset)
            neutral = score_together(ranker.score, subset.neutral(config.neutral))
            personal.append(_Personal(own + first, subset, scores, neutral))
    assert ranker is not None, "a run has at least one part"
    return _Scores(np.concatenate(tasks), _together(personal), ranker, scored_tasks, seconds)


def _figures_of_folds(
    prepared: PreparedData, split: Split, fused: Float32[np.ndarray, " rows"], config: EvaluateConfig
) -> dict[str, Any]:
    """MRR on each test window by itself: by fold, cutoff and task, with the times and the number of its searches."""
    if not prepared.folds:
        return {}
    ranks = {
        (k, task): METRICS["mrr"](
            fused, np.ascontiguousarray(split.labels[:, index]), split.search_offsets, split.tie_keys, k
        )
        for k in config.ks
        for index, task in enumerate(split.tasks)
    }
    found: dict[str, Any] = {}
    first = 0
    for fold in prepared.folds:
        times = fold.searches("test")["timestamp"].to_pylist()
        own = slice(first, first + len(times))
        first = own.stop
        mrr: dict[str, Any] = {str(k): {} for k in config.ks}
        for (k, task), values in ranks.items():
            figure = bootstrap_mean(values[own], config.n_resamples, config.seed, config.confidence)
            mrr[str(k)][task] = figure.as_dict()
        found[fold.path.name] = {
            "searches": len(times),
            "first": times[0].isoformat() if times else None,
            "last": times[-1].isoformat() if times else None,
            "mrr": mrr,
        }
    return {"folds": found}


def is_evaluated(run_path: Path, out: Path, config: EvaluateConfig, split_name: str = "test") -> bool:
    """Whether `out` already holds the evaluation that `evaluate` would make of the same arguments."""
    return is_current(out, KIND, _inputs(Run.open_folds(run_path), config, split_name))


def _inputs(run: Run, config: EvaluateConfig, split_name: str) -> dict[str, Any]:
    return {
        "run": run.manifest.fingerprint,
        "split": split_name,
        "config": config.model_dump(mode="json"),
        "version": EVALUATION_VERSION,
    }


def fuses(ranker: Ranker) -> bool:
    """Whether a ranker has a probability for more than one task, so that weights decide its order."""
    return ranker.gives_probabilities and len(ranker.scored_tasks) > 1


def figures(
    split: Split,
    tasks: Float[np.ndarray, "rows n_tasks"],
    fused: Float32[np.ndarray, " rows"],
    scored_tasks: Sequence[str],
    config: EvaluateConfig,
) -> dict[str, Any]:
    """AUC by task, and every per-search metric by cutoff and task, each with its interval."""
    total = len(METRICS) * len(config.ks) * len(split.tasks) + len(scored_tasks)
    result: dict[str, Any] = {name: {str(k): {} for k in config.ks} for name in METRICS} | {"auc": {}}
    with progress("Measuring", total=total, unit="figures") as advance:
        for index, task in enumerate(split.tasks):
            labels = np.ascontiguousarray(split.labels[:, index])
            for name, metric in METRICS.items():
                for k in config.ks:
                    values = metric(fused, labels, split.search_offsets, split.tie_keys, k)
                    interval = bootstrap_mean(values, config.n_resamples, config.seed, config.confidence)
                    result[name][str(k)][task] = interval.as_dict()
                    advance(1)
            if task in scored_tasks:
                scores = np.ascontiguousarray(tasks[:, index])
                interval = bootstrap_auc(
                    scores, labels, split.search_offsets, config.n_resamples_auc, config.seed, config.confidence
                )
                result["auc"][task] = interval.as_dict()
                advance(1)
            else:
                result["auc"][task] = None
    return result


def calibrations(split: Split, tasks: Float[np.ndarray, "rows n_tasks"], scored_tasks: Sequence[str]) -> dict[str, Any]:
    """Predicted against observed rates in bins of rising prediction, of scores that are probabilities."""
    return {
        task: calibration(tasks[:, index], split.labels[:, index])
        for index, task in enumerate(split.tasks)
        if task in scored_tasks
    }


def calibration(probs: Float[np.ndarray, " rows"], labels: np.ndarray) -> list[dict[str, float | int]]:
    """Mean prediction and share of positives in bins of labelled rows, by rising prediction.

    The bins hold about equally many rows. Rows of equal prediction share one, so that the figures depend on predictions
    and labels alone: a group of equal rows belongs to the bin in which its middle lies.
    """
    known = labels >= 0
    probs, positive = np.asarray(probs)[known].astype(np.float64), np.asarray(labels)[known] == 1
    # By label too: sums of the same rows in another order may differ in their last bits.
    order = np.lexsort((positive, probs))
    probs, positive = probs[order], positive[order]
    _, first, sizes = np.unique(probs, return_index=True, return_counts=True)
    bin_of_group = (2 * first + sizes - 1) * CALIBRATION_BINS // max(1, 2 * len(probs))
    starts = first[np.flatnonzero(np.diff(bin_of_group, prepend=-1))]
    return [
        {"predicted": float(probs[a:b].mean()), "observed": float(positive[a:b].mean()), "rows": int(b - a)}
        for a, b in itertools.pairwise(np.append(starts, len(probs)))
    ]


def knows_customers(rows: Split) -> bool:
    """Whether the rows distinguish customers, so that Personalization Degree has a meaning.

    It takes features of the customer, and a customer: one whose id the log has, or anything that differs between the
    customers' features, as those of sessions do for anonymous visitors. Without either, every order is neutral.
    """
    by_kind = ((rows.numerical, rows.numerical_columns), (rows.categorical, rows.categorical_columns))
    features = [
        values[:, index]
        for values, columns in by_kind
        for index, column in enumerate(columns)
        if column.side is Side.CUSTOMER
    ]
    if not features or not rows.n_rows:
        return False
    return bool((np.asarray(rows.customer_idx) >= 0).any()) or any(bool((f != f[0]).any()) for f in features)


class _Personal(NamedTuple):
    """Some searches' scores, and their scores for a neutral customer."""

    searches: Int64[np.ndarray, " chosen"]
    rows: Split
    own: Float32[np.ndarray, "rows n_tasks"]
    neutral: Float32[np.ndarray, "rows n_tasks"]


def _together(parts: Sequence[_Personal]) -> _Personal | None:
    """The searches of several folds, one after another; None without any."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return _Personal(
        np.concatenate([part.searches for part in parts]),
        one_after_another([part.rows for part in parts]),
        np.concatenate([part.own for part in parts]),
        np.concatenate([part.neutral for part in parts]),
    )


def _personalization(
    personal: _Personal, weights: tuple[float, ...], config: EvaluateConfig, folder: Path
) -> dict[str, Any]:
    subset, own, neutral = personal.rows, fuse(personal.own, weights), fuse(personal.neutral, weights)
    for name, array in (("pd_searches", personal.searches), ("pd_fused", own), ("pd_neutral", neutral)):
        np.save(folder / f"{name}.npy", array)
    overlap = personalization_degree(own, neutral, subset.search_offsets, subset.tie_keys, config.pd_k)
    interval: Interval = bootstrap_mean(overlap, config.n_resamples, config.seed, config.confidence)
    left_out = sum(left_out_pages(subset.search_offsets, config.pd_k).values())
    return {str(config.pd_k): {**interval.as_dict(), "left_out": left_out}}


def sample_searches(n: int, config: EvaluateConfig) -> Int64[np.ndarray, " chosen"]:
    """The random subset S of Personalization Degree, in the split's order (Paper: Sec. 4.3)."""
    if n <= config.pd_searches:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(config.seed).choice(n, config.pd_searches, replace=False)).astype(np.int64)


def _parameters(run: Run) -> dict[str, Any] | None:
    fitted = run.manifest.info["fitted"]
    parts = fitted["parameters"]
    if parts is None:
        return None
    trainable = sum(parts.values())
    return {"trainable": trainable, "total": trainable + fitted["frozen_parameters"], "parts": parts}
