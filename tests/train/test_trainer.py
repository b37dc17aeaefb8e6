"""The training loop: when it stops, whose weights it keeps, that it resumes exactly, and what it learned before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shelfrank.config import TrainConfig
from shelfrank.core.errors import UserError
from shelfrank.core.processes import Processes
from shelfrank.data.batch import Batch, SplitRows
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.metrics import mrr_at_k
from shelfrank.metrics.order import fuse
from shelfrank.nn.calibration import Calibration
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.nn.model import MultiTaskRanker, Outputs
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import problem
from shelfrank.train import predict as predict_module
from shelfrank.train import trainer as trainer_module
from shelfrank.train.checkpoint import Checkpoints
from shelfrank.train.losses import LossWeights, relevance_loss, task_losses
from shelfrank.train.predict import evaluate_losses, gate_shares, predict, served_mrr
from shelfrank.train.trainer import Trained, Trainer, weighted_mean
from tiny import hand_split, random_split, tiny, tiny_network

WEIGHTS = (0.5, 0.3, 0.2)
TASKS_ALONE, ONE_TASK = LossWeights(WEIGHTS), LossWeights((1.0,))
N_CLASSES = 4
TRAIN, VALID = random_split(200, seed=1), random_split(60, seed=2, name="valid")
GRADED_TRAIN = random_split(200, seed=1, relevance_classes=N_CLASSES)
GRADED_VALID = random_split(60, seed=2, name="valid", relevance_classes=N_CLASSES)


class OneNumber(nn.Module):
    """The same logit for every row."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(()))

    def forward(self, numerical: Tensor, categorical: Tensor, texts: None = None) -> Outputs:
        return Outputs(self.logit.expand(len(numerical), 1), None, None)


class StoppedError(Exception):
    pass


def config(**changes: object) -> TrainConfig:
    settings = {"threads": 1, "precision": "fp32", "batch_size": 32, "epochs": 3, "patience": 10}
    return TrainConfig.model_validate(settings | changes)


def make(*assignments: str, n_classes: int = 0) -> MultiTaskRanker:
    torch.manual_seed(0)
    network = tiny_network("dcn_v2", *assignments)
    column = 0 if network.position_bias.by else None
    return MultiTaskRanker(4, (2,), 3, network, n_classes, bias_column=column)


def train_tiny(
    settings: TrainConfig,
    *assignments: str,
    seed: int = 0,
    checkpoints: Checkpoints | None = None,
    relevance_weight: float = 0.0,
    train: Split = GRADED_TRAIN,
) -> tuple[MultiTaskRanker, Trained]:
    model = make(*assignments, n_classes=N_CLASSES if relevance_weight else 0)
    splits = (train, GRADED_VALID) if relevance_weight else (TRAIN, VALID)
    weights = LossWeights(WEIGHTS, relevance_weight, settings.pointwise_weight, settings.listwise_weight)
    return model, Trainer(model, *splits, settings, weights, seed, checkpoints=checkpoints).run()


