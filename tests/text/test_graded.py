"""Graded pairs: what is kept and drawn, the loss against plain loops, learning, exact resume."""

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sentence_transformers", reason="the extra `text` is not installed")

from shelfrank.config.semantic import SemanticTrainConfig
from shelfrank.core.artifact import fingerprint
from shelfrank.core.errors import UserError
from shelfrank.text import contrastive, graded
from shelfrank.text.contrastive import checkpoint_owner, fine_tune
from shelfrank.text.encoder import load_encoder
from shelfrank.text.graded import DOCUMENTS, QUERIES, GradedPairs, graded_loss
from shelfrank.text.pairs import Pairs
from tiny_encoder import save_tiny_encoder

COLORS, NOUNS = ("red", "blue", "green", "small", "large"), ("sofa", "chair", "lamp", "desk", "shelf")
PAIRS = Pairs.unique([f"{n} {c}" for c in COLORS for n in NOUNS], [f"acme {c} {n}" for c in COLORS for n in NOUNS])
# The right noun with another colour is worth something, another noun nothing.
JUDGED = [
    (f"{noun} {color}", f"acme {other} {thing}", 2.0 * (noun == thing) + 1.0 * (color == other))
    for noun in NOUNS
    for color in COLORS
    for thing in NOUNS[:3]
    for other in COLORS[:3]
]
GRADED = GradedPairs.of(*map(list, zip(*JUDGED, strict=True)))  # pyright: ignore[reportArgumentType]
CONFIG = SemanticTrainConfig(
    model="unused",
    batch_size=6,
    epochs=2,
    learning_rate=1e-3,
    precision="fp32",
    checkpoint_every_s=0,
    graded_weight=1.0,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_encoder(tmp_path / "tiny")


def test_examples_of_the_docs() -> None:
    assert doctest.testmod(graded).failed == 0


def test_a_pair_has_its_mean_grade_and_a_query_of_one_grade_is_left_out() -> None:
    found = GradedPairs.of(
        ["sofa", "Sofa ", "sofa", "lamp", "lamp", "desk"], ["a", "A", "b", "a", "b", "a"], [1, 3, 3, 3, 3, 2]
    )
    assert found.queries == ("Sofa ",)
    assert [found.documents[at] for at in found.document_idx] == ["A", "b"]
    assert found.grades.tolist() == [0.5, 1.0]
    assert found.starts.tolist() == [0, 2]


@pytest.mark.parametrize("grades", [[], [2.0, 2.0]])
def test_nothing_is_left_where_all_grades_are_alike(grades: list[float]) -> None:
    assert len(GradedPairs.of(["sofa"] * len(grades), ["a", "b"][: len(grades)], grades)) == 0


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_what_is_drawn_has_two_grades_of_each_query(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries = [f"q{at}" for at in rng.integers(0, 30, 200)]
    documents = [f"d{at}" for at in rng.integers(0, 12, 200)]
    pairs = GradedPairs.of(queries, documents, rng.integers(0, 3, 200).astype(float).tolist())
    drawn, rows = pairs.draw(np.random.default_rng(seed))
    assert len(drawn) == len(set(drawn.tolist())) == min(QUERIES, len(pairs.queries))
    for query, own in zip(drawn.tolist(), rows, strict=True):
        assert pairs.starts[query] <= own.min() <= own.max() < pairs.starts[query + 1]
        assert len(own) == len(set(own.tolist())) == min(DOCUMENTS, pairs.starts[query + 1] - pairs.starts[query])
        assert len(set(pairs.grades[own].tolist())) > 1


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_loss_is_that_of_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cosines, grades, owner = rng.uniform(-1, 1, 12), rng.integers(0, 3, 12) / 2, np.sort(rng.integers(0, 4, 12))
    terms = [
        np.log1p(np.exp(-5 * (cosines[i] - cosines[j])))
        for i in range(12)
        for j in range(12)
        if owner[i] == owner[j] and grades[i] > grades[j]
    ]
    found = graded_loss(torch.from_numpy(cosines), torch.from_numpy(grades), torch.from_numpy(owner), 5.0)
    assert found.item() == pytest.approx(np.mean(terms) if terms else 0.0)


def test_a_better_document_is_pulled_and_a_worse_one_pushed() -> None:
    cosines = torch.tensor([0.1, 0.1, 0.1], requires_grad=True)
    graded_loss(cosines, torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0, 0, 1]), 10.0).backward()
    assert cosines.grad is not None
    assert cosines.grad[0] < 0 < cosines.grad[1]
    assert cosines.grad[2] == 0


