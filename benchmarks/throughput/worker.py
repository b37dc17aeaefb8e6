"""Runs one race of one contender in this process and writes its figures as JSON."""

import argparse
import importlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .clock import TIMERS, RaceClock, RaceOverError
from .contender import Contender, Setting
from .rows import Rows, auc

CONTENDERS: dict[str, tuple[str, Callable[[Any], Contender]]] = {
    "shelfrank": ("own", lambda module: module.Shelfrank(precision="auto")),
    "shelfrank batch norm": ("own", lambda module: module.Shelfrank(precision="auto", batch_norm=True)),
    "shelfrank fp32": ("own", lambda module: module.Shelfrank(precision="fp32")),
    "plain loop": ("plain_loop", lambda module: module.PlainLoop()),
    "fuxictr": ("fuxictr_peer", lambda module: module.FuxiCTR()),
    "deepctr-torch": ("deepctr_peer", lambda module: module.DeepCTRTorch()),
    "torch-rechub": ("rechub_peer", lambda module: module.TorchRechub()),
    "lightgbm": ("boosters", lambda module: module.LightGBMTrees(native=False)),
    "lightgbm native": ("boosters", lambda module: module.LightGBMTrees(native=True)),
    "xgboost": ("boosters", lambda module: module.XGBoostTrees(native=False)),
    "xgboost native": ("boosters", lambda module: module.XGBoostTrees(native=True)),
}
"""Every contender's module and how to make it; the module is imported only in the process that races it."""

TREES = ("lightgbm", "lightgbm native", "xgboost", "xgboost native")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contender", required=True, choices=CONTENDERS)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--max-seconds", type=float, required=True)
    parser.add_argument("--goal", type=float, required=True)
    parser.add_argument("--probe-rows", type=int, required=True)
    parser.add_argument("--clock", choices=TIMERS, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.write_text(json.dumps(race(args)), encoding="utf-8")


def race(args: argparse.Namespace) -> dict[str, Any]:
    """Builds, trains and scores one contender.

    Args:
        args: The command line's values.

    Returns:
        The figures, or `skipped` with the reason where the library is not installed.
    """
    module_name, make = CONTENDERS[args.contender]
    try:
        contender = make(importlib.import_module(f".{module_name}", __package__))
    except ModuleNotFoundError as error:
        return {"skipped": f"{error.name} is not installed for {sys.executable}"}
    if "torch" in sys.modules:
        # The first optimizer of a process imports PyTorch's compiler, a second or two that no library should bear.
        importlib.import_module("torch._dynamo")
    train, held_out = Rows.load(args.rows / "train"), Rows.load(args.rows / "held_out")
    probe = held_out.take(slice(args.probe_rows))
    setting = Setting(args.model, args.batch_size, args.learning_rate, args.epochs, args.seed)
    load_before = os.getloadavg()[0]
    timer = TIMERS[args.clock]
    started = timer()
    steps_per_epoch = contender.build(train, setting)
    build_s = timer() - started
    clock = RaceClock(
        timer=timer,
        score=lambda: auc(contender.predict(probe), probe.labels[:, 0]),
        steps_per_epoch=steps_per_epoch,
        epochs=args.epochs,
        max_seconds=args.max_seconds,
        goal=args.goal,
    )
    clock.start()
    try:
        contender.train(clock)
        raise AssertionError(
            f"{args.contender} made {clock.steps} steps, but {steps_per_epoch} an epoch were announced"
        )
    except RaceOverError:
        parameters = contender.parameters()
    first_epoch_s = clock.first_epoch_seconds
    assert first_epoch_s is not None, "a race cannot end within its first epoch"
    return {
        "build_s": build_s,
        "first_epoch_s": first_epoch_s,
        "rows_per_s": len(train) / first_epoch_s,
        "phases_s": dict(clock.phases) | {"elsewhere": first_epoch_s - sum(clock.phases.values())},
        "points": clock.points,
        "held_out_auc": auc(contender.predict(held_out), held_out.labels[:, 0]),
        "parameters": {"tables": parameters.tables, "network": parameters.network},
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "load_before": load_before,
        "notes": contender.notes,
    }


if __name__ == "__main__":
    main()
