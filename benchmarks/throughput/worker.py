"""Runs one race of one contender in this process and writes its figures as JSON."""

import argparse
import importlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .clock import TIMERS, RaceClock, RaceOverError
from .contender import NEURAL_MODELS, Contender, Model, Setting
from .rows import Rows, auc


class Entry(NamedTuple):
    """How a contender is made.

    Attributes:
        module: Its module beside this one, imported only in the process that races it.
        make: Makes it from that module.
        models: The models it builds.
    """

    module: str
    make: Callable[[Any], Contender]
    models: tuple[Model, ...]


DENSE: tuple[Model, ...] = ("mmoe", "dcn_v2")
CONTENDERS = {
    "shelfrank": Entry("own", lambda module: module.Shelfrank(precision="auto"), NEURAL_MODELS),
    "shelfrank batch norm": Entry("own", lambda module: module.Shelfrank(precision="auto", batch_norm=True), DENSE),
    "shelfrank fp32": Entry("own", lambda module: module.Shelfrank(precision="fp32"), NEURAL_MODELS),
    "plain loop": Entry("plain_loop", lambda module: module.PlainLoop(module.PLAIN_MODELS), DENSE),
    "fuxictr": Entry("fuxictr_peer", lambda module: module.FuxiCTR(), DENSE),
    "deepctr-torch": Entry("deepctr_peer", lambda module: module.DeepCTRTorch(), DENSE),
    "torch-rechub": Entry("rechub_peer", lambda module: module.TorchRechub(), DENSE),
    "rtdl": Entry("rtdl_peer", lambda module: module.rtdl_in_plain_loop(bf16=False), ("ft_transformer",)),
    "rtdl bf16": Entry("rtdl_peer", lambda module: module.rtdl_in_plain_loop(bf16=True), ("ft_transformer",)),
    "pytorch-frame": Entry("frame_peer", lambda module: module.PyTorchFrame(), ("ft_transformer", "tabnet")),
    "pytorch-tabnet": Entry("tabnet_peer", lambda module: module.PyTorchTabNet(), ("tabnet",)),
    "lightgbm": Entry("boosters", lambda module: module.LightGBMTrees(native=False), ("trees",)),
    "lightgbm native": Entry("boosters", lambda module: module.LightGBMTrees(native=True), ("trees",)),
    "xgboost": Entry("boosters", lambda module: module.XGBoostTrees(native=False), ("trees",)),
    "xgboost native": Entry("boosters", lambda module: module.XGBoostTrees(native=True), ("trees",)),
}


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
    entry = CONTENDERS[args.contender]
    try:
        contender = entry.make(importlib.import_module(f".{entry.module}", __package__))
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
