"""Paired differences of rankers to a baseline, on the same searches and the same resamples."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from shelfrank.config import EvaluateConfig
from shelfrank.core.progress import progress
from shelfrank.data.prepared import Split
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.metrics import METRICS, bootstrap_auc_difference, bootstrap_difference
from shelfrank.metrics.interval import Difference


def differences(
    evaluations: dict[str, Evaluation], split: Split, config: EvaluateConfig, baseline: str
) -> dict[str, Any]:
    """Every ranker's paired difference to the baseline, on the same searches and the same resamples."""
    base = evaluations[baseline]
    result: dict[str, Any] = {}
    others = [name for name in evaluations if name != baseline]
    with progress("Comparing", total=max(1, n_differences(split, config) * len(others)), unit="differences") as advance:
        for name in others:
            both = (evaluations[name].report["auc"], base.report["auc"])
            result[name] = ranker_differences(
                [np.asarray(evaluation.array("fused")) for evaluation in (evaluations[name], base)],
                [np.asarray(evaluation.array("tasks")) for evaluation in (evaluations[name], base)],
                [task for task in split.tasks if all(auc[task] for auc in both)],
                split,
                config,
                advance,
            )
    return result


def n_differences(split: Split, config: EvaluateConfig) -> int:
    """How many differences `ranker_differences` computes."""
    return len(METRICS) * len(config.ks) * len(split.tasks) + len(split.tasks)


def ranker_differences(
    fused: Sequence[Float[np.ndarray, " rows"]],
    tasks: Sequence[Float[np.ndarray, "rows n_tasks"]],
    scored_tasks: Sequence[str],
    split: Split,
    config: EvaluateConfig,
    advance: Callable[[int], object] = lambda _: None,
) -> dict[str, Any]:
    """One ranker's paired differences to another, in every metric, cutoff and task.

    Args:
        fused: The score that orders the pages, the ranker's and the other's.
        tasks: The scores of each task, the ranker's and the other's.
        scored_tasks: The tasks that both were made to predict; the others have no difference in AUC.
        split: The split that was measured.
        config: Cutoffs and resamples.
        advance: Called with 1 after each difference.

    Returns:
        By metric, cutoff and task, and by task for `auc`, the difference; None where there is none.
    """
    found: dict[str, Any] = {metric: {str(k): {} for k in config.ks} for metric in METRICS} | {"auc": {}}
    for index, task in enumerate(split.tasks):
        labels = np.ascontiguousarray(split.labels[:, index])
        for metric, values in METRICS.items():
            for k in config.ks:
                own, its = (values(s, labels, split.search_offsets, split.tie_keys, k) for s in fused)
                found[metric][str(k)][task] = paired_difference(own, its, config)
                advance(1)
        found["auc"][task] = None
        if task in scored_tasks:
            own, its = (np.ascontiguousarray(scores[:, index]) for scores in tasks)
            paired = bootstrap_auc_difference(
                own, its, labels, split.search_offsets, config.n_resamples_auc, config.seed, config.confidence
            )
            found["auc"][task] = _plain(paired)
        advance(1)
    return found


def paired_difference(
    own: Float[np.ndarray, " searches"], base: Float[np.ndarray, " searches"], config: EvaluateConfig
) -> dict[str, Any]:
    """The mean of own minus base over the searches where both have a value, with its interval and `p`."""
    return _plain(bootstrap_difference(own, base, config.n_resamples, config.seed, config.confidence))


def _plain(difference: Difference) -> dict[str, Any]:
    plain = difference.as_dict()
    plain["p"] = plain.pop("p_value")
    return plain
