"""Charts as inline SVG: numbers and words in, markup out; the page's style sheet gives them their colours."""

from shelfrank.report.charts.bars import Pair, pair_chart, share_bar
from shelfrank.report.charts.calibration import reliability_chart
from shelfrank.report.charts.curves import curve_chart
from shelfrank.report.charts.intervals import Dot, Reference, interval_chart
from shelfrank.report.charts.moves import move_histogram, order_links
from shelfrank.report.charts.scatter import Spot, scatter_chart
from shelfrank.report.charts.simplex import Node, simplex_chart
from shelfrank.report.charts.sweep import Sweep, sweep_chart

__all__ = [
    "Dot",
    "Node",
    "Pair",
    "Reference",
    "Spot",
    "Sweep",
    "curve_chart",
    "interval_chart",
    "move_histogram",
    "order_links",
    "pair_chart",
    "reliability_chart",
    "scatter_chart",
    "share_bar",
    "simplex_chart",
    "sweep_chart",
]
