"""Estimates of a page's time, and when a service is saturated, by a clock that the tests set."""

import pytest

from shelfrank.serve.admission import GUESS_PER_CANDIDATE_S, GUESS_S, MAX_JUMP, PageTimes, RunningEstimate, Saturation


def test_an_unmeasured_page_is_guessed_by_its_candidates() -> None:
    expected_s = GUESS_S + 1000 * GUESS_PER_CANDIDATE_S
    assert PageTimes().of(1000) == (expected_s, expected_s)


def test_unmeasured_sizes_are_bounded_by_measured_ones() -> None:
    times = PageTimes()
    times.observe(200, 0.02)
    # 128 to 255 share an estimate; 512 to 1023 have at most four times as many candidates.
    assert times.of(130) == (0.02, 0.02)
    assert times.of(1000) == (0.08, 0.08)
    assert times.of(3) == (0.02, 0.02)
    times.observe(1000, 0.05)
    assert times.of(1000) == (0.05, 0.05)


def test_an_estimate_follows_its_measurements() -> None:
    estimate = RunningEstimate()
    for _ in range(100):
        estimate.observe(0.01)
    assert (estimate.mean_s, estimate.deviation_s) == (pytest.approx(0.01), pytest.approx(0.0, abs=1e-9))
    for _ in range(100):
        estimate.observe(0.03)
    assert estimate.mean_s == pytest.approx(0.03, rel=1e-3)


def test_one_stall_does_not_refuse_the_pages_after_it() -> None:
    estimate = RunningEstimate()
    estimate.observe(0.01)
    estimate.observe(60.0)
    assert estimate.mean_s == pytest.approx(0.01 * (1 + (MAX_JUMP - 1) / 8))


def test_margin_covers_pages_that_differ() -> None:
    times = PageTimes()
    for number in range(100):
        times.observe(10, 0.01 if number % 2 else 0.02)
    expected_s, hardly_exceeded_s = times.of(10)
    assert 0.014 < expected_s < 0.016
    assert hardly_exceeded_s > 0.02


def offer(saturation: Saturation, now_s: list[float], seconds: float, every_s: float, refused_of_ten: int) -> set[bool]:
    """Offers pages at a rate for a time; returns what the service said of itself meanwhile."""
    said = set()
    for number in range(round(seconds / every_s)):
        now_s[0] += every_s
        saturation.count(number % 10 < refused_of_ten)
        said.add(saturation.holds())
    return said


def test_a_service_is_saturated_while_it_refuses_many_pages_and_does_not_flap() -> None:
    now_s = [0.0]
    saturation = Saturation(lambda: now_s[0])
    assert offer(saturation, now_s, 10.0, 0.02, refused_of_ten=0) == {False}
    assert offer(saturation, now_s, 10.0, 0.02, refused_of_ten=5) == {False, True}
    assert saturation.holds()
    # Between the two shares nothing changes, in either state.
    assert offer(saturation, now_s, 10.0, 0.02, refused_of_ten=1) == {True}
    offer(saturation, now_s, 10.0, 0.02, refused_of_ten=0)
    assert not saturation.holds()
    assert offer(saturation, now_s, 10.0, 0.02, refused_of_ten=1) == {False}


def test_a_service_that_gets_no_pages_any_more_is_not_saturated_for_long() -> None:
    now_s = [0.0]
    saturation = Saturation(lambda: now_s[0])
    offer(saturation, now_s, 10.0, 0.02, refused_of_ten=9)
    assert saturation.holds()
    now_s[0] += 15.0
    assert not saturation.holds()


def test_a_few_refused_pages_are_no_saturation() -> None:
    saturation = Saturation(lambda: 0.0)
    saturation.count(is_refused=True)
    assert not saturation.holds()
