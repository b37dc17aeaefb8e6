"""Learning curves: training and validation loss by epoch."""

from collections.abc import Callable, Sequence

from markupsafe import Markup

from shelfrank.report.charts.frame import Axis, Frame, span, ticks
from shelfrank.report.charts.svg import dot, line, picture, polyline, text
from shelfrank.report.comparison import Epoch
from shelfrank.report.formats import number

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 46, 298, 22, 176
LABEL_GAP = 14
MAX_DOTS = 30
"""With more epochs, neither each has a dot nor does the description name each."""

SERIES: tuple[tuple[str, str, Callable[[Epoch], float | None]], ...] = (
    ("train", "training", lambda epoch: epoch.train_loss),
    ("valid", "validation", lambda epoch: epoch.valid_loss),
)


def curve_chart(chart_id: str, title: str, epochs: Sequence[Epoch], axis: str = "epoch") -> Markup:
    """Loss by epoch, with the epoch whose weights were kept.

    Args:
        chart_id: The chart's id, unique on the page.
        title: Whose losses these are.
        epochs: The epochs; a loss that is not known leaves a gap in its line.
        axis: What the epochs are called.

    Returns:
        The chart.
    """
    losses = [loss for epoch in epochs for _, _, read in SERIES if (loss := read(epoch)) is not None]
    first, last = epochs[0].epoch, epochs[-1].epoch
    ends = (first, last) if last > first else (first - 0.5, first + 0.5)
    across = Axis(*ends, axis, [(mark, str(mark)) for mark in _whole_ticks(first, last)], has_grid=False)
    frame = Frame(LEFT, RIGHT, TOP, BOTTOM, across, Axis.of(*span(losses), "loss"), inset=6)
    parts = frame.draw()
    for epoch in epochs:
        if epoch.best:
            parts.append(line(frame.x_of(epoch.epoch), TOP, frame.x_of(epoch.epoch), BOTTOM, "reference best"))
            parts.append(_kept_label(frame.x_of(epoch.epoch), f"kept: {axis} {epoch.epoch}"))
    for name, _, read in SERIES:
        parts += _series(name, epochs, read, frame)
    parts += _end_labels(epochs, frame)
    return picture(chart_id, title, _said(epochs, axis), (WIDTH, frame.height), *parts)


def _series(name: str, epochs: Sequence[Epoch], read: Callable[[Epoch], float | None], frame: Frame) -> list[Markup]:
    runs: list[list[tuple[float, float]]] = [[]]
    dots = []
    for epoch in epochs:
        loss = read(epoch)
        if loss is None:
            runs.append([])
            continue
        runs[-1].append((frame.x_of(epoch.epoch), frame.y_of(loss)))
        if len(epochs) <= MAX_DOTS or epoch.best:
            dots.append(dot(*runs[-1][-1], 3, f"point {name}", f"{epoch.epoch}: {number(loss, 4)}"))
    return [polyline(run, f"curve {name}") for run in runs if len(run) > 1] + dots


def _end_labels(epochs: Sequence[Epoch], frame: Frame) -> list[Markup]:
    ends = []
    for name, label, read in SERIES:
        known = [loss for epoch in epochs if (loss := read(epoch)) is not None]
        if known:
            ends.append((frame.y_of(known[-1]), name, label))
    ends.sort()
    if len(ends) == 2 and (overlap := LABEL_GAP - (ends[1][0] - ends[0][0])) > 0:
        ends = [(ends[0][0] - overlap / 2, *ends[0][1:]), (ends[1][0] + overlap / 2, *ends[1][1:])]
    return [text(RIGHT + 2, at + 4, label, f"tick end {name}") for at, name, label in ends]


def _kept_label(x: float, words: str) -> Markup:
    anchor = "start" if x < WIDTH * 0.25 else "end" if x > WIDTH * 0.7 else "middle"
    return text(x, TOP - 8, words, "tick strong", anchor)


def _whole_ticks(first: int, last: int) -> list[int]:
    return sorted({round(mark) for mark in ticks(first, last, 6) if mark == round(mark)}) if last > first else [first]


def _said(epochs: Sequence[Epoch], axis: str) -> str:
    named = [epoch for epoch in epochs if len(epochs) <= MAX_DOTS or epoch.best or epoch in (epochs[0], epochs[-1])]
    return "; ".join(
        f"{axis} {epoch.epoch}: training {number(epoch.train_loss, 4)}, "
        f"validation {number(epoch.valid_loss, 4)}{', kept' if epoch.best else ''}"
        for epoch in named
    )
