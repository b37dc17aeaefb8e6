"""An ensemble is the mean of its members, and they are trained as if each were alone."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from shelfrank.config import TrainConfig
from shelfrank.data.batch import Batch
from shelfrank.nn.ensemble import Ensemble, members_of
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.rankers.neural import MEMBER_STRIDE, build_network
from shelfrank.train.checkpoint import Checkpoints
from shelfrank.train.losses import LossWeights
from shelfrank.train.trainer import Trainer
from tiny import random_split, tiny_network

WEIGHTS = LossWeights((0.5, 0.3, 0.2), listwise=0.5)
TRAIN, VALID = random_split(200, seed=1), random_split(60, seed=2, name="valid")
PARTS = ("neural.position_bias.n_positions=4", "neural.entire_space=true")


def make(n: int, *assignments: str, seed: int = 0) -> MultiTaskRanker | Ensemble:
    network = tiny_network("mlp", f"neural.n_networks={n}", *PARTS, *assignments)
    return build_network(4, (2,), 3, network, seed=seed)


def config(**changes: object) -> TrainConfig:
    settings = {"threads": 1, "precision": "fp32", "batch_size": 32, "epochs": 2, "patience": 10}
    return TrainConfig.model_validate(settings | changes)


def inputs(n_rows: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n_rows, 4, generator=torch.Generator().manual_seed(0)), torch.arange(n_rows)[:, None].int() % 2


def test_its_logits_are_the_mean_of_its_members() -> None:
    model = make(3, "neural.calibrate=true").eval()
    each = [member(*inputs()).logits for member in members_of(model)]
    assert not torch.allclose(each[0], each[1])
    assert isinstance(model, Ensemble)
    assert model.calibration is not None
    torch.testing.assert_close(model(*inputs()).logits, sum(each) / 3)
    model.calibration.scale.fill_(2.0)
    model.calibration.shift.fill_(0.5)
    torch.testing.assert_close(model(*inputs()).logits, 2 * sum(each) / 3 + 0.5)


def test_its_members_start_from_seeds_of_their_own() -> None:
    members = members_of(make(2, seed=5))
    for index, member in enumerate(members):
        alone = make(1, seed=5 + index * MEMBER_STRIDE)
        for ours, theirs in zip(member.parameters(), alone.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    firsts = [next(member.parameters()) for run in (5, 6, 7) for member in members_of(make(3, seed=run))]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(firsts, 2))
    assert make(3).parameter_counts() == {name: 3 * n for name, n in make(1).parameter_counts().items()}


def test_each_member_is_trained_as_if_it_were_alone() -> None:
    # Without dropout, which all members would draw from one stream.
    together = make(2)
    Trainer(together, TRAIN, VALID, config(weight_decay=0.1, schedule="cosine"), WEIGHTS, 0).run()
    for index, member in enumerate(members_of(together)):
        alone = make(1, seed=index * MEMBER_STRIDE)
        # As the ensemble's best epoch may be another, the last counts.
        trainer = Trainer(alone, TRAIN, VALID, config(weight_decay=0.1, schedule="cosine"), WEIGHTS, 0)
        curve = trainer.run().curve
        assert curve[-1]["best"], "another epoch than the last would be compared"
        for ours, theirs in zip(member.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop_before", [3, 8, 12], ids=["first epoch", "epoch's begin", "second epoch"])
def test_interrupted_and_resumed_it_has_the_same_bits(
    stop_before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(epochs=3, checkpoint_every_s=1e-9, weight_decay=0.1, schedule="cosine", stop_by="mrr")
    steps, step = [0], Trainer.step

    def train(checkpoints: Checkpoints | None = None) -> MultiTaskRanker | Ensemble:
        model = make(2, "neural.dropout=0.3", "neural.calibrate=true")
        Trainer(model, TRAIN, VALID, settings, WEIGHTS, 0, checkpoints=checkpoints, position_rate_factor=20.0).run()
        return model

    def counted(trainer: Trainer, batch: Batch) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == stop_before:
            raise StoppedError
        return step(trainer, batch)

    uninterrupted = train()
    monkeypatch.setattr(Trainer, "step", counted)
    with pytest.raises(StoppedError):
        train(Checkpoints(tmp_path, "owner", resume=False))
    torch.manual_seed(99)
    resumed = train(Checkpoints(tmp_path, "owner", resume=True)).state_dict()
    assert [name for name, ours in uninterrupted.state_dict().items() if not torch.equal(ours, resumed[name])] == []


@pytest.mark.parametrize("n", [1, 2])
def test_its_losses_are_those_of_the_mean_logits(n: int) -> None:
    model = make(n)
    for member in members_of(model):
        assert member.position_bias is not None
        torch.nn.init.normal_(member.position_bias.table)
    trainer = Trainer(model, TRAIN, VALID, config(), LossWeights((0.5, 0.3, 0.2)), 0)
    losses, _ = trainer.validate()
    numerical, categorical = torch.from_numpy(VALID.numerical), torch.from_numpy(VALID.categorical)
    each = []
    for member in members_of(model):
        assert member.position_bias is not None
        biases = member.position_bias(torch.from_numpy(VALID.position), categorical)
        each.append((member.eval()(numerical, categorical).logits + biases).detach().double().numpy())
    logits = np.mean(each, axis=0)
    expected = (np.logaddexp(0, logits) - (VALID.labels == 1) * logits).mean(axis=0)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5)
