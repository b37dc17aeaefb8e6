"""Sets the cheap search over loss weights against the full grid: what each costs, and whether they find the same.

Both searches start from the same config, so that a point that both train whole is the same training bit for bit. Costs
are training rows seen, which do not depend on the machine, and seconds. Agreement is the paired bootstrap over the
validation searches of the full grid's best point and the cheap choice, and the same for what fusing one training's
scores would have chosen.

    shelfrank simulate --out log --searches 16000 --seed 3
    shelfrank prepare log --out prepared --set split.train=0.6 --set split.valid=0.3
    python benchmarks/tune_grid.py prepared --out tuned
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from shelfrank.config import TuneConfig
from shelfrank.data.prepared import PreparedData
from shelfrank.rankers.run import resolve_experiment
from shelfrank.tune.judge import Judge
from shelfrank.tune.tuning import tune

SMALL = (
    "train.threads=1",
    "train.precision=fp32",
    "train.epochs=2",
    "train.batch_size=1024",
    "train.learning_rate=2e-3",
    "neural.d_embedding=8",
    "neural.mmoe.n_experts=4",
    "neural.mmoe.expert_layers=[32, 16]",
    "neural.tower_layers=[16]",
    "relevance_weight=0",
)
"""A network that trains in seconds, as the full grid trains 66."""


def main() -> None:
    args = parse_args()
    config = resolve_experiment(args.ranker, None, [*SMALL, *args.set], args.seed)
    results: dict[str, Any] = {}
    for method in ("cheap", "full"):
        settings = TuneConfig(method=method)
        out = args.out / method
        tune(args.prepared, args.ranker, config, out, settings)
        results[method] = json.loads((out / "trials.json").read_text(encoding="utf-8"))
    with np.load(args.out / "full" / "ranks.npz") as file:
        ranks = {name: file[name] for name in file.files}
    judge = Judge(PreparedData.open(args.prepared).split("valid"), TuneConfig())
    print(json.dumps(agreement(results["cheap"], results["full"], ranks, judge), indent=1))


def agreement(
    cheap: dict[str, Any], full: dict[str, Any], ranks: dict[str, np.ndarray], judge: Judge
) -> dict[str, Any]:
    """The cheap choice among the full grid's points, and what both searches cost."""
    names = list(ranks)
    best = names.index(full["chosen"])
    compared = judge.compare(list(ranks.values()), best)
    values = [objective["value"] for objective, _ in compared]
    order = np.argsort(values)[::-1]
    place = {names[i]: rank + 1 for rank, i in enumerate(order.tolist())}
    fused = {point["id"]: point["fused_objective"] for point in cheap["points"]}
    short = {point["id"]: point["objective"] for point in cheap["points"]}
    screened = max(fused, key=lambda name: fused[name])
    agree = {
        what: float(spearmanr([found[name] for name in names], values)[0])  # pyright: ignore[reportArgumentType]
        for what, found in (("fused", fused), ("short", short))
    }
    even = [difference["low"] <= 0 <= difference["high"] for _, difference in compared]
    return {
        "choices": {
            name: {
                "point": point,
                "place": place[point],
                "objective": compared[names.index(point)][0],
                "best_minus_it": compared[names.index(point)][1],
            }
            for name, point in (("full", full["chosen"]), ("cheap", cheap["chosen"]), ("fused", screened))
        },
        "grid": {"points": len(names), "even_with_the_best": sum(even), "least": min(values), "most": max(values)},
        "spearman_with_full": agree,
        "finalists_places": sorted(place[point["id"]] for point in cheap["points"] if point["stage"] == "whole"),
        "cost": {
            "rows": {"cheap": cheap["cost"]["rows"], "full": full["cost"]["rows"]},
            "seconds": {"cheap": cheap["cost"]["seconds"], "full": full["cost"]["seconds"]},
            "share_of_rows": cheap["cost"]["rows"] / full["cost"]["rows"],
            "share_of_seconds": cheap["cost"]["seconds"] / full["cost"]["seconds"],
            "stages": cheap["cost"]["stages"],
        },
    }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ranker", default="mmoe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    return parser.parse_args()


if __name__ == "__main__":
    main()
