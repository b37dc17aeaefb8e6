"""The training race: its rows, its clock, its tables, and one small race from end to end."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the race by its name."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(BENCHMARKS)
        return importlib.import_module(f"throughput.{name}")

    return load


def test_rows_repeat_and_have_the_promised_rates_and_ranges(part):
    rows = part("rows")
    one, same, other = rows.generate(20_000, 3), rows.generate(20_000, 3), rows.generate(20_000, 4)
    for name in rows.ARRAYS:
        assert np.array_equal(getattr(one, name), getattr(same, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))
    assert one.labels.mean(0) == pytest.approx(rows.RATES, rel=0.1)
    assert one.categorical.min() == 1
    assert (one.categorical.max(0) <= rows.VOCABULARIES).all()
    assert one.numerical.mean(0) == pytest.approx(np.zeros(30), abs=1e-4)
    assert 0.8 < rows.auc(one.logits[:, 0], one.labels[:, 0]) < 0.86


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_pairs_won(part, seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 40)
    scores = rng.integers(0, 6, 40).astype(float)
    pairs = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    assert part("rows").auc(scores, labels) == pytest.approx(np.mean(pairs))


class Hands:
    """A clock face that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0


def make_clock(part, hands: Hands, aucs: list[float], **limits: float):
    def score() -> float:
        hands.now += 1_000.0
        return aucs.pop(0)

    limits = {"epochs": 2, "max_seconds": 1e9, "goal": 2.0} | limits
    return part("clock").RaceClock(timer=lambda: hands.now, score=score, steps_per_epoch=16, **limits)


def run(part, clock, hands: Hands) -> None:
    def steps() -> None:
        for _ in range(10_000):
            hands.now += 1.0
            clock.after_step()

    clock.start()
    with pytest.raises(part("clock").RaceOverError):
        steps()


def test_clock_stops_while_the_held_out_rows_are_scored(part):
    hands = Hands()
    clock = make_clock(part, hands, [0.5] * 16)
    run(part, clock, hands)
    assert clock.steps == 32
    assert clock.first_epoch_seconds == 16.0
    assert [point["seconds"] for point in clock.points] == list(range(2, 33, 2))
    assert [point["epoch"] for point in clock.points] == [at / 8 for at in range(1, 17)]


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        pytest.param({"goal": 0.7}, 20, id="goal_after_the_first_epoch"),
        pytest.param({"max_seconds": 21.0}, 22, id="next_point_after_the_time"),
        pytest.param({"max_seconds": 1.0}, 16, id="never_within_the_first_epoch"),
    ],
)
def test_clock_ends_the_race_at_its_limits(part, limits: dict[str, float], steps: int):
    hands = Hands()
    clock = make_clock(part, hands, [0.5] * 9 + [0.7] * 7, **limits)
    run(part, clock, hands)
    assert clock.steps == steps


def test_table_takes_the_setting_that_reaches_the_highest_target_first(part):
    def race(setting: str, *points: tuple[float, float]) -> dict:
        figures = [{"seconds": seconds, "auc": auc, "epoch": 1.0} for seconds, auc in points]
        return {"contender": "a", "model": "mmoe", "setting": setting, "build_s": 0.0, "points": figures}

    races = [race("fast", (1.0, 0.6)), race("high", (5.0, 0.6), (9.0, 0.7)), race("late", (2.0, 0.6), (10.0, 0.7))]
    table = part("tables").time_to_auc_table(races, [0.6, 0.7, 0.8])
    cells = [cell.strip() for cell in table.splitlines()[2].split("|")[1:-1]]
    assert cells == ["a", "mmoe", "high", "0.0", "5.0", "9.0", "-", "0.7000 at epoch 1.00"]


@pytest.mark.parametrize(
    ("contender", "model", "more_weights"),
    [
        pytest.param("plain loop", "mmoe", 12, id="mmoe_with_gate_biases"),
        pytest.param("plain loop", "dcn_v2", 0, id="dcn_v2"),
        pytest.param("rtdl", "ft_transformer", -(64 * 64 + 64), id="ft_transformer_without_equation_12"),
    ],
)
def test_ours_and_the_plain_loop_have_equal_shape(part, contender: str, model: str, more_weights: int):
    rows = part("rows").generate(400, 0)
    setting = part("contender").Setting(model, batch_size=100, learning_rate=1e-3, epochs=1, seed=0)
    entry = part("worker").CONTENDERS[contender]
    ours, plain = part("own").Shelfrank("auto"), entry.make(part(entry.module))
    assert ours.build(rows, setting) == plain.build(rows, setting) == 4
    assert ours.parameters().tables == plain.parameters().tables
    assert ours.parameters().network + more_weights == plain.parameters().network
    assert ours.predict(rows).shape == plain.predict(rows).shape == (400,)


def test_every_model_is_raced_by_us_and_by_another(part):
    contenders = part("worker").CONTENDERS
    for model in part("contender").NEURAL_MODELS:
        racers = [name for name, entry in contenders.items() if model in entry.models]
        assert "shelfrank" in racers
        assert len(racers) > 2


@pytest.mark.slow
def test_small_race_from_end_to_end(tmp_path: Path):
    out = tmp_path / "race.json"
    command = [
        sys.executable, BENCHMARKS / "train_throughput.py", "--rows", 4_000, "--held-out", 1_000, "--probe-rows", 500,
        "--epochs", 1, "--batch-sizes", 1_000, "--threads", 1, "--models", "mmoe", "--contenders", "plain loop",
        "--out", out,
    ]  # fmt: skip
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (race,) = json.loads(out.read_text(encoding="utf-8"))["races"]
    assert "skipped" not in race
    assert [point["epoch"] for point in race["points"]] == [0.25, 0.5, 0.75, 1.0]
    assert set(race["phases_s"]) == {"forward", "loss_and_backward", "step", "elsewhere"}
    assert f"{race['rows_per_s']:,.0f}" in done.stdout
