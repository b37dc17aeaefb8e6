"""Fine-tuning: the loss against its formula and its reference, masks, learning, exact resume."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sentence_transformers", reason="the extra `text` is not installed")

from shelfrank.config.semantic import SemanticTrainConfig
from shelfrank.core.errors import UserError
from shelfrank.core.training_state import FILE
from shelfrank.text import contrastive
from shelfrank.text.contrastive import contrastive_loss, fine_tune
from shelfrank.text.encoder import load_encoder
from shelfrank.text.pairs import Pairs
from tiny_encoder import save_tiny_encoder

COLORS, NOUNS = ("red", "blue", "green", "small", "large"), ("sofa", "chair", "lamp", "desk", "shelf")
PAIRS = Pairs.unique(
    [f"{noun} {color}" for color in COLORS for noun in NOUNS],
    [f"acme {i % 10} {color} {noun}" for i, (color, noun) in enumerate((c, n) for c in COLORS for n in NOUNS)],
)
CONFIG = SemanticTrainConfig(
    model="unused", batch_size=6, epochs=2, learning_rate=1e-3, precision="fp32", checkpoint_every_s=0
)


def unit_rows(n: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_encoder(tmp_path / "tiny")


@pytest.mark.parametrize("symmetric", [False, True])
def test_without_false_negatives_it_is_the_reference_loss(symmetric: bool) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    queries, documents = unit_rows(7, 0), unit_rows(7, 1)
    directions = ("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",)
    reference = MultipleNegativesRankingLoss(
        torch.nn.Identity(),  # type: ignore[arg-type]
        scale=20.0,
        directions=directions,
        partition_mode="per_direction",
    )
    expected = reference.compute_loss_from_embeddings([queries, documents], torch.empty(0))
    ours = contrastive_loss(queries, documents, torch.eye(7, dtype=torch.bool), 20.0, symmetric)
    torch.testing.assert_close(ours, expected)


def test_the_masked_loss_is_the_plain_loop() -> None:
    queries, documents = unit_rows(5, 2), unit_rows(5, 3)
    known = torch.eye(5, dtype=torch.bool)
    known[0, 3] = known[2, 1] = known[1, 2] = True
    terms, turned = [], []
    cosines = (queries @ documents.T).double().numpy()
    for i in range(5):
        rivals = [j for j in range(5) if j == i or not known[i, j]]
        terms.append(-np.log(np.exp(10 * cosines[i, i]) / sum(np.exp(10 * cosines[i, j]) for j in rivals)))
        rivals = [j for j in range(5) if j == i or not known[j, i]]
        turned.append(-np.log(np.exp(10 * cosines[i, i]) / sum(np.exp(10 * cosines[j, i]) for j in rivals)))
    assert contrastive_loss(queries, documents, known, 10.0).item() == pytest.approx(np.mean(terms), rel=1e-5)
    both = contrastive_loss(queries, documents, known, 10.0, symmetric=True).item()
    assert both == pytest.approx((np.mean(terms) + np.mean(turned)) / 2, rel=1e-5)


def test_a_masked_column_gets_no_gradient() -> None:
    queries, documents = unit_rows(2, 4), unit_rows(2, 5).requires_grad_()
    known = torch.tensor([[True, True], [True, True]])
    loss = contrastive_loss(queries, documents, known, 20.0)
    loss.backward()
    assert loss.item() == 0
    assert documents.grad is not None
    assert not documents.grad.any()


def test_queries_move_towards_their_products(folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(folder))
    tuned = fine_tune(encoder, PAIRS, CONFIG.model_copy(update={"epochs": 10}), tmp_path / "checkpoint")
    assert tuned.losses[-1] < 0.6 * tuned.losses[0]
    assert tuned.steps == 10 * (25 // 6)
    encoder.model.save(str(tmp_path / "out"), create_model_card=False)
    queries, documents = (
        load_encoder(str(tmp_path / "out")).encode(t).embeddings for t in (PAIRS.queries, PAIRS.documents)
    )
    expected = [encoder.encode(texts).embeddings for texts in (PAIRS.queries, PAIRS.documents)]
    np.testing.assert_array_equal(queries, expected[0])
    np.testing.assert_array_equal(documents, expected[1])


@pytest.mark.parametrize("moment", ["before_the_save", "after_the_save"])
@pytest.mark.parametrize("killed_at", [2, 4, 6], ids=["first_epoch", "between_epochs", "second_epoch"])
def test_killed_and_run_again_gives_the_same_weights(
    killed_at: int, moment: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_encoder(str(folder))
    expected = fine_tune(whole, PAIRS, CONFIG, tmp_path / "whole")
    save, calls = contrastive.save_checkpoint, []

    def die_around_the_save(*args: object) -> None:
        calls.append(1)
        if len(calls) == killed_at and moment == "before_the_save":
            raise KeyboardInterrupt
        save(*args)  # type: ignore[arg-type]
        if len(calls) == killed_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(contrastive, "save_checkpoint", die_around_the_save)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(load_encoder(str(folder)), PAIRS, CONFIG, tmp_path / "killed")
    again = load_encoder(str(folder))
    resumed = fine_tune(again, PAIRS, CONFIG, tmp_path / "killed")
    assert len(calls) == expected.steps + (moment == "before_the_save")
    assert resumed.losses == expected.losses
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_training_masks_what_the_pairs_know(folder: Path, tmp_path: Path) -> None:
    # One product chosen for every query: no column is a negative, so there is nothing to lose.
    pairs = Pairs.unique([f"chair {i}" for i in range(6)], ["acme chair"] * 6)
    tuned = fine_tune(load_encoder(str(folder)), pairs, CONFIG, tmp_path)
    assert tuned.losses == (0.0, 0.0)
    assert tuned.masked == 5


def test_the_seed_decides(folder: Path, tmp_path: Path) -> None:
    losses = [
        fine_tune(load_encoder(str(folder)), PAIRS, CONFIG.model_copy(update={"seed": seed}), tmp_path / name).losses
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_another_trainings_checkpoint_is_passed_over(folder: Path, tmp_path: Path) -> None:
    fine_tune(load_encoder(str(folder)), PAIRS, CONFIG, tmp_path)
    other = CONFIG.model_copy(update={"learning_rate": 2e-3})
    afresh = fine_tune(load_encoder(str(folder)), PAIRS, other, tmp_path / "elsewhere")
    assert fine_tune(load_encoder(str(folder)), PAIRS, other, tmp_path).losses == afresh.losses


def test_a_broken_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"half")
    with pytest.raises(UserError, match="delete it to start afresh"):
        fine_tune(load_encoder(str(folder)), PAIRS, CONFIG, tmp_path)


def test_one_pair_has_no_negatives(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 2 different pairs, but there are 1"):
        fine_tune(load_encoder(str(folder)), Pairs.unique(["a"], ["b"]), CONFIG, tmp_path)