def ordered(encoder: object) -> float:
    """The share of two documents of a query with different grades that an encoder puts in order."""
    vectors = [encoder.encode(list(texts)).embeddings for texts in (GRADED.queries, GRADED.documents)]  # type: ignore[attr-defined]
    right = total = 0
    for query in range(len(GRADED.queries)):
        own = slice(GRADED.starts[query], GRADED.starts[query + 1])
        scores = vectors[1][GRADED.document_idx[own]] @ vectors[0][query]
        better = GRADED.grades[own][:, None] > GRADED.grades[own][None, :]
        right += ((scores[:, None] > scores[None, :]) & better).sum()
        total += better.sum()
    return right / total


def test_grades_teach_an_order_that_pairs_do_not(folder: Path, tmp_path: Path) -> None:
    found = {}
    for weight in (0.0, 4.0):
        encoder = load_encoder(str(folder))
        settings = CONFIG.model_copy(update={"graded_weight": weight, "epochs": 30})
        fine_tune(encoder, PAIRS, settings, tmp_path / str(weight), GRADED if weight else None)
        found[weight] = ordered(encoder)
    assert found[4.0] > found[0.0] + 0.05


def test_killed_and_run_again_gives_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_encoder(str(folder))
    fine_tune(whole, PAIRS, CONFIG, tmp_path / "whole", GRADED)
    save, calls = contrastive.save_checkpoint, []

    def die_after_the_save(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(contrastive, "save_checkpoint", die_after_the_save)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(load_encoder(str(folder)), PAIRS, CONFIG, tmp_path / "killed", GRADED)
    again = load_encoder(str(folder))
    fine_tune(again, PAIRS, CONFIG, tmp_path / "killed", GRADED)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_other_grades_are_another_training_and_none_are_the_one_of_before(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    plain = CONFIG.model_copy(update={"graded_weight": 0.0})
    turned = GradedPairs.of(*map(list, zip(*((q, d, -g) for q, d, g in JUDGED), strict=True)))  # pyright: ignore[reportArgumentType]
    owners = {checkpoint_owner(encoder, PAIRS, CONFIG, each) for each in (GRADED, turned)}
    assert len(owners | {checkpoint_owner(encoder, PAIRS, plain)}) == 3
    assert "graded_weight" not in plain.of_weights


def test_without_grades_a_checkpoint_has_the_owner_of_earlier_versions(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    settings = {
        "document": ["title", "brand", "color", "age_group"],
        "split": None,
        "positive_grade": None,
        "epochs": 2,
        "batch_size": 6,
        "learning_rate": 1e-3,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "scale": 20.0,
        "symmetric": False,
        "precision": "fp32",
        "seed": 0,
    }
    texts = [*PAIRS.queries, "", *PAIRS.documents]
    numbers = [*PAIRS.query_idx.tolist(), *PAIRS.document_idx.tolist()]
    former = fingerprint({"model": encoder.fingerprint, "texts": texts, "pairs": numbers, "config": settings})
    assert checkpoint_owner(encoder, PAIRS, CONFIG.model_copy(update={"graded_weight": 0.0})) == former


def test_grades_without_a_weight_are_refused() -> None:
    from shelfrank.config import resolve

    with pytest.raises(UserError, match="graded_weight must be above 0 where grades are given"):
        resolve(SemanticTrainConfig, None, ["grades=prepared"])
