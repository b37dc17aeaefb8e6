"""What the tests of training by several processes do in one process and, as a program, in each of several."""

import importlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shelfrank.config import EvaluateConfig, TrainConfig
from shelfrank.core.errors import UserError
from shelfrank.core.processes import joined, processes
from shelfrank.evaluate.evaluation import evaluate
from shelfrank.nn.batch_norm import BatchNorm
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.rankers.run import train
from shelfrank.train.losses import LossWeights
from shelfrank.train.trainer import Trainer
from tiny import random_split, tiny, tiny_network

WEIGHTS = (0.5, 0.3, 0.2)
N_CLASSES = 4

NETWORKS: dict[str, tuple[str, int, int, Sequence[str]]] = {
    "experts of a cross network": ("dcn_v2", 111, 23, ()),
    "experts of a plain network": ("mlp", 111, 23, ()),
    "a transformer": ("ft_transformer", 111, 23, ()),
    # Batches of 55 or 56 rows are four ghost batches of 14 rows, the last of which may have 13.
    "ghost batches": ("tabnet", 111, 56, ()),
    # Two batches of 36 rows are ghost batches of 5, and one row is left.
    "a ghost batch of one row": ("tabnet", 72, 36, ("neural.tabnet.ghost_batch_size=5",)),
    "one ghost batch for two processes": ("tabnet", 48, 16, ()),
    "balanced experts": ("mlp", 111, 23, ("neural.mmoe.balance=0.5",)),
    "a listwise loss": ("mlp", 111, 23, ()),
    "a single row for two processes": ("dcn_v2", 12, 1, ("neural.batch_norm=false",)),
}
"""Bottom, rows, rows of a batch, settings."""

RUNS: dict[str, tuple[str, Sequence[str]]] = {
    "network": ("mmoe_dcn_v2", ()),
    # Batch normalisation directly before the logits makes the steps of Adam follow the last bits of the sums.
    "every part": ("network", ("neural.dropout=0", "neural.n_networks=2", "neural.batch_norm=false")),
    "text": (
        "mmoe_dcn_v2",
        # Numbers of hundreds of standard deviations, which a small log has, would carry the last bits of a sum on.
        ("neural.text.matching=cross", "neural.text.dropout=0", "neural.text.learning_rate=1e-4", "neural.clip=5"),
    ),
    "boosting": ("xgboost", ()),
}
"""Ranker and settings."""

EVALUATION = EvaluateConfig(n_resamples=50, n_resamples_auc=10, pd_searches=20)
DROPPING = ("neural.dropout=0.3", "train.checkpoint_every_s=1e-9", "train.epochs=3", "train.patience=10")


