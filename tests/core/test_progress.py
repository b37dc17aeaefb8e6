"""JSON lines with a rate off a terminal, nothing for quick steps, a bar on a terminal; and what a step cost."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from shelfrank.core import progress as module
from shelfrank.core.progress import LINE_EVERY_S, Cost, measured, peak_rss_mb, progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "console", Console(file=io.StringIO(), force_terminal=False))
    return clock


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == "", "results alone go to standard output"
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_slow_step_tells_its_rate_now_and_then_and_at_its_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("Encoding", total=1000, unit="rows") as advance:
        for _ in range(10):
            clock.now += LINE_EVERY_S / 2
            advance(100, note="loss 0.5")
    told = lines(capsys)
    assert [(line["event"], line["done"], line["seconds"]) for line in told] == [
        *(("progress", 200 * i, LINE_EVERY_S * i) for i in range(1, 6)),
        ("done", 1000, 10.0),
    ]
    assert {(line["step"], line["unit"], line["total"], line["per_s"]) for line in told} == {
        ("Encoding", "rows", 1000, 100.0)
    }
    assert [line.get("note") for line in told] == ["loss 0.5"] * 5 + [None]


def test_a_quick_step_prints_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Encoding", total=10, unit="rows") as advance:
        clock.now += LINE_EVERY_S * 0.9
        advance(10)
    assert lines(capsys) == []


def test_a_slow_step_in_one_piece_has_its_final_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Sorting", total=8, unit="rows"):
        clock.now += 4.0
    assert [(line["event"], line["done"], line["per_s"]) for line in lines(capsys)] == [("done", 0, 0.0)]


def test_a_failed_step_does_not_claim_to_be_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with progress("Sorting", total=8, unit="rows") as advance:
            clock.now += 4.0
            advance(3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [line["event"] for line in lines(capsys)] == ["progress"]


def test_a_terminal_shows_a_bar_with_the_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=screen, force_terminal=True, width=120))
    with progress("Encoding", total=100, unit="rows") as advance:
        advance(60)
        advance(40, note="almost there")
    shown = screen.getvalue()
    assert all(part in shown for part in ("Encoding", "100%", "rows/s", "almost there"))
    assert lines(capsys) == []


def test_cost_is_the_clock_and_the_peak_memory(clock: Clock) -> None:
    cost = Cost(started=clock.now)
    clock.now += 1.504
    assert cost.stop().wall_s == pytest.approx(1.504)
    assert cost.peak_rss_mb > 10
    assert cost.as_dict() == {"wall_s": 1.5, "peak_rss_mb": round(cost.peak_rss_mb, 1)}


def test_the_cost_is_taken_although_the_step_fails() -> None:
    with pytest.raises(RuntimeError), measured() as cost:
        raise RuntimeError
    assert cost.wall_s > 0
    assert cost.peak_rss_mb > 10


def test_the_peak_rises_with_the_memory_held() -> None:
    with measured() as cost:
        before = peak_rss_mb()
        held = bytearray(64_000_000)
        held[::4096] = b"x" * len(held[::4096])
    assert cost.peak_rss_mb > before + 20
    assert Cost().peak_rss_mb == 0.0
