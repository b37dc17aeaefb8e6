"""The race's figures as Markdown tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from .contender import NEURAL_MODELS

Race = dict[str, Any]
PHASES = ("forward", "loss_and_backward", "step", "elsewhere")


def fixed_shape_table(races: Sequence[Race], batch_size: int) -> str:
    """One epoch of each neural contender at the common shape and batch."""
    rows = [
        [
            race["contender"],
            race["model"],
            f"{race['parameters']['tables']:,}",
            f"{race['parameters']['network']:,}",
            f"{race['build_s']:.1f}",
            f"{race['first_epoch_s']:.1f}",
            f"{race['rows_per_s']:,.0f}",
            *(f"{race['phases_s'].get(phase, 0.0):.1f}" for phase in PHASES),
            f"{auc_after_first_epoch(race):.4f}",
            f"{race['peak_rss_mb']:,.0f}",
        ]
        for race in finished(races)
        if race["model"] in NEURAL_MODELS and race["batch_size"] == batch_size
    ]
    head = ["contender", "model", "weights in tables", "other weights", "build s", "epoch s", "rows/s", "forward s",
            "loss and backward s", "step s", "elsewhere s", "click AUC", "peak MB"]  # fmt: skip
    return table(head, rows)


def trees_table(races: Sequence[Race]) -> str:
    """The default number of trees of each boosting library."""
    rows = [
        [
            race["contender"],
            f"{race['build_s']:.1f}",
            f"{race['first_epoch_s']:.1f}",
            f"{auc_after_first_epoch(race):.4f}",
            f"{race['peak_rss_mb']:,.0f}",
        ]
        for race in finished(races)
        if race["model"] == "trees"
    ]
    return table(["contender", "build s", "100 trees s", "click AUC", "peak MB"], rows)


def time_to_auc_table(races: Sequence[Race], targets: Sequence[float]) -> str:
    """Seconds of training to each AUC, at the best setting of each contender and model.

    The best setting is the one that reaches the highest target, and reaches it first; where none reaches any, the one
    with the highest AUC. Evaluation and dataset building stand outside the seconds.
    """
    rows = []
    for contender, model in dict.fromkeys((race["contender"], race["model"]) for race in finished(races)):
        own = [race for race in finished(races) if (race["contender"], race["model"]) == (contender, model)]
        best = min(own, key=lambda race: _rank(race, targets))
        top = max(best["points"], key=lambda point: point["auc"])
        rows.append(
            [
                contender, model, best["setting"], f"{best['build_s']:.1f}",
                *(_spoken(seconds_to(best, target)) for target in targets),
                f"{top['auc']:.4f} at epoch {top['epoch']:.2f}",
            ]
        )  # fmt: skip
    return table(["contender", "model", "best setting", "build s", *(f"s to {x}" for x in targets), "best AUC"], rows)


def skipped_lines(races: Sequence[Race]) -> str:
    """Who did not race, and why."""
    return "\n".join(
        f"- skipped: {race['contender']} {race['model']}: {race['skipped']}" for race in races if "skipped" in race
    )


def seconds_to(race: Race, target: float) -> float | None:
    """Seconds of training at the first fixed point that reached the AUC."""
    return next((point["seconds"] for point in race["points"] if point["auc"] >= target), None)


def auc_after_first_epoch(race: Race) -> float:
    """The AUC on the probe slice at the end of the first epoch."""
    return next(point["auc"] for point in race["points"] if point["epoch"] >= 1.0)


def finished(races: Iterable[Race]) -> list[Race]:
    """The races that have figures."""
    return [race for race in races if "skipped" not in race]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
                     for line in lines)  # fmt: skip


def _rank(race: Race, targets: Sequence[float]) -> tuple[int, float]:
    reached = [seconds for target in targets if (seconds := seconds_to(race, target)) is not None]
    return -len(reached), reached[-1] if reached else -max(point["auc"] for point in race["points"])


def _spoken(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"