def learned(curve: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Each epoch's losses."""
    names = ("train_loss", "valid_loss", "valid_relevance_loss")
    return [[*(record[name] for name in names if name in record), *record["valid_losses"]] for record in curve]


def network_curves() -> dict[str, tuple[list[list[float]], dict[str, list[float]]]]:
    """The losses of each network by epoch, and its statistics; labels are missing here and there."""
    found = {}
    for name, (bottom, n_rows, batch_size, settings) in NETWORKS.items():
        rows = [
            random_split(n, seed, missing=0.4, name=split, relevance_classes=N_CLASSES)
            for n, seed, split in ((n_rows, 1, "train"), (63, 2, "valid"))
        ]
        torch.manual_seed(0)
        model = MultiTaskRanker(4, (2,), 3, tiny_network(bottom, *settings), N_CLASSES, group=processes())
        config = TrainConfig(threads=1, precision="fp32", batch_size=batch_size, epochs=2, learning_rate=0.01)
        ghosts = model.bottom.ghost_batch_size
        weights = LossWeights(WEIGHTS, 0.5, listwise=1.0 if name == "a listwise loss" else 0.0)
        trainer = Trainer(model, *rows, config, weights, 0, ghost_batch_size=ghosts)
        trained = trainer.run()
        statistics = {key: value.tolist() for key, value in model.state_dict().items() if "running" in key}
        found[name] = (learned(trained.curve), statistics)
    return found


def normalised_gradients() -> dict[str, list[Any]]:
    """A batch norm's output and gradients, of 7 rows of which the first process has 5 and the second 2."""
    group = processes()
    torch.manual_seed(0)
    x, wanted = torch.randn(7, 3) * 5 + 100, torch.randn(7, 3)
    norm = BatchNorm(3, group)
    own = slice(*((0, 7), (0, 5), (5, 7))[group.n - 1 + group.rank if group.n > 1 else 0])
    rows = x[own].clone().requires_grad_()
    normalised = norm(rows)
    (normalised * wanted[own]).sum().backward()
    gradients = [torch.zeros(0) if p.grad is None else p.grad for p in (rows, norm.weight, norm.bias)]
    parts = [group.gather_rows(part.detach().numpy(), [0, 5, 7]).tolist() for part in (normalised, gradients[0])]
    sums = [group.add_up(gradient).tolist() for gradient in gradients[1:]]
    return {"normalised, gradient": parts, "weight, bias": sums, "running": [norm.running_var.tolist()]}


def train_runs(prepared: Path, out: Path) -> None:
    """Trains each of `RUNS` under a folder, and once more for nothing."""
    for name, (ranker, settings) in RUNS.items():
        # Not the encoder that each process would make for itself.
        config = tiny(ranker, f"neural.text.model={prepared.parent / 'bert'}", *settings)
        assert train(prepared, ranker, config, out / name)
        assert not train(prepared, ranker, config, out / name)


def work(prepared: Path, out: Path) -> None:
    """Everything above, and what only several processes do; the first one writes what it found, then meets an error."""
    found = {"networks": network_curves(), "batch norm": normalised_gradients()}
    train_runs(prepared, out)
    for name in RUNS:
        assert evaluate(out / name, out / f"{name}-evaluation", EVALUATION)
    train(prepared, "mmoe_dcn_v2", tiny("mmoe_dcn_v2", *DROPPING), out / "undisturbed")
    if processes().leads:
        (out / "found.json").write_text(json.dumps(found), encoding="utf-8")
        (out / "foreign").mkdir()
        (out / "foreign" / "thesis.tex").touch()
    train(prepared, "mmoe_dcn_v2", tiny("mmoe_dcn_v2"), out / "foreign")


def die(prepared: Path, out: Path, before_step: int) -> None:
    """Trains until the second process kills itself."""
    steps, step = [0], Trainer.step

    def counted(*args: object) -> Tensor:
        steps[0] += 1
        if steps[0] == before_step and not processes().leads:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args)  # pyright: ignore[reportArgumentType]

    Trainer.step = counted
    train(prepared, "mmoe_dcn_v2", tiny("mmoe_dcn_v2", *DROPPING), out)


def main(what: str, prepared: str, out: str, *more: str) -> None:
    try:
        with joined():
            if what == "work":
                work(Path(prepared), Path(out))
            else:
                die(Path(prepared), Path(out), int(more[0]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        names = [Path(f"/proc/self/task/{task}/comm").read_text() for task in os.listdir("/proc/self/task")]
        print("threads of the group:", sum("gloo" in name for name in names), file=sys.stderr)


def fork_processes(folder: Path) -> None:
    """Returns in each process of the group, whose standard error is kept by rank; the launcher prints the exit codes.

    A fork has the libraries of the launcher, which take longer to load than all that is done here.
    """
    started = []
    for rank in range(int(os.environ["WORLD_SIZE"])):
        started.append(os.fork())
        if not started[-1]:
            os.environ["RANK"] = str(rank)
            os.dup2(os.open(folder / str(rank), os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
            return
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in started]))
    sys.exit()


if __name__ == "__main__":
    importlib.import_module("torch._dynamo")  # an optimizer imports it at its first step
    fork_processes(Path(sys.argv[1]))
    main(*sys.argv[2:])
