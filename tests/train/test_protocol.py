"""How batch size, rate and precision are picked, and that the choice is said."""

import pytest

from shelfrank.config import TrainConfig
from shelfrank.train import protocol
from shelfrank.train.protocol import pick_protocol


@pytest.mark.parametrize("n_rows", [100, 500_000, 59_000_000])
def test_the_paper_takes_its_batch_and_rate_for_any_log(n_rows: int) -> None:
    config = TrainConfig(protocol="paper")
    picked = pick_protocol(config, n_rows)
    assert (picked.batch_size, picked.learning_rate, config.epochs) == (16_384, 1e-3, 10)
    assert f"{-(-n_rows // 16_384)} steps" in picked.reasons[0]


@pytest.mark.parametrize(
    ("n_rows", "batch_size"),
    [
        pytest.param(1, 512, id="tiny -> the least"),
        pytest.param(409_599, 512, id="one row short of 400 steps of 1024"),
        pytest.param(409_600, 1024, id="400 steps of 1024"),
        pytest.param(1_000_000, 2048, id="488 steps of 2048"),
        pytest.param(59_000_000, 16_384, id="the paper's size -> the paper's batch"),
    ],
)
def test_auto_takes_the_largest_batch_that_leaves_enough_steps(n_rows: int, batch_size: int) -> None:
    picked = pick_protocol(TrainConfig(protocol="auto"), n_rows)
    assert picked.batch_size == batch_size
    assert picked.learning_rate == 1e-3
    assert f"batch {batch_size} for {n_rows:,} rows" in picked.reasons[0]


@pytest.mark.parametrize("name", ["auto", "paper"])
def test_stated_values_win_and_are_said(name: str) -> None:
    config = TrainConfig.model_validate({"protocol": name, "batch_size": 77, "learning_rate": 0.5})
    picked = pick_protocol(config, 1_000_000)
    assert (picked.batch_size, picked.learning_rate) == (77, 0.5)
    assert {"batch 77: as configured", "rate 0.5: as configured"} <= set(picked.reasons)


@pytest.mark.parametrize(
    ("precision", "hardware", "bf16"),
    [("auto", True, True), ("auto", False, False), ("fp32", True, False), ("bf16", False, True)],
)
def test_bfloat16_only_where_wanted_or_fast(
    precision: str, hardware: bool, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "has_fast_bf16", lambda: hardware)
    picked = pick_protocol(TrainConfig.model_validate({"precision": precision}), 1000)
    assert picked.bf16 is bf16
    assert f"{'bfloat16' if bf16 else 'float32'} (precision {precision})" in picked.reasons[-1]


@pytest.mark.parametrize(
    ("batch_searches", "n_searches", "searches", "why"),
    [
        pytest.param(256, 24_000, 256, "as configured", id="94 steps"),
        pytest.param(256, 16_384, 256, "as configured", id="64 steps"),
        pytest.param(256, 16_383, 128, "halved from 256 for 64 steps an epoch", id="one search short of them"),
        pytest.param(256, 100, 16, "halved from 256 for 64 steps an epoch", id="tiny -> the least"),
        pytest.param(6, 40, 6, "as configured", id="fewer than the least stay"),
    ],
)
def test_batches_of_searches_leave_a_small_log_enough_steps(
    batch_searches: int, n_searches: int, searches: int, why: str
) -> None:
    picked = pick_protocol(TrainConfig(batch_searches=batch_searches), 20 * n_searches, n_searches)
    assert picked.batch_size == 20 * searches
    assert f"batch {20 * searches}: about {searches} searches, {why}" in picked.reasons
    stated = TrainConfig(batch_searches=batch_searches, batch_size=77)
    assert pick_protocol(stated, 20 * n_searches, n_searches).batch_size == 77
