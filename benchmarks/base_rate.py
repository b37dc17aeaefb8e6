"""What a ranker learns from sampled rows, with and without what sampling added to their log-odds.

    python benchmarks/base_rate.py OUT

A simulated shop is prepared with every training row and with the paper's sampling (Sec. 3.4: half of the rows of a bin,
half of these positive). A network of the paper and XGBoost are trained on both, on the sample with
`train.sampling_offset` on and off. Printed are each network's validation loss by epoch, whose rows are never sampled,
and on the test split, of each task, the mean prediction, the share of positives, the calibration error (the mean of
|predicted - observed| over bins of equally many rows) and MRR@10. Finished parts are not made again.
"""

import argparse
from pathlib import Path

import numpy as np

from shelfrank.config import PrepareConfig, SamplingConfig
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.evaluation import calibration
from shelfrank.metrics import mrr_at_k
from shelfrank.metrics.order import fuse
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers.run import Run, resolve_experiment, train
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import simulate

RANKERS = ("mmoe_dcn_v2", "xgboost")
K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--searches", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    simulate(arguments.out / "log", StorefrontConfig(searches=arguments.searches, seed=arguments.seed))
    for sampling in (None, SamplingConfig()):
        data = arguments.out / ("every_row" if sampling is None else "sampled")
        prepare(arguments.out / "log", data, PrepareConfig(sampling=sampling))
        for name in RANKERS:
            for offset in (True,) if sampling is None else (True, False):
                training = {"sampling_offset": offset, "threads": arguments.threads}
                experiment = resolve_experiment(name, None, [], 0, "default", {"train": training})
                run = data.with_name(f"{data.name}-{name}-{'with' if offset else 'without'}")
                train(data, name, experiment, run)
                title = data.name if sampling is None else f"{data.name}, sampling_offset={str(offset).lower()}"
                print("\n".join(told(f"{name}, {title}", PreparedData.open(data), Run.open(run))), flush=True)


def told(title: str, data: PreparedData, run: Run) -> list[str]:
    """The learning curve and the figures of the test split."""
    curve = run.manifest.info["fitted"]["curve"]
    losses = [f"{each['valid_loss']:.4f}{'*' if each['best'] else ''}" for each in curve]
    lines = [
        title,
        f"  validation loss: {' '.join(losses if len(losses) <= K else [*losses[:5], '...', *losses[-2:]])}",
    ]
    rows, ranker = run.select(data.split("test")), run.ranker(data)
    scores = ranker.score(rows)
    fused = fuse(scores, run.config.fusion_weights(data.tasks).shares)
    for index, task in enumerate(data.tasks):
        if task not in ranker.scored_tasks:
            continue
        bins = calibration(scores[:, index], rows.labels[:, index])
        predicted, observed, n = (np.array([each[key] for each in bins]) for key in ("predicted", "observed", "rows"))
        error = np.average(np.abs(predicted - observed), weights=n)
        mrr = mrr_at_k(fused, rows.labels[:, index], rows.search_offsets, rows.tie_keys, K)
        lines.append(
            f"  {task}: predicted {np.average(predicted, weights=n):.4f}, observed "
            f"{np.average(observed, weights=n):.4f}, calibration error {error:.4f}, MRR@{K} {mrr:.4f}"
        )
    return lines


if __name__ == "__main__":
    main()