def assert_same_bits(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def differs(a: nn.Module, b: nn.Module) -> bool:
    return any(not torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def learned(trained: Trained) -> list[dict[str, object]]:
    """The curve without what the clock says."""
    return [{name: value for name, value in record.items() if name != "seconds"} for record in trained.curve]


def test_training_stops_early_and_keeps_the_best_epochs_weights() -> None:
    # Training pushes the one logit up by the rate, 0.1 a step. Six of ten validation rows are positive, so that their
    # loss is least at ln(0.6 / 0.4) = 0.405: best after four epochs of one step, and patience ends it after six.
    train, valid = hand_split([[1]] * 10), hand_split([[1]] * 6 + [[0]] * 4, name="valid")
    model = OneNumber()
    trained = Trainer(model, train, valid, config(learning_rate=0.1, epochs=50, patience=2), ONE_TASK, 0).run()

    assert trained.best_epoch == 4
    assert [record["epoch"] for record in trained.curve] == [1, 2, 3, 4, 5, 6]
    assert [record["best"] for record in trained.curve] == [False, False, False, True, False, False]
    assert model.logit.item() == pytest.approx(0.4, abs=0.01)
    assert trained.curve[0]["train_loss"] == pytest.approx(np.log(2))


def test_what_sees_every_epoch_can_end_the_training() -> None:
    seen: list[int] = []

    def end_after_two(record: dict[str, object]) -> None:
        seen.append(int(str(record["epoch"])))
        if len(seen) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        Trainer(make(), TRAIN, VALID, config(epochs=5), TASKS_ALONE, 0).run(end_after_two)
    assert seen == [1, 2]


def test_a_penalty_moves_the_weights_and_counts_in_no_loss() -> None:
    # As many positives as negatives hold the logit at 0, so that the penalty's slope of 1 alone moves it, by the rate.
    class Penalised(OneNumber):
        def forward(self, numerical: Tensor, categorical: Tensor, texts: None = None) -> Outputs:
            logits = super().forward(numerical, categorical).logits
            return Outputs(logits, None, self.logit + 100.0 if self.training else None)

    model = Penalised()
    rows = hand_split([[1], [0]] * 5)
    trained = Trainer(model, rows, rows, config(learning_rate=0.1, epochs=1), ONE_TASK, 0).run()

    assert model.logit.item() == pytest.approx(-0.1, abs=1e-5)
    assert trained.curve[0]["train_loss"] == pytest.approx(np.log(2))
    assert trained.curve[0]["valid_loss"] == pytest.approx((np.log1p(np.exp(0.1)) + np.log1p(np.exp(-0.1))) / 2)


def test_restored_weights_are_those_of_a_training_that_ended_there() -> None:
    # The validation labels say the opposite of the training labels, so that the first epoch is the best.
    contrary = hand_split(
        np.where(VALID.labels[:] == 1, 0, 1).tolist(), VALID.numerical[:], np.diff(VALID.search_offsets).tolist()
    )
    long, short = make(), make()
    settings = config(learning_rate=0.05, epochs=5, patience=2)
    trained = Trainer(long, TRAIN, contrary, settings, TASKS_ALONE, 0).run()
    Trainer(short, TRAIN, contrary, settings.model_copy(update={"epochs": 1}), TASKS_ALONE, 0).run()

    assert (trained.best_epoch, len(trained.curve)) == (1, 3)
    assert_same_bits(long, short)


def test_the_validation_loss_is_each_tasks_mean_over_the_split() -> None:
    model = make()
    some_missing = random_split(40, missing=0.3)
    with torch.no_grad():
        logits = model.eval()(
            torch.from_numpy(some_missing.numerical), torch.from_numpy(some_missing.categorical)
        ).logits
    expected = task_losses(logits, torch.from_numpy(some_missing.labels))
    losses = evaluate_losses(model.train(), SplitRows(some_missing), bf16=False)
    torch.testing.assert_close(losses, expected.double(), rtol=1e-6, atol=1e-6)


def test_logits_do_not_depend_on_how_rows_are_cut_into_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    whole = predict(model, SplitRows(TRAIN), bf16=False).logits
    monkeypatch.setattr(predict_module, "SCORING_ROWS", 7)
    torch.testing.assert_close(predict(model, SplitRows(TRAIN), bf16=False).logits, whole)
    none = random_split(0)
    assert predict(model, SplitRows(none), bf16=False).logits.shape == (0, 3)


def test_a_tasks_weight_of_zero_leaves_its_tower_unmoved() -> None:
    model, before = make(), make()
    Trainer(model, TRAIN, VALID, config(epochs=1), LossWeights((0.5, 0.5, 0.0)), 0).run()
    assert torch.equal(model.towers.out.bias[2], before.towers.out.bias[2])
    assert not torch.equal(model.towers.out.bias[0], before.towers.out.bias[0])


def test_the_seed_decides_every_bit_of_a_training() -> None:
    one, same, other = (train_tiny(config(), "neural.dropout=0.3", seed=seed)[0] for seed in (3, 3, 4))
    assert_same_bits(one, same)
    assert differs(one, other)


def test_relevance_is_learned_beside_the_tasks_and_counts_in_the_loss() -> None:
    settings = config(learning_rate=0.01, epochs=12)
    model, trained = train_tiny(settings, relevance_weight=0.4)
    for record in trained.curve:
        tasks = np.dot(WEIGHTS, record["valid_losses"])
        assert record["valid_loss"] == pytest.approx(tasks + 0.4 * record["valid_relevance_loss"], rel=1e-5)
    classes = predict(model, SplitRows(GRADED_VALID), bf16=False).relevance
    assert classes is not None
    relevance = torch.from_numpy(GRADED_VALID.relevance)
    best = next(record for record in trained.curve if record["best"])
    assert relevance_loss(classes, relevance).item() == pytest.approx(best["valid_relevance_loss"], rel=1e-5)
    assert best["valid_relevance_loss"] < 0.95 * np.log(N_CLASSES)


def test_the_tasks_alone_decide_which_epoch_is_kept_and_when_to_stop() -> None:
    _, trained = train_tiny(config(learning_rate=0.01, epochs=40, patience=3), relevance_weight=100.0)
    of_tasks = [float(np.dot(WEIGHTS, record["valid_losses"])) for record in trained.curve]
    assert trained.best_epoch == int(np.argmin(of_tasks)) + 1
    assert len(trained.curve) == trained.best_epoch + 3
    totals = [record["valid_loss"] for record in trained.curve]
    assert int(np.argmin(totals)) + 1 != trained.best_epoch


def test_the_training_loss_counts_relevance_by_its_weight() -> None:
    # One step an epoch over every row, without what a draw could move: the first loss is that of the drawn weights.
    settings = config(batch_size=1000, epochs=1)
    untrained = make("neural.batch_norm=false", n_classes=N_CLASSES)
    losses = evaluate_losses(untrained, SplitRows(GRADED_TRAIN), False)
    _, trained = train_tiny(settings, "neural.batch_norm=false", relevance_weight=2.0)
    expected = np.dot(WEIGHTS, losses[:3].numpy()) + 2.0 * losses[3].item()
    assert trained.curve[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_weight_of_zero_trains_as_if_there_were_no_relevance_labels() -> None:
    without, expected = train_tiny(config())
    model = make()
    found = Trainer(model, GRADED_TRAIN, GRADED_VALID, config(), TASKS_ALONE, 0).run()
    assert_same_bits(model, without)
    assert learned(found) == learned(expected)
    assert "valid_relevance_loss" not in found.curve[0]


def test_batches_without_a_relevance_label_leave_its_tower_unmoved() -> None:
    before, (model, trained) = make(n_classes=N_CLASSES), train_tiny(config(), relevance_weight=0.4, train=TRAIN)
    drawn, kept = dict(before.named_parameters()), dict(model.named_parameters())
    unmoved = {name for name in drawn if torch.equal(drawn[name], kept[name])}
    assert unmoved == {name for name in drawn if name.startswith("relevance_tower.")}
    assert np.isfinite([record["train_loss"] for record in trained.curve]).all()


def test_no_rows_have_logits_of_every_class() -> None:
    none = random_split(0, relevance_classes=N_CLASSES)
    model = make(n_classes=N_CLASSES)
    outputs = predict(model, SplitRows(none), bf16=False)
    assert outputs.relevance is not None
    assert (outputs.logits.shape, outputs.relevance.shape) == ((0, 3), (0, N_CLASSES))


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ends training before the step whose number is put into the list."""
    steps, stop_before = [0], [0]
    step = Trainer.step

    def counted(trainer: Trainer, batch: Batch) -> Tensor:
        steps[0] += 1
        if steps[0] == stop_before[0]:
            raise StoppedError
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "step", counted)
    return stop_before


@pytest.mark.parametrize("relevance_weight", [0.0, 0.4], ids=["three tasks", "with relevance"])
@pytest.mark.parametrize("stop_before", [2, 7, 8, 12], ids=["first epoch", "epoch's end", "epoch's begin", "second"])
def test_interrupted_and_resumed_is_bit_for_bit_uninterrupted(
    stop_before: int, relevance_weight: float, interrupt: list[int], tmp_path: Path
) -> None:
    settings = config(checkpoint_every_s=1e-9)  # seven steps an epoch, a checkpoint after each

    def train(checkpoints: Checkpoints | None = None) -> tuple[MultiTaskRanker, Trained]:
        return train_tiny(settings, "neural.dropout=0.3", checkpoints=checkpoints, relevance_weight=relevance_weight)

    uninterrupted, expected = train()
    interrupt[0] = len(expected.curve) * 7 + stop_before
    with pytest.raises(StoppedError):
        train(Checkpoints(tmp_path, "owner", resume=False))
    torch.manual_seed(99)

    resumed, found = train(Checkpoints(tmp_path, "owner", resume=True))

    assert_same_bits(resumed, uninterrupted)
    assert learned(found) == learned(expected)


EVERY_PART = {
    "pointwise_weight": 0.5,
    "listwise_weight": 1.0,
    "batch_size": None,
    "batch_searches": 6,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "stop_by": "mrr",
}
"""Every part of training that is off by default; seven steps an epoch, as with batches of 32 rows."""
NETWORK_PARTS = (
    "neural.dropout=0.3",
    "neural.position_bias.n_positions=4",
    "neural.position_bias.by=code",
    "neural.entire_space=true",
    "neural.calibrate=true",
)
"""Those of the network."""


def test_sampled_rows_teach_the_chances_of_unsampled_ones_where_their_offsets_are_told() -> None:
    # A tenth of all rows are positive; a ninth of the others was kept, so that half of those kept are.
    rows = replace(hand_split([[1], [0]] * 20), offsets=np.full((40, 1), np.log(9), np.float32))
    learned = []
    for offset in (True, False):
        model = OneNumber()
        settings = config(learning_rate=0.1, epochs=40, patience=40, sampling_offset=offset)
        Trainer(model, rows, hand_split([[1]] + [[0]] * 9, name="valid"), settings, ONE_TASK, 0).run()
        learned.append(torch.sigmoid(model.logit).item())
    # Without, validation stops it at the weights it began with, which are the nearest to the truth that it had.
    assert learned == [pytest.approx(0.1, abs=0.01), pytest.approx(0.5, abs=0.05)]


def test_offsets_are_the_product_s_and_move_each_task_apart() -> None:
    rows = replace(TRAIN, offsets=np.zeros((TRAIN.product_idx.max() + 1, 3), np.float32))
    shifted = replace(rows, offsets=np.array(rows.offsets))
    assert shifted.offsets is not None
    shifted.offsets[TRAIN.product_idx[0], 1] = 4.0
    losses = []
    for split in (TRAIN, rows, shifted):
        trainer = Trainer(make(), split, VALID, config(batch_size=TRAIN.n_rows), TASKS_ALONE, 0)
        losses.append(float(trainer.step(next(iter(trainer.batches.epoch(0))))))
    assert losses[0] == losses[1]
    model = make().train()
    trainer = Trainer(model, TRAIN, VALID, config(batch_size=TRAIN.n_rows), TASKS_ALONE, 0)
    batch = next(iter(trainer.batches.epoch(0)))
    with torch.no_grad():
        logits = model(batch.numerical, batch.categorical, None).logits
    logits[torch.from_numpy(batch.product_idx == TRAIN.product_idx[0]), 1] += 4.0
    assert losses[2] == pytest.approx(float(task_losses(logits, batch.labels) @ torch.tensor(WEIGHTS)), rel=1e-5)


def test_position_biases_take_up_what_positions_explain_at_a_rate_of_their_own() -> None:
    # Half of the pages show their positive row first whatever its number is, which is noise.
    rng = np.random.default_rng(0)
    first = np.tile([1, 0], 400)
    labels = (rng.random(800) < np.where(first, 0.6, 0.2)).astype(int)
    rows = replace(
        hand_split(labels[:, None].tolist(), rng.normal(size=(800, 1)), [2] * 400),
        position=np.tile([1, 2], 400).astype(np.int32),
    )
    network = tiny_network("mlp", "neural.position_bias.n_positions=2")
    torch.manual_seed(0)
    model = MultiTaskRanker(1, (2,), 1, network)
    settings = config(epochs=8, learning_rate=1e-3, schedule="cosine")
    Trainer(model, rows, rows, settings, ONE_TASK, 0, position_rate_factor=20.0).run()
    assert model.position_bias is not None
    found = model.position_bias(torch.tensor([1, 2]), torch.zeros(2, 1, dtype=torch.int32))[:, 0]
    odds = [np.log(labels[first == is_first].mean() / (1 - labels[first == is_first].mean())) for is_first in (1, 0)]
    assert (found[0] - found[1]).item() == pytest.approx(odds[0] - odds[1], abs=0.3)


def test_validation_losses_know_the_positions_and_the_served_order_does_not() -> None:
    torch.manual_seed(0)
    model = MultiTaskRanker(4, (2,), 3, tiny_network("mlp", "neural.position_bias.n_positions=5"))
    trainer = Trainer(model, TRAIN, VALID, config(stop_by="mrr"), TASKS_ALONE, 0)
    losses, mrr = trainer.validate()
    assert model.position_bias is not None
    torch.nn.init.normal_(model.position_bias.table, std=3.0)
    others, same = trainer.validate()
    assert not torch.allclose(losses, others)
    assert mrr is not None
    assert same is not None
    assert mrr.tolist() == same.tolist()
    logits = predict(model, SplitRows(VALID), bf16=False).logits.double()
    shown = logits + model.position_bias(torch.from_numpy(VALID.position), torch.from_numpy(VALID.categorical)).detach()
    torch.testing.assert_close(others, task_losses(shown, torch.from_numpy(VALID.labels)))


def test_weight_decay_spares_the_position_biases() -> None:
    torch.manual_seed(0)
    model = MultiTaskRanker(4, (2,), 3, tiny_network("mlp", "neural.position_bias.n_positions=5"))
    settings = config(weight_decay=0.5, learning_rate=0.01)
    groups = Trainer(model, TRAIN, VALID, settings, TASKS_ALONE, 0, position_rate_factor=20.0).optimizer.param_groups
    assert [(len(group["params"]), group["lr"], group["weight_decay"]) for group in groups[1:]] == [(1, 0.2, 0.0)]
    assert (groups[0]["lr"], groups[0]["weight_decay"]) == (0.01, 0.5)


def test_the_best_epochs_calibration_is_kept() -> None:
    model, trained = train_tiny(config(epochs=6, learning_rate=0.1, listwise_weight=5.0), "neural.calibrate=true")
    assert model.calibration is not None
    kept = [*model.calibration.scale.tolist(), *model.calibration.shift.tolist()]
    model.calibration.reset()
    again = Calibration(3)
    again.fit(predict(model, SplitRows(VALID), bf16=False).logits, torch.from_numpy(VALID.labels))
    assert kept == pytest.approx([*again.scale.tolist(), *again.shift.tolist()], rel=1e-4)
    assert kept != pytest.approx([1.0] * 3 + [0.0] * 3, rel=0.1)
    assert trained.best_epoch < 6


@pytest.mark.parametrize("stop_before", [2, 7, 8, 12], ids=["first epoch", "epoch's end", "epoch's begin", "second"])
def test_with_every_part_on_a_resumed_training_has_the_same_bits(
    stop_before: int, interrupt: list[int], tmp_path: Path
) -> None:
    settings = config(checkpoint_every_s=1e-9, **EVERY_PART)
    uninterrupted, expected = train_tiny(settings, *NETWORK_PARTS)
    interrupt[0] = len(expected.curve) * 7 + stop_before
    with pytest.raises(StoppedError):
        train_tiny(settings, *NETWORK_PARTS, checkpoints=Checkpoints(tmp_path, "owner", resume=False))
    torch.manual_seed(99)
    again = Checkpoints(tmp_path, "owner", resume=True)
    resumed, found = train_tiny(settings, *NETWORK_PARTS, checkpoints=again)

    assert_same_bits(resumed, uninterrupted)
    assert learned(found) == learned(expected)


def test_the_cosine_lowers_the_rate_from_its_own_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step

    def recorded(optimizer: torch.optim.Adam, *arguments: object) -> object:
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    train_tiny(config(learning_rate=0.02, epochs=2, schedule="cosine"))
    assert rates == pytest.approx([0.01 * (1 + np.cos(np.pi * done / 14)) for done in range(14)])
    rates.clear()
    train_tiny(config(learning_rate=0.02, epochs=2))
    assert rates == [0.02] * 14


def test_weight_decay_shrinks_a_weight_without_a_gradient() -> None:
    class Idle(OneNumber):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Parameter(torch.ones(()))

        def forward(self, numerical: Tensor, categorical: Tensor, texts: None = None) -> Outputs:
            logits, none, _ = super().forward(numerical, categorical)
            return Outputs(logits + 0.0 * self.idle, none, None)

    rows, model = hand_split([[1], [0]] * 5), Idle()
    Trainer(model, rows, rows, config(learning_rate=0.1, epochs=1, weight_decay=0.5), ONE_TASK, 0).run()
    assert model.idle.item() == pytest.approx(1 - 0.1 * 0.5)


def test_batches_hold_about_as_many_searches_as_configured() -> None:
    trainer = Trainer(make(), TRAIN, VALID, config(batch_size=None, batch_searches=6), TASKS_ALONE, 0)
    assert [len(batch.search_sizes()) for batch in trainer.batches.epoch(0)] == [6, 6, 5, 6, 6, 6, 5]


class Scripted(nn.Module):
    """Orders the first page's second row first after the first epoch, and its first row ever after."""

    def __init__(self) -> None:
        super().__init__()
        self.n_validated = 0
        self.idle = nn.Parameter(torch.zeros(()))

    def forward(self, numerical: Tensor, categorical: Tensor, texts: None = None) -> Outputs:
        self.n_validated += not self.training
        # The loss falls from epoch to epoch, while the order is right after the first only.
        second = 0.1 if self.n_validated <= 1 else -0.1
        logits = torch.tensor([[-float(self.n_validated)], [second - self.n_validated]])
        return Outputs(logits.repeat(len(numerical) // 2, 1) + 0.0 * self.idle, None, None)


def test_the_served_orders_mrr_can_pick_the_epoch() -> None:
    rows = hand_split([[0], [1]] + [[0]] * 18, sizes=[2] * 10)
    by_mrr = Trainer(Scripted(), rows, rows, config(epochs=9, patience=2, stop_by="mrr"), ONE_TASK, 0).run()
    assert [record["valid_mrr"] for record in by_mrr.curve] == [[1.0], [0.5], [0.5]]
    assert by_mrr.best_epoch == 1
    by_loss = Trainer(Scripted(), rows, rows, config(epochs=2, patience=2), ONE_TASK, 0).run()
    assert by_loss.best_epoch == 2
    assert "valid_mrr" not in by_loss.curve[0]


def test_the_served_orders_mrr_is_the_metrics_of_the_fused_probabilities() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(VALID.n_rows, 3)))
    fused = fuse(torch.sigmoid(logits).numpy(), (0.2, 0.5, 0.3))
    rest = (VALID.search_offsets, VALID.tie_keys, 10)
    expected = [mrr_at_k(fused, np.ascontiguousarray(VALID.labels[:, task]), *rest) for task in range(3)]
    assert served_mrr(logits, VALID, (0.2, 0.5, 0.3)).tolist() == pytest.approx(expected)
    none = hand_split([[0, 1]] * 4, sizes=[2, 0, 2])
    assert np.isnan(served_mrr(torch.zeros(4, 2), none, (0.5, 0.5))).tolist() == [True, False]


def test_a_task_without_a_positive_has_no_say_in_the_mean() -> None:
    assert weighted_mean(np.array([0.5, np.nan, 0.2]), (0.25, 0.5, 0.25)) == pytest.approx(0.35)
    assert weighted_mean(np.array([np.nan]), (1.0,)) == 0.0


def test_processes_that_share_ghost_batches_have_no_listwise_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "processes", lambda: Processes(0, 2))
    weights = LossWeights(WEIGHTS, listwise=1.0)
    with pytest.raises(UserError, match=r"train\.listwise_weight must be 0 where processes share .* TabNet"):
        Trainer(make(), TRAIN, VALID, config(), weights, 0, ghost_batch_size=16)


def test_a_penalty_on_unequal_shares_makes_gates_use_every_expert() -> None:
    spread = {}
    for balance in (0.0, 1.0):
        model, _ = train_tiny(config(epochs=12, learning_rate=0.03), f"neural.mmoe.balance={balance}")
        shares = gate_shares(model, SplitRows(VALID))
        assert shares is not None
        assert shares.sum(axis=1) == pytest.approx([1.0] * 3)
        spread[balance] = float(shares.std(axis=1).max())
    assert spread[1.0] < 0.5 * spread[0.0]


def test_gate_shares_are_the_mean_weights_over_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(n_classes=N_CLASSES)
    torch.nn.init.normal_(model.head.gates.weight, std=3.0)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(predict_module, "SCORING_ROWS", 7)
    found = gate_shares(model, SplitRows(VALID))
    inputs = model.eval().gather_inputs(torch.from_numpy(VALID.numerical), torch.from_numpy(VALID.categorical))
    assert isinstance(model.head, MMoE)
    expected = model.head.gate_weights(model.bottom(inputs).x_final).mean(dim=0)
    assert found is not None
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)
    assert gate_shares(make("neural.head=none"), SplitRows(VALID)) is None


def test_a_finished_training_resumes_to_its_result(tmp_path: Path) -> None:
    finished, expected = train_tiny(config(), checkpoints=Checkpoints(tmp_path, "owner", resume=False))
    resumed, found = train_tiny(config(), checkpoints=Checkpoints(tmp_path, "owner", resume=True))
    assert_same_bits(resumed, finished)
    assert learned(found) == learned(expected)


def test_nothing_to_resume_from_is_a_fresh_start(tmp_path: Path) -> None:
    fresh, _ = train_tiny(config())
    resumed, _ = train_tiny(config(), checkpoints=Checkpoints(tmp_path / "nothing", "owner", resume=True))
    assert_same_bits(resumed, fresh)


def test_a_diverged_loss_is_told(tmp_path: Path) -> None:
    huge = hand_split([[1], [0]] * 10, np.full((20, 1), 3e38))
    model = nn.Linear(1, 1)

    class Explosive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = model

        def forward(self, numerical: Tensor, categorical: Tensor, texts: None = None) -> Outputs:
            return Outputs(self.linear(numerical) * 10.0, None, None)

    with pytest.raises(UserError, match=r"loss must stay finite, .* epoch 1; lower train\.learning_rate"):
        Trainer(Explosive(), huge, huge, config(), ONE_TASK, 0).run()


# fmt: off
GOLDEN_TRAIN_LOSSES = [
    0.668044, 0.657746, 0.647289, 0.636173, 0.623766, 0.609629, 0.593585, 0.575721, 0.556491, 0.535870,
    0.515422, 0.495449, 0.477260, 0.461805, 0.449887, 0.442731, 0.440550, 0.442249, 0.442568, 0.443757,
]
GOLDEN_VALID_LOSSES = [
    0.653596, 0.642079, 0.629777, 0.616181, 0.600891, 0.583896, 0.565316, 0.545584, 0.525348, 0.505484,
    0.486902, 0.470152, 0.455918, 0.444634, 0.436885, 0.433328, 0.433044, 0.433762, 0.433973, 0.433219,
]
# fmt: on
GOLDEN_FEATURES = {
    *("price", "brand", "age_band", "device", "page_size"),
    *("product_click_rate", "query_product_click_rate", "customer_product_clicks"),
}
"""Few, so that another feature beside them does not move the losses."""


def test_twenty_steps_on_the_small_log_give_the_stored_losses(small_prepared: Path) -> None:
    # One step an epoch, so that the curve holds the loss of every step. A change of these features, the draws, the
    # network, the loss or the optimizer moves these numbers; store new ones only where such a change is meant.
    prepared = PreparedData.open(small_prepared)
    unseen = {column.name for column in (*prepared.numerical_columns, *prepared.categorical_columns)} - GOLDEN_FEATURES
    settings = tiny(
        "mmoe_dcn_v2",
        *("train.batch_size=1000000", "train.learning_rate=0.01", "train.epochs=20", "train.patience=20"),
        # The biases before batch normalisation have no gradient but rounding, which Adam turns into steps.
        "neural.batch_norm=false",
        f"exclude_features=[{', '.join(sorted(unseen))}]",
    )
    train, valid = (prepared.split(name).select(names=settings.exclude_features) for name in ("train", "valid"))
    fitted = NeuralRanker(problem(prepared, settings)).fit(train, valid)
    assert [record["train_loss"] for record in fitted.curve] == pytest.approx(GOLDEN_TRAIN_LOSSES, rel=1e-4)
    assert [record["valid_loss"] for record in fitted.curve] == pytest.approx(GOLDEN_VALID_LOSSES, rel=1e-4)
