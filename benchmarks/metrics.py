"""Times every metric on generated pages; where scikit-learn is there, against its AUC on the same rows.

Seconds are the processor's, the least of a few runs, so that other work on the machine disturbs little; all that
is timed runs on one core. An AUC's bootstrap is timed with few resamples and scaled up: each costs the same.

    python benchmarks/metrics.py
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np

from shelfrank.metrics import (
    METRICS,
    auc_roc,
    bootstrap_auc,
    bootstrap_auc_difference,
    bootstrap_difference,
    bootstrap_mean,
    personalization_degree,
    ranking_order,
)

TIMED_RESAMPLES = 30


def main() -> None:
    args = parse_args()
    rng = np.random.default_rng(args.seed)
    scores, labels, search_offsets, tie_keys = generate(rng, args.rows, args.searches)
    neutral_scores = scores + rng.normal(scale=0.5, size=args.rows).astype(np.float32)
    print(f"{args.rows:,} rows in {args.searches:,} searches, {labels.mean():.1%} positive, k = {args.k}")
    print(f"bootstraps of {args.resamples:,} resamples")

    ours_s = timed("auc_roc", lambda: auc_roc(scores, labels))
    timed("ranking_order", lambda: ranking_order(scores, search_offsets, tie_keys))
    values = {}
    for name, metric in METRICS.items():
        page_args = (scores, labels, search_offsets, tie_keys, args.k)
        timed(name, lambda metric=metric, page_args=page_args: metric(*page_args))
        values[name] = metric(*page_args), metric(neutral_scores, *page_args[1:])
    timed(
        "personalization_degree",
        lambda: personalization_degree(scores, neutral_scores, search_offsets, tie_keys, args.k),
    )

    for name, (a, b) in values.items():
        time_bootstraps(name, a, b, args.resamples)
    scaled("bootstrap_auc", lambda n: bootstrap_auc(scores, labels, search_offsets, n), args.resamples)
    scaled(
        "bootstrap_auc_difference",
        lambda n: bootstrap_auc_difference(scores, neutral_scores, labels, search_offsets, n),
        args.resamples,
    )
    compare_with_scikit_learn(scores, labels, ours_s)
    print(f"most memory held: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:,.0f} MB")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--searches", type=int, default=250_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def generate(
    rng: np.random.Generator, n_rows: int, n_searches: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draws pages of uneven length, rare positives that score higher, and scores rounded so that some tie."""
    ends = np.sort(rng.choice(np.arange(1, n_rows), size=n_searches - 1, replace=False))
    labels = (rng.random(n_rows) < 0.05).astype(np.int8)
    scores = np.round(rng.normal(size=n_rows) + labels, 4).astype(np.float32)
    return scores, labels, np.concatenate([[0], ends, [n_rows]]), rng.permutation(n_rows).astype(np.uint64)


def timed(name: str, function: Callable[[], object]) -> float:
    seconds = best_seconds(function)
    print(f"{name:48s} {seconds:8.3f} s")
    return seconds


def time_bootstraps(name: str, a: np.ndarray, b: np.ndarray, n_resamples: int) -> None:
    distinct = len(np.unique(a[~np.isnan(a)]))
    timed(f"bootstrap_mean of {name} ({distinct:,} values)", lambda: bootstrap_mean(a, n_resamples))
    timed(f"bootstrap_difference of {name}", lambda: bootstrap_difference(a, b, n_resamples))


def scaled(name: str, function: Callable[[int], object], n_resamples: int) -> None:
    one_s = best_seconds(lambda: function(1))
    each_s = (best_seconds(lambda: function(1 + TIMED_RESAMPLES)) - one_s) / TIMED_RESAMPLES
    print(f"{name:48s} {one_s + each_s * n_resamples:8.3f} s, {each_s:.4f} s for each resample")


def best_seconds(function: Callable[[], object], runs: int = 3) -> float:
    best = float("inf")
    for _ in range(runs):
        started = time.process_time()
        function()
        best = min(best, time.process_time() - started)
    return best


def compare_with_scikit_learn(scores: np.ndarray, labels: np.ndarray, ours_s: float) -> None:
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        print("scikit-learn is not installed, so its AUC is not timed")
        return
    theirs_s = timed("scikit-learn's roc_auc_score", lambda: roc_auc_score(labels, scores))
    apart = abs(auc_roc(scores, labels) - roc_auc_score(labels, scores))
    print(f"scikit-learn takes {theirs_s / ours_s:.1f} times as long; the two figures differ by {apart:.1e}")


if __name__ == "__main__":
    main()
