"""Paired differences of rankers to a baseline, on the same searches and the same resamples."""

from typing import Any

import numpy as np
from jaxtyping import Float

from shelfrank.config import EvaluateConfig
from shelfrank.data.prepared import Split
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.metrics import METRICS, bootstrap_auc_difference, bootstrap_difference
from shelfrank.metrics.interval import Difference
from shelfrank.progress import progress


def differences(
    evaluations: dict[str, Evaluation], split: Split, config: EvaluateConfig, baseline: str
) -> dict[str, Any]:
    """Every ranker's paired difference to the baseline, on the same searches and the same resamples."""
    base = np.asarray(evaluations[baseline].array("fused"))
    base_tasks = np.asarray(evaluations[baseline].array("tasks"))
    result: dict[str, Any] = {}
    others = [name for name in evaluations if name != baseline]
    each = len(METRICS) * len(config.ks) * len(split.tasks) + len(split.tasks)
    with progress("Comparing", total=max(1, each * len(others)), unit="differences") as advance:
        for name in others:
            fused, tasks = np.asarray(evaluations[name].array("fused")), np.asarray(evaluations[name].array("tasks"))
            found: dict[str, Any] = {metric: {str(k): {} for k in config.ks} for metric in METRICS} | {"auc": {}}
            for index, task in enumerate(split.tasks):
                labels = np.ascontiguousarray(split.labels[:, index])
                for metric, values in METRICS.items():
                    for k in config.ks:
                        own, its = (values(s, labels, split.search_offsets, split.tie_keys, k) for s in (fused, base))
                        found[metric][str(k)][task] = paired_difference(own, its, config)
                        advance(1)
                found["auc"][task] = None
                if all(evaluations[each_name].report["auc"][task] for each_name in (name, baseline)):
                    paired = bootstrap_auc_difference(
                        np.ascontiguousarray(tasks[:, index]),
                        np.ascontiguousarray(base_tasks[:, index]),
                        labels,
                        split.search_offsets,
                        config.n_resamples_auc,
                        config.seed,
                        config.confidence,
                    )
                    found["auc"][task] = _plain(paired)
                advance(1)
            result[name] = found
    return result


def paired_difference(
    own: Float[np.ndarray, " searches"], base: Float[np.ndarray, " searches"], config: EvaluateConfig
) -> dict[str, Any]:
    """The mean of own minus base over the searches where both have a value, with its interval and `p`."""
    return _plain(bootstrap_difference(own, base, config.n_resamples, config.seed, config.confidence))


def _plain(difference: Difference) -> dict[str, Any]:
    plain = difference.as_dict()
    plain["p"] = plain.pop("p_value")
    return plain
