import doctest
from xml.etree import ElementTree

import pytest

from shelfrank.report.charts import (
    Dot,
    Reference,
    curve_chart,
    interval_chart,
    move_histogram,
    order_links,
    reliability_chart,
    share_bar,
    svg,
)
from shelfrank.report.comparison import Bin, Epoch


def _find(chart: str, tag: str, class_: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(chart).iter(tag) if class_ in (e.get("class") or "").split()]


def _number(element: ElementTree.Element, name: str) -> float:
    return float(element.attrib[name])


def test_the_example_of_an_element_holds() -> None:
    assert doctest.testmod(svg) == (0, 2)


def test_text_and_attributes_are_escaped() -> None:
    markup = svg.element("text", "<script>", class_='"><script>')
    assert "<script>" not in markup
    assert ElementTree.fromstring(markup).attrib["class"] == '"><script>'


def test_a_dot_lies_within_its_interval_and_on_its_side_of_zero() -> None:
    dots = [
        Dot("up", "+0.02", 0.02, 0.01, 0.03, "up"),
        Dot("down", "−0.02", -0.02, -0.03, -0.01, "down"),
        Dot("unknown", "–", None),
    ]
    chart = interval_chart("c", "t", dots, [Reference("", 0.0, "zero")], "difference")
    zero = _number(_find(chart, "line", "zero")[0], "x1")
    (up,), (down,) = _find(chart, "circle", "up"), _find(chart, "circle", "down")
    (ends,) = _find(chart, "line", "up")
    assert _number(down, "cx") < zero < _number(ends, "x1") < _number(up, "cx") < _number(ends, "x2")
    assert len(_find(chart, "circle", "dot")) == 2


def test_bounds_are_named_below_the_axis_and_lie_in_the_chart() -> None:
    chart = interval_chart("c", "t", [Dot("a", "0.3", 0.3)], [Reference("best possible: 0.900", 0.9, "best")], "MRR")
    assert "best possible: 0.900" in [e.text for e in ElementTree.fromstring(chart).iter("text")]
    assert 0 < _number(_find(chart, "line", "best")[0], "x1") < 304


def test_a_long_label_is_shortened_but_told_in_full() -> None:
    name = "a ranker whose name is much longer than any chart is wide"
    chart = interval_chart("c", "t", [Dot(name, "0.3", 0.3)], [], "MRR")
    assert name not in [e.text for e in _find(chart, "text", "label")]
    assert f"{name}: 0.3" in [e.text for e in ElementTree.fromstring(chart).iter("title")]


def _epochs(losses: list[tuple[float | None, float | None]], best: int | None) -> list[Epoch]:
    return [Epoch(epoch=i, train_loss=t, valid_loss=v, best=i == best) for i, (t, v) in enumerate(losses, 1)]


def test_lower_losses_are_drawn_lower_and_the_kept_epoch_is_marked() -> None:
    chart = curve_chart("c", "t", _epochs([(0.5, 0.6), (0.4, 0.5), (0.3, 0.55)], best=2))
    heights = [_number(point, "cy") for point in _find(chart, "circle", "valid")]
    assert heights[1] > heights[2] > heights[0]
    assert "kept: epoch 2" in [e.text for e in ElementTree.fromstring(chart).iter("text")]
    (mark,) = _find(chart, "line", "best")
    assert _number(mark, "x1") == _number(_find(chart, "circle", "valid")[1], "cx")


def test_without_a_kept_epoch_none_is_marked() -> None:
    assert "kept" not in curve_chart("c", "t", _epochs([(0.5, 0.6), (0.4, 0.5)], best=None))


def test_an_unknown_loss_leaves_a_gap() -> None:
    chart = curve_chart(
        "c", "t", _epochs([(0.5, None), (0.4, None), (None, None), (0.3, None), (0.2, None)], best=None)
    )
    assert len(_find(chart, "polyline", "train")) == 2
    assert not _find(chart, "polyline", "valid")


