"""How batch size, learning rate and precision are picked, and why."""

from dataclasses import dataclass

from shelfrank.config import TrainConfig
from shelfrank.core.processor import has_fast_bf16

PAPER_BATCH_SIZE = 16_384
PAPER_LEARNING_RATE = 1e-3
STEPS_AN_EPOCH = 400
MIN_BATCH_SIZE = 512
MIN_STEPS_AN_EPOCH = 64
MIN_BATCH_SEARCHES = 16
"""Batches of searches are halved down to these for a small log, which has few epochs of few steps otherwise."""


@dataclass(frozen=True)
class Protocol:
    """The settings that training really uses.

    Attributes:
        batch_size: Rows per step, at most.
        learning_rate: Adam's rate.
        bf16: Whether matrix products are computed in bfloat16.
        reasons: Each choice and its reason, for people.
    """

    batch_size: int
    learning_rate: float
    bf16: bool
    reasons: tuple[str, ...]


def pick_protocol(config: TrainConfig, n_rows: int, n_searches: int | None = None) -> Protocol:
    """Settles batch size, rate and precision (Paper: Sec. 4.2).

    Differs: the paper's batch and rate suit its 59 million rows, 3,600 steps an epoch. A log of half a million rows
    gets 31 such steps and stays undertrained, so `auto` takes the power of two that gives several hundred steps an
    epoch.

    Args:
        config: The settings; a stated value always wins.
        n_rows: Training rows.
        n_searches: Training searches; None where no batch is cut by searches.

    Returns:
        The settings.
    """
    reasons: list[str] = []
    if config.protocol == "paper":
        batch_size, rate = PAPER_BATCH_SIZE, PAPER_LEARNING_RATE
        reasons.append(f"protocol paper: batch {batch_size}, rate {rate:g} ({-(-n_rows // batch_size)} steps an epoch)")
    else:
        batch_size = MIN_BATCH_SIZE
        while batch_size < PAPER_BATCH_SIZE and n_rows // (2 * batch_size) >= STEPS_AN_EPOCH:
            batch_size *= 2
        rate = PAPER_LEARNING_RATE
        reasons.append(
            f"protocol auto: batch {batch_size} for {n_rows:,} rows, the largest power of two from "
            f"{MIN_BATCH_SIZE} to {PAPER_BATCH_SIZE} that leaves {STEPS_AN_EPOCH} steps an epoch; rate {rate:g}"
        )
    if config.batch_searches is not None and n_searches:
        searches = config.batch_searches
        while searches >= 2 * MIN_BATCH_SEARCHES and n_searches < MIN_STEPS_AN_EPOCH * searches:
            searches //= 2
        batch_size = max(1, round(searches * n_rows / n_searches))
        halved = f"halved from {config.batch_searches} for {MIN_STEPS_AN_EPOCH} steps an epoch"
        why = "as configured" if searches == config.batch_searches else halved
        reasons.append(f"batch {batch_size}: about {searches} searches, {why}")
    if config.batch_size is not None:
        batch_size = config.batch_size
        reasons.append(f"batch {batch_size}: as configured")
    if config.learning_rate is not None:
        rate = config.learning_rate
        reasons.append(f"rate {rate:g}: as configured")
    bf16 = config.precision == "bf16" or (config.precision == "auto" and has_fast_bf16())
    reasons.append(f"matrix products in {'bfloat16' if bf16 else 'float32'} (precision {config.precision})")
    return Protocol(batch_size, rate, bf16, tuple(reasons))
