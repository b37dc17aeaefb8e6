"""The race clock: measures training alone, stops while held-out rows are scored, and ends the race."""

import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

POINTS_PER_EPOCH = 8


def cpu_seconds() -> float:
    """Processor seconds of this process and of its loading processes, which a busy machine does not stretch."""
    running = multiprocessing.active_children()  # this also waits for those that have ended, which os.times then counts
    return sum(os.times()[:4]) + sum(_cpu_seconds_of(child.pid) for child in running)


def _cpu_seconds_of(pid: int | None) -> float:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
    except (FileNotFoundError, ProcessLookupError):  # it ended in between, or this is no Linux
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


TIMERS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": cpu_seconds}
"""What a second is: by the clock, or of the processors' work."""


class RaceOverError(Exception):
    """The race has run its epochs, its time, or to its goal."""


@dataclass
class RaceClock:
    """Seconds of training, and the AUC at fixed points of each epoch.

    Attributes:
        timer: Tells the time in seconds.
        score: Gives the AUC on the held-out slice as the model stands.
        steps_per_epoch: Steps, or trees, that make one epoch.
        epochs: The race ends after so many.
        max_seconds: The race ends at the first point after so many, but never within the first epoch.
        goal: The race ends at the first point with this AUC, but never within the first epoch.
        points: For each point its epoch as a fraction, seconds and AUC.
        phases: Seconds in forward, in loss and backward, and in the optimizer's step, over the first epoch.
    """

    timer: Callable[[], float]
    score: Callable[[], float]
    steps_per_epoch: int
    epochs: int
    max_seconds: float
    goal: float
    steps: int = 0
    first_epoch_seconds: float | None = None
    points: list[dict[str, float]] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _started: float = 0.0
    _mark: float = 0.0

    def start(self) -> None:
        """Starts the clock."""
        self._started = self._mark = self.timer()

    def watch(self, model: "torch.nn.Module") -> None:
        """Follows a PyTorch model through any library's loop.

        Args:
            model: Its forward calls in training mode are measured. The steps of the process's one optimizer are the
                race's steps, wherever the library makes it.
        """
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        # Some libraries call `forward` itself, which no module hook sees.
        inner = model.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if not model.training:
                return inner(*args, **kwargs)
            self._lap(None)
            output = inner(*args, **kwargs)
            self._lap("forward")
            return output

        def before_step(*_: Any) -> None:
            self._lap("loss_and_backward")

        def after_step(*_: Any) -> None:
            self._lap("step")
            self.after_step()

        model.forward = forward
        register_optimizer_step_pre_hook(before_step)
        register_optimizer_step_post_hook(after_step)

    def after_step(self) -> None:
        """Counts one step, or tree, and scores the held-out slice where a fixed point is reached.

        Raises:
            RaceOverError: Where this step was the race's last.
        """
        self.steps += 1
        now = self.timer()
        seconds = now - self._started
        if self.steps == self.steps_per_epoch:
            self.first_epoch_seconds = seconds
        if not self._is_point():
            return
        reached = self.score()
        self.points.append({"epoch": self.steps / self.steps_per_epoch, "seconds": seconds, "auc": reached})
        over = seconds >= self.max_seconds or reached >= self.goal
        if self.steps >= self.epochs * self.steps_per_epoch or (over and self.steps >= self.steps_per_epoch):
            raise RaceOverError
        self._mark = self.timer()
        self._started += self._mark - now

    def _is_point(self) -> bool:
        done, before = (n * POINTS_PER_EPOCH // self.steps_per_epoch for n in (self.steps, self.steps - 1))
        return done > before

    def _lap(self, phase: str | None) -> None:
        now = self.timer()
        if phase is not None and self.steps < self.steps_per_epoch:
            self.phases[phase] += now - self._mark
        self._mark = now
