"""Paired differences of rankers to a baseline, on the same searches and the same resamples."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from shelfrank.config import EvaluateConfig
from shelfrank.core.progress import progress
from shelfrank.data.prepared import Split
from shelfrank.evaluate.evaluation import Scored
from shelfrank.metrics import METRICS, bootstrap_auc_difference, bootstrap_difference
from shelfrank.metrics.interval import Difference


def differences(rankers: Mapping[str, Scored], split: Split, config: EvaluateConfig, baseline: str) -> dict[str, Any]:
    """Every ranker's paired difference to the baseline, on the same searches and the same resamples."""
    base = rankers[baseline]
    others = {name: scored for name, scored in rankers.items() if name != baseline}
    per_ranker = len(METRICS) * len(config.ks) * len(split.tasks) + len(split.tasks)
    with progress("Comparing", total=max(1, per_ranker * len(others)), unit="differences") as advance:
        return {name: _ranker_differences(own, base, split, config, advance) for name, own in others.items()}


def _ranker_differences(
    own: Scored, base: Scored, split: Split, config: EvaluateConfig, advance: Callable[[int], object]
) -> dict[str, Any]:
    """By metric, cutoff and task, and by task for `auc`; None for the AUC of a task that not both predict."""
    found: dict[str, Any] = {metric: {str(k): {} for k in config.ks} for metric in METRICS} | {"auc": {}}
    for index, task in enumerate(split.tasks):
        labels = np.ascontiguousarray(split.labels[:, index])
        for metric, values in METRICS.items():
            for k in config.ks:
                mine, its = (
                    values(scored.fused, labels, split.search_offsets, split.tie_keys, k) for scored in (own, base)
                )
                found[metric][str(k)][task] = paired_difference(mine, its, config)
                advance(1)
        found["auc"][task] = None
        if own.report["auc"][task] and base.report["auc"][task]:
            mine, its = (np.ascontiguousarray(scored.tasks[:, index]) for scored in (own, base))
            paired = bootstrap_auc_difference(
                mine, its, labels, split.search_offsets, config.n_resamples_auc, config.seed, config.confidence
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
