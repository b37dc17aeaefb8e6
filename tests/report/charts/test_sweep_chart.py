from xml.etree import ElementTree

from shelfrank.report.charts.sweep import Sweep, sweep_chart
from shelfrank.report.estimates import Estimate


def figure(value: float | None, room: float = 0.1) -> Estimate:
    return Estimate(
        value=value, low=None if value is None else value - room, high=None if value is None else value + room
    )


def by_class(chart: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in chart.iter() if element.get("class") == name]


def test_a_line_a_band_and_a_level() -> None:
    sweep = Sweep("falls <with> position", "up", [(0.0, figure(0.2)), (0.5, figure(0.6)), (1.0, figure(0.4))])
    chart = ElementTree.fromstring(sweep_chart("c", "kappa", [sweep], "alpha", ("raw", 0.1)))
    (points,) = [element.get("points") for element in by_class(chart, "curve up") if element.tag == "polyline"]
    heights = [float(point.split(",")[1]) for point in (points or "").split()]
    assert heights[1] < heights[2] < heights[0]
    (band,) = by_class(chart, "band up")
    assert len((band.get("points") or "").split()) == 6
    assert len(by_class(chart, "point up")) == 3
    said = chart.findtext("desc")
    assert said == "falls <with> position: 0.200 at 0, 0.600 at 0.5, 0.400 at 1"
    assert any(element.text == "raw: 0.100" for element in chart.iter("text"))


def test_a_point_without_a_value_is_left_out() -> None:
    sweep = Sweep("a", "plain", [(0.0, figure(0.2)), (0.5, figure(None)), (1.0, Estimate(value=0.3))])
    chart = ElementTree.fromstring(sweep_chart("c", "kappa", [sweep], "alpha"))
    assert len(by_class(chart, "point plain")) == 2
    assert not by_class(chart, "reference best")
