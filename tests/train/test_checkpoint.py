"""Checkpoints: what is saved comes back bit for bit, and a wrong one is refused in one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shelfrank.core.errors import UserError
from shelfrank.train.checkpoint import CURVE, FILE, Progress, is_foreign, load_checkpoint, save_checkpoint

PROGRESS = Progress(
    epoch=2,
    step=5,
    best_loss=0.1 + 0.2,
    best_epoch=1,
    worse_epochs=1,
    loss_sum=1 / 3,
    curve=[{"epoch": 1}],
    seconds=2.5,
)


def make(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    return model, torch.optim.Adam(model.parameters(), lr=0.1, fused=True)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.randn(8, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_everything_comes_back(tmp_path: Path) -> None:
    model, optimizer = make(1)
    step(model, optimizer)
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step(model, optimizer)
    save_checkpoint(tmp_path, "owner", model, best, optimizer, PROGRESS)
    step(model, optimizer)

    other, its_optimizer = make(2)
    loaded = load_checkpoint(tmp_path, "owner", other, its_optimizer)
    assert loaded is not None
    step(other, its_optimizer)

    # The step after the checkpoint draws the same numbers and moves the weights by the same moments.
    progress, best_again = loaded
    assert progress == PROGRESS
    assert best.keys() == best_again.keys()
    assert all(torch.equal(best[name], best_again[name]) for name in best)
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_later_checkpoint_replaces_the_earlier_one(tmp_path: Path) -> None:
    model, optimizer = make(1)
    for epoch in (1, 2):
        save_checkpoint(tmp_path, "owner", model, {}, optimizer, replace(PROGRESS, epoch=epoch))
    loaded = load_checkpoint(tmp_path, "owner", model, optimizer)
    assert loaded is not None
    assert loaded[0].epoch == 2
    assert loaded[1] == {}
    assert {file.name for file in tmp_path.iterdir()} == {FILE, CURVE}


def test_the_curve_so_far_lies_beside_it(tmp_path: Path) -> None:
    model, optimizer = make(1)
    for n in (0, 1, 2):
        curve = [{"epoch": epoch + 1, "valid_loss": 0.5} for epoch in range(n)]
        save_checkpoint(tmp_path, "owner", model, {}, optimizer, replace(PROGRESS, curve=curve))
        lines = (tmp_path / CURVE).read_text().splitlines()
        assert [json.loads(line) for line in lines] == curve


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "nothing", "owner", *make(1)) is None


def test_another_runs_checkpoint_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "owner", *_parts(make(1)), PROGRESS)
    model, optimizer = make(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match="must belong to the same data and config"):
        load_checkpoint(tmp_path, "another", model, optimizer)
    assert is_foreign(tmp_path, "another")
    assert not is_foreign(tmp_path, "owner")
    assert not is_foreign(tmp_path / "nothing", "owner")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("damage", ["empty", "cut off", "text", "foreign"])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, "owner", *_parts(make(1)), PROGRESS)
    file = tmp_path / FILE
    if damage == "foreign":
        save_file({"weight": torch.zeros(2)}, file)
    else:
        whole = file.read_bytes()
        file.write_bytes({"empty": b"", "cut off": whole[: len(whole) // 2], "text": b"nothing of ours"}[damage])
    with pytest.raises(UserError, match=r"must be a checkpoint|must belong to the same data"):
        load_checkpoint(tmp_path, "owner", *make(2))


def _parts(
    made: tuple[nn.Module, torch.optim.Optimizer],
) -> tuple[nn.Module, dict[str, torch.Tensor], torch.optim.Optimizer]:
    return made[0], {}, made[1]
