"""What holds for every bottom with every head and every text matching."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from plain_loops import random_columns
from shelfrank.nn.bottoms import BOTTOMS
from shelfrank.nn.heads import HEADS
from shelfrank.nn.matching import MATCHINGS, Bucket, RowTexts, TrainedLayers
from shelfrank.nn.model import MultiTaskRanker
from tiny import tiny_network

N_NUMERICAL, SIZES, N_TASKS, N_TEXTS, D_TEXT = 4, (5, 3, 2), 3, 6, 5
Row = tuple[torch.Tensor, torch.Tensor, RowTexts | None]
every_network = pytest.mark.parametrize(
    ("bottom", "head", "matching"),
    list(itertools.product(BOTTOMS, HEADS, ["none", *MATCHINGS, "dot of normalised vectors"])),
)


class Layer(nn.Module):
    """A layer of a text encoder, small and smooth."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D_TEXT, D_TEXT)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return hidden + torch.tanh(self.linear(hidden))


def make(bottom: str, head: str, matching: str, seed: int = 5) -> MultiTaskRanker:
    torch.manual_seed(seed)
    kind, *normalised = matching.split()
    text = [f"neural.text.matching={kind}", f"neural.text.normalise_vectors={'true' if normalised else 'false'}"]
    config = tiny_network(bottom, f"neural.head={head}", *text)
    trained = None if matching == "none" else TrainedLayers([Layer()], D_TEXT)
    return MultiTaskRanker(N_NUMERICAL, SIZES, N_TASKS, config, trained_layers=trained)


def rows(n_rows: int, matching: str, seed: int = 0) -> Row:
    numerical, categorical = random_columns(n_rows, N_NUMERICAL, SIZES, seed)
    if matching == "none":
        return numerical, categorical, None
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N_TEXTS, 3, D_TEXT, generator=torch.Generator().manual_seed(7))
    query, product = (torch.randint(N_TEXTS, (n_rows,), generator=generator) for _ in range(2))
    return numerical, categorical, RowTexts([Bucket(hidden[:2], None), Bucket(hidden[2:], None)], query, product)


def warmed(model: MultiTaskRanker, matching: str) -> MultiTaskRanker:
    """Gives batch normalisation running statistics that are not its initial ones."""
    with torch.no_grad():
        model.train()(*rows(64, matching, seed=9))
    return model.eval()


def part(some: Row, chosen: slice) -> Row:
    numerical, categorical, texts = some
    if texts is not None:
        texts = RowTexts(texts.texts, texts.query[chosen], texts.product[chosen])
    return numerical[chosen], categorical[chosen], texts


@every_network
@pytest.mark.parametrize("n_rows", [0, 1, 17])
def test_one_finite_logit_per_row_and_task(bottom: str, head: str, matching: str, n_rows: int) -> None:
    logits = warmed(make(bottom, head, matching), matching)(*rows(n_rows, matching)).logits
    assert logits.shape == (n_rows, N_TASKS)
    assert torch.isfinite(logits).all()


@every_network
def test_a_row_is_not_moved_by_its_neighbours(bottom: str, head: str, matching: str) -> None:
    model, some = warmed(make(bottom, head, matching), matching), rows(17, matching)
    whole = model(*some).logits
    torch.testing.assert_close(model(*part(some, slice(6, 7))).logits[0], whole[6], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model(*part(some, slice(5, 12))).logits, whole[5:12], atol=1e-6, rtol=1e-5)
    assert (whole[6] != whole[7]).any()


@every_network
def test_a_gradient_reaches_every_trained_parameter_and_no_frozen_one(bottom: str, head: str, matching: str) -> None:
    # In eval mode, since in training mode batch normalisation takes every bias before it out again.
    model = warmed(make(bottom, head, matching), matching)
    frozen = nn.Parameter(torch.randn(N_TEXTS, 3, D_TEXT), requires_grad=False)
    numerical, categorical, texts = rows(64, matching)
    if texts is not None:
        texts = RowTexts([Bucket(frozen, None)], texts.query, texts.product)
    model(numerical, categorical, texts).logits.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []
    assert frozen.grad is None


@every_network
def test_seed_and_saved_weights_decide_every_bit(bottom: str, head: str, matching: str, tmp_path: Path) -> None:
    one, same, other = (make(bottom, head, matching, seed) for seed in (5, 5, 6))
    some = rows(9, matching)
    logits = one.eval()(*some).logits
    assert torch.equal(same.eval()(*some).logits, logits)
    assert not torch.equal(other.eval()(*some).logits, logits)
    save_file(one.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(*some).logits, logits)
    assert sum(one.parameter_counts().values()) == sum(p.numel() for p in one.parameters())
