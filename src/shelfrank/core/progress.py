"""Progress with a rate, on a terminal as a bar and elsewhere as JSON lines; and the cost of a step."""

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY_S = 2.0

console = Console(stderr=True)
"""Where people read progress and messages; results go to standard output."""

_shown = True
_listener: Callable[[float], None] | None = None


def silence() -> None:
    """Shows no progress from now on, in a process that works beside one that shows it."""
    global _shown
    _shown = False


@contextlib.contextmanager
def counted_by(listener: Callable[[float], None]) -> Iterator[None]:
    """Within the block, steps show no progress; those that count rows pass them to `listener` instead."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


@contextlib.contextmanager
def progress(title: str, total: float, unit: str) -> Iterator[Callable[..., None]]:
    """Shows how far a step is and how fast it goes.

    Args:
        title: Name of the step, for example `Simulating`.
        total: Units of work in all.
        unit: The plural name of a unit, for example `rows`.

    Yields:
        A function to call with the number of units just done; its keyword `note` is shown at the end of the line.
    """
    if not _shown:
        yield lambda *_, **__: None
        return
    if _listener is not None:
        listener = _listener
        yield lambda n, note=None: listener(n) if unit == "rows" else None
        return
    if console.is_terminal:
        with Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            _Rate(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        ) as bar:
            task = bar.add_task(title, total=total, note="")

            def advance(n: float, note: str | None = None) -> None:
                bar.update(task, advance=n)
                if note is not None:
                    bar.update(task, note=note)

            yield advance
        return
    started = last = time.monotonic()
    done = 0.0
    printed = False

    def line(event: str, note: str | None) -> None:
        seconds = time.monotonic() - started
        record = {
            "step": title,
            "event": event,
            "done": round(done),
            "total": round(total),
            "unit": unit,
            "per_s": round(done / max(seconds, 1e-9), 1),
            "seconds": round(seconds, 1),
        }
        print(json.dumps(record | ({"note": note} if note else {})), file=sys.stderr, flush=True)

    def advance_lines(n: float, note: str | None = None) -> None:
        nonlocal done, last, printed
        done += n
        if time.monotonic() - last >= LINE_EVERY_S:
            last, printed = time.monotonic(), True
            line("progress", note)

    yield advance_lines
    if printed or time.monotonic() - started >= LINE_EVERY_S:
        line("done", None)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The rate so far, with a thousands separator."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {self.unit}/s", style="cyan")


@dataclass
class Cost:
    """The cost of a step.

    Attributes:
        wall_s: Seconds by the clock.
        peak_rss_mb: Most memory held at once by this process during the step, in MB (10^6 bytes).
    """

    wall_s: float = 0.0
    peak_rss_mb: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def stop(self) -> "Cost":
        """Takes the measure now; the last call counts."""
        self.wall_s = time.monotonic() - self.started
        self.peak_rss_mb = peak_rss_mb()
        return self

    def as_dict(self) -> dict[str, float]:
        """Plain data for a manifest."""
        return {"wall_s": round(self.wall_s, 2), "peak_rss_mb": round(self.peak_rss_mb, 1)}


@contextlib.contextmanager
def measured() -> Iterator[Cost]:
    """Measures the block's wall time and the process's peak memory within it.

    Yields:
        The cost, filled in when the block ends or at `Cost.stop`.
    """
    _reset_peak()
    cost = Cost()
    try:
        yield cost
    finally:
        cost.stop()


def peak_rss_mb() -> float:
    """Most memory this process has held since the last reset, in MB (10^6 bytes)."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        for entry in file:
            if entry.startswith("VmHWM:"):
                return int(entry.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _reset_peak() -> None:
    # Linux forgets the peak when "5" is written here; elsewhere the peak of the whole process is reported.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
