"""Reliability diagrams: how often something happens among rows of similar predicted probability."""

from collections.abc import Sequence

from markupsafe import Markup

from shelfrank.report.charts.frame import Axis, Frame, Scale
from shelfrank.report.charts.svg import bar, dot, line, picture, polyline, text
from shelfrank.report.comparison import Bin
from shelfrank.report.formats import compact, count, number

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 50, 350, 20, 290
ROWS_TOP, ROWS_BOTTOM = 310, 354
BAR = 6


def reliability_chart(chart_id: str, title: str, bins: Sequence[Bin]) -> Markup:
    """Observed rate against predicted probability, with the number of rows of each bin below.

    Args:
        chart_id: The chart's id, unique on the page.
        title: Whose predictions for which task.
        bins: The bins; one without both figures is not drawn.

    Returns:
        The chart.
    """
    known = sorted(
        (b.predicted, b.observed, b.rows or 0) for b in bins if b.predicted is not None and b.observed is not None
    )
    high = (
        max((value for predicted, observed, _ in known for value in (predicted, observed)), default=1.0) * 1.06 or 1.0
    )
    across, up = Axis.of(0, high, "predicted probability"), Axis.of(0, high, "observed rate")
    frame = Frame(LEFT, RIGHT, TOP, BOTTOM, across, up, below=ROWS_BOTTOM - BOTTOM)
    x, y = frame.x_of, frame.y_of
    parts = [*frame.draw(), line(x(0), y(0), x(high), y(high), "reference diagonal")]
    most = max((rows for _, _, rows in known), default=0) or 1
    size = Scale(0, most, 0, ROWS_BOTTOM - ROWS_TOP)
    parts.append(line(LEFT, ROWS_BOTTOM, RIGHT, ROWS_BOTTOM, "axis"))
    parts.append(text(LEFT - 6, ROWS_TOP + 6, compact(most), "tick", "end"))
    parts.append(text(LEFT - 6, ROWS_BOTTOM, "rows", "tick", "end"))
    parts.append(polyline([(x(predicted), y(observed)) for predicted, observed, _ in known], "curve valid"))
    for predicted, observed, rows in known:
        tip = f"predicted {number(predicted, 4)}, observed {number(observed, 4)}, {count(rows)} rows"
        parts.append(dot(x(predicted), y(observed), 4, "dot best", tip))
        tall = size(rows)
        parts.append(bar(x(predicted) - BAR / 2, ROWS_BOTTOM - tall, BAR, tall, "bar", tip))
    ends = f" from predicted {number(known[0][0], 4)} to {number(known[-1][0], 4)}" if known else ""
    said = f"{len(known)} bins{ends}; the figures are in the table below"
    return picture(chart_id, title, said, (WIDTH, frame.height), *parts)
