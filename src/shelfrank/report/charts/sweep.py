"""A figure over the values of a setting: a line with its band for each of a few choices."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shelfrank.report.charts.frame import LEGEND_ROW, Axis, Frame, span
from shelfrank.report.charts.svg import dot, element, line, picture, polyline
from shelfrank.report.estimates import Estimate
from shelfrank.report.formats import number

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 46, 352, 22, 196


@dataclass(frozen=True)
class Sweep:
    """One line of the chart.

    Attributes:
        label: What was chosen.
        tone: How it looks: `plain`, `up` or `down`.
        points: The setting's values, ascending, each with its figure.
    """

    label: str
    tone: str
    points: Sequence[tuple[float, Estimate]]


def sweep_chart(
    chart_id: str,
    title: str,
    sweeps: Sequence[Sweep],
    axis: str,
    reference: tuple[str, float] | None = None,
) -> Markup:
    """Figures over a setting, with their intervals as bands.

    Args:
        chart_id: The chart's id, unique on the page.
        title: What it shows.
        sweeps: Its lines; a point without a value is left out.
        axis: The setting.
        reference: The name and the value of a level to compare with.

    Returns:
        The chart.
    """
    figures = [figure for sweep in sweeps for _, figure in sweep.points]
    known = [v for figure in figures for v in (figure.value, figure.low, figure.high) if v is not None]
    settings = [at for sweep in sweeps for at, _ in sweep.points]
    across = Axis.of(min(settings), max(settings), axis, 5, has_grid=False)
    up = Axis.of(*span(known + ([reference[1]] if reference else [])), "")
    frame = Frame(LEFT, RIGHT, TOP, BOTTOM, across, up, inset=8)
    parts = frame.draw()
    if reference:
        parts.append(line(LEFT, frame.y_of(reference[1]), RIGHT, frame.y_of(reference[1]), "reference best"))
    for sweep in sweeps:
        parts += _line(sweep, frame)
    legend = [(sweep.label, f"curve {sweep.tone}") for sweep in sweeps]
    if reference:
        legend.append((f"{reference[0]}: {number(reference[1])}", "reference best"))
    parts += frame.legend(legend)
    said = "; ".join(f"{sweep.label}: {_said(sweep)}" for sweep in sweeps)
    return picture(chart_id, title, said, (WIDTH, frame.height + LEGEND_ROW * len(legend)), *parts)


def _line(sweep: Sweep, frame: Frame) -> list[Markup]:
    x, y = frame.x_of, frame.y_of
    lower = [(x(at), y(figure.low)) for at, figure in sweep.points if figure.low is not None]
    upper = [(x(at), y(figure.high)) for at, figure in sweep.points if figure.high is not None]
    outline = " ".join(f"{a:.2f},{b:.2f}" for a, b in [*lower, *reversed(upper)])
    points = [(at, figure.value) for at, figure in sweep.points if figure.value is not None]
    return [
        element("polygon", points=outline, class_=f"band {sweep.tone}"),
        polyline([(x(at), y(value)) for at, value in points], f"curve {sweep.tone}"),
        *(
            dot(x(at), y(value), 3, f"point {sweep.tone}", f"{sweep.label} at {at:g}: {number(value)}")
            for at, value in points
        ),
    ]


def _said(sweep: Sweep) -> str:
    return ", ".join(f"{number(figure.value)} at {at:g}" for at, figure in sweep.points)
