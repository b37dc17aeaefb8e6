"""A bar within a table's cell."""

from markupsafe import Markup

from shelfrank.report.charts.svg import element

WIDTH, HEIGHT = 100, 5


def share_bar(share: float | None) -> Markup:
    """A share from 0 to 1 as a bar; beyond these ends it is empty or full, and the number beside it tells.

    Args:
        share: The share; None gives no bar.

    Returns:
        A drawing that is hidden from screen readers, since the cell holds the number.
    """
    if share is None:
        return Markup()
    filled = max(0.0, min(1.0, share)) * WIDTH
    return element(
        "svg",
        element("rect", width=WIDTH, height=HEIGHT, class_="bar-track"),
        element("rect", width=filled, height=HEIGHT, class_="bar up"),
        class_="cell-bar",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