def test_labels_at_the_ends_of_close_curves_do_not_overlap() -> None:
    chart = curve_chart("c", "t", _epochs([(0.5, 0.5), (0.4, 0.4001)], best=None))
    low, high = sorted(_number(e, "y") for e in _find(chart, "text", "end"))
    assert high - low >= 13.9


@pytest.mark.parametrize("n_epochs", [1, 2, 400])
def test_curves_of_any_length_are_drawn(n_epochs: int) -> None:
    chart = curve_chart("c", "t", _epochs([(1 / i, 2 / i) for i in range(1, n_epochs + 1)], best=n_epochs))
    assert len(chart) < 25_000
    assert _find(chart, "circle", "point")


def test_perfect_predictions_lie_on_the_diagonal() -> None:
    chart = reliability_chart("c", "t", [Bin(predicted=p, observed=p, rows=10) for p in (0.1, 0.3)])
    (diagonal,) = _find(chart, "line", "diagonal")
    x1, y1, x2, y2 = (_number(diagonal, name) for name in ("x1", "y1", "x2", "y2"))
    for point in _find(chart, "circle", "dot"):
        along = (_number(point, "cx") - x1) / (x2 - x1)
        assert _number(point, "cy") == pytest.approx(y1 + along * (y2 - y1), abs=0.02)


def test_bars_are_as_high_as_their_rows() -> None:
    chart = reliability_chart(
        "c", "t", [Bin(predicted=0.1, observed=0.1, rows=50), Bin(predicted=0.2, observed=0.1, rows=100)]
    )
    half, full = (_number(bar, "height") for bar in _find(chart, "rect", "bar"))
    assert half == pytest.approx(full / 2)


@pytest.mark.parametrize("bins", [[], [Bin()], [Bin(predicted=0.0, observed=0.0)]], ids=["none", "unknown", "zero"])
def test_bins_without_figures_are_no_error(bins: list[Bin]) -> None:
    assert len(_find(reliability_chart("c", "t", bins), "circle", "dot")) == sum(b.predicted is not None for b in bins)


def test_far_moves_share_the_outermost_bars_and_none_is_lost() -> None:
    chart = move_histogram("c", "t", [(-40, 1), (-16, 1), (0, 6), (17, 2)])
    tips = [bar.findtext("title") for bar in _find(chart, "rect", "bar")]
    assert tips == [
        "≤ −15 places: 2 products, 20.0 %",
        "0 places: 6 products, 60.0 %",
        "≥ +15 places: 2 products, 20.0 %",
    ]
    assert len(_find(chart, "rect", "up")) == len(_find(chart, "rect", "down")) == 1


def test_links_run_from_place_to_place() -> None:
    drawing = order_links(["a", "b", "c"], ["b", "a", "d"], {"b"}, 10)
    paths = [(e.attrib["d"], e.attrib["class"]) for e in ElementTree.fromstring(drawing).iter("path")]
    assert paths == [("M0 5 C45 5 55 15 100 15", "link down"), ("M0 15 C45 15 55 5 100 5", "link up clicked")]


@pytest.mark.parametrize(("share", "width"), [(0.25, 25), (-0.5, 0), (1.7, 100)])
def test_a_share_bar_is_filled_within_its_track(share: float, width: float) -> None:
    assert _number(_find(share_bar(share), "rect", "up")[0], "width") == width


def test_an_unknown_share_has_no_bar() -> None:
    assert share_bar(None) == ""


def test_long_labels_of_a_chart_stay_apart() -> None:
    same = "MMoE + FT-Transformer + TinyBERT cross without customer features"
    labels = [f"{same} (run_a)", f"{same} (run_b)", "run_b" * 30, "MMoE"]
    short = svg.shortened_apart(labels, 40)
    assert len(set(short)) == 4
    assert max(map(len, short)) <= 40
    assert short[0].endswith("(run_a)")
    assert short[3] == "MMoE"
    middle = ["x" * 60 + letter + "y" * 60 for letter in "ab"]
    assert len(set(svg.shortened_apart(middle, 40))) == 2
