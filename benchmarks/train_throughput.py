"""Races training: rows per second at one shape, and seconds to a stated AUC.

Every contender trains on the same generated rows (20 categoricals, 30 numbers, 3 tasks of falling rates) in a process
of its own, by its library's documented loader and loop. Two questions are asked of the same runs:

- At one shape, one batch size and Adam at one rate: how many rows a second, loader included, and what is the AUC then?
- With the batch size that suits it: how many seconds of training until a stated AUC on held-out rows?

Both leave out building the dataset, which is stated apart, and scoring the held-out rows. The other libraries are the
extra `bench`: none of them pins or replaces PyTorch. Those that are not installed are skipped. `--peer-python` names
another interpreter for them, so that they can live in an environment of their own with jaxtyping, lightgbm and
xgboost-cpu beside them. On a machine that others use too, `--clock cpu --threads 1` gives figures that their work does
not stretch.

    python benchmarks/train_throughput.py --out runs/throughput.json
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from throughput.clock import TIMERS
from throughput.contender import NEURAL_MODELS
from throughput.rows import TASKS, Rows, auc, generate
from throughput.tables import fixed_shape_table, skipped_lines, time_to_auc_table, trees_table
from throughput.worker import CONTENDERS

MODELS = (*NEURAL_MODELS, "trees")
HERE = Path(__file__).resolve().parent
HERE_ONLY = ("shelfrank", "shelfrank batch norm", "shelfrank fp32", "plain loop")
"""Raced by this interpreter, whatever `--peer-python` says."""

OWN_CHOICE = 0
BATCH_SIZES: dict[str, Callable[[list[int]], list[int]]] = {
    "shelfrank": lambda sizes: [sizes[0], OWN_CHOICE],
    "shelfrank batch norm": lambda sizes: sizes[:1],
    "shelfrank fp32": lambda sizes: sizes[:1],
}
"""Ours picks batch and rate itself for the second question; contenders that are not named get every batch size."""
RACE_TIMEOUT_S = 1800


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        rows = generate(args.rows + args.held_out, args.seed)
        rows.take(slice(args.rows)).save(Path(folder, "train"))
        held_out = rows.take(slice(args.rows, None))
        held_out.save(Path(folder, "held_out"))
        about = describe(args, held_out)
        races = []
        for race in schedule(args):
            print(f"racing {race['contender']} {race['model']} {race['setting']}", file=sys.stderr, flush=True)
            races.append(race | run(race, args, Path(folder)))
            if args.out:
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps({"about": about, "races": races}, indent=1), encoding="utf-8")
    print(report(about, races, args))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000, help="training rows")
    parser.add_argument("--held-out", type=int, default=100_000, help="rows kept to score")
    parser.add_argument("--probe-rows", type=int, default=50_000, help="held-out rows scored at each fixed point")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[16_384, 2_048],
                        help="the first is the fixed-shape race's")  # fmt: skip
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=3, help="a race's most passes; for trees, hundreds of trees")
    parser.add_argument("--max-seconds", type=float, default=90.0,
                        help="a race's most seconds of training after its first epoch")  # fmt: skip
    parser.add_argument("--targets", nargs="+", type=float, default=[0.65, 0.70, 0.72, 0.74])
    parser.add_argument("--clock", choices=TIMERS, default="wall",
                        help="cpu counts processor seconds: for a machine that others use too")  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of every contender")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the other libraries")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    return parser.parse_args()


def schedule(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every race of this run, in order."""
    for contender in args.contenders:
        for model in (model for model in args.models if model in CONTENDERS[contender].models):
            if model == "trees":
                yield {"contender": contender, "model": model, "batch_size": 0, "setting": "library's defaults"}
                continue
            for batch_size in BATCH_SIZES.get(contender, lambda sizes: sizes)(args.batch_sizes):
                rate = f"batch {batch_size}, rate {args.learning_rate:g}"
                setting = "protocol auto" if batch_size == OWN_CHOICE else rate
                yield {"contender": contender, "model": model, "batch_size": batch_size, "setting": setting}


def run(race: dict[str, Any], args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs one race in a fresh process; a failed one is reported as skipped, with the last line it printed."""
    out = folder / "race.json"
    out.unlink(missing_ok=True)
    python = sys.executable if race["contender"] in HERE_ONLY else args.peer_python
    command = [
        python, "-m", "throughput.worker", "--contender", race["contender"], "--model", race["model"],
        "--batch-size", race["batch_size"], "--learning-rate", args.learning_rate, "--epochs", args.epochs,
        "--max-seconds", args.max_seconds, "--goal", max(args.targets), "--probe-rows", args.probe_rows,
        "--clock", args.clock, "--seed", args.seed, "--rows", folder, "--out", out,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=HERE, env={**os.environ, "OMP_NUM_THREADS": str(args.threads)},
            capture_output=True, text=True, timeout=RACE_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"skipped": f"not done after {RACE_TIMEOUT_S} seconds"}
    if done.returncode or not out.exists():
        return {"skipped": "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(out.read_text(encoding="utf-8"))


def describe(args: argparse.Namespace, held_out: Rows) -> dict[str, Any]:
    """What the figures depend on: the machine, the rows and how well the true logits rank them."""
    return {
        "machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(),
        "numpy": np.__version__, "rows": args.rows, "held_out": args.held_out, "probe_rows": args.probe_rows,
        "clock": args.clock, "threads": args.threads,
        "seed": args.seed, "learning_rate": args.learning_rate, "epochs": args.epochs, "max_seconds": args.max_seconds,
        "rates": {task: float(held_out.labels[:, at].mean()) for at, task in enumerate(TASKS)},
        "oracle_auc": {task: auc(held_out.logits[:, at], held_out.labels[:, at]) for at, task in enumerate(TASKS)},
    }  # fmt: skip


def report(about: dict[str, Any], races: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The tables as text."""
    oracle = ", ".join(f"{task} {value:.3f}" for task, value in about["oracle_auc"].items())
    notes = {f"- {race['contender']}: {note}" for race in races for note in race.get("notes", ())}
    return "\n\n".join(
        part
        for part in (
            f"{about['rows']:,} rows, {about['threads']} threads on {about['cores']} cores, seconds by the "
            f"{about['clock']} clock; AUC of the true logits: {oracle}",
            f"## One epoch at batch {args.batch_sizes[0]}, Adam {args.learning_rate:g}",
            fixed_shape_table(races, args.batch_sizes[0]),
            "## Trees",
            trees_table(races),
            "## Seconds of training to a click AUC",
            time_to_auc_table(races, args.targets),
            "\n".join(sorted(notes)),
            skipped_lines(races),
        )
        if part
    )


if __name__ == "__main__":
    main()
