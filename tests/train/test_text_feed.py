"""Batches get each text once, with little padding, and the loss and gradients of reading every row's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shelfrank.config import TrainConfig
from shelfrank.data.batch import Batch, ShuffledBatches, SplitRows
from shelfrank.data.prepared import Split
from shelfrank.nn.matching import Bucket, RowTexts, TrainedLayers
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.text.bert import CutEncoder, load_cut_encoder
from shelfrank.text.frozen import FrozenTexts
from shelfrank.train import trainer
from shelfrank.train.checkpoint import Checkpoints
from shelfrank.train.losses import LossWeights, task_losses
from shelfrank.train.text_feed import MAX_PADDING, TextFeed, cut_by_length
from shelfrank.train.trainer import Trainer
from tiny import random_split, tiny_network
from tiny_encoder import save_tiny_bert

WEIGHTS = LossWeights((0.5, 0.3, 0.2))
QUERIES = ["red sofa", "lamp", "blue desk 12", "red sofa"]
ROUNDED = {"atol": 2e-3, "rtol": 2e-3}
"""A text that is encoded beside others may round to another number of those kept."""

DOCUMENTS = ["acme red sofa", "bolt lamp", "small blue desk 12 cedar", "chair", "lamp", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert") / "tiny", dropout=0.0)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> CutEncoder:
    return load_cut_encoder(str(folder), 1)


@pytest.fixture(scope="module", params=[10.0, 0.0], ids=["cached", "recomputed"])
def feed(request: pytest.FixtureRequest, encoder: CutEncoder, tmp_path_factory: pytest.TempPathFactory) -> TextFeed:
    texts = [*QUERIES, *DOCUMENTS]
    frozen = FrozenTexts(encoder, texts, tmp_path_factory.mktemp("cache"), 16, request.param, "fp16")
    numbers = np.arange(len(texts), dtype=np.int32)
    return TextFeed(frozen, numbers[: len(QUERIES)], numbers[len(QUERIES) :], torch.device("cpu"))


def with_texts(n_rows: int) -> Split:
    split = random_split(n_rows, seed=3)
    rng = np.random.default_rng(0)
    split.query_idx[:] = np.repeat(rng.integers(0, len(QUERIES), -(-n_rows // 5)), 5)[:n_rows]
    split.product_idx[:] = rng.integers(0, len(DOCUMENTS), n_rows)
    return split


def naive(feed: TextFeed, split: Split) -> RowTexts:
    """Every row's two texts by themselves, none shared."""
    texts = np.concatenate([feed.query_text[split.query_idx], feed.product_text[split.product_idx]])
    buckets = [Bucket(*feed.frozen.hidden(np.array([text], dtype=np.int64))) for text in texts.tolist()]
    rows = torch.arange(split.n_rows)
    return RowTexts(buckets, rows, rows + split.n_rows)


@given(st.lists(st.integers(1, 40), max_size=60))
def test_runs_hold_every_text_once_and_little_padding(lengths: list[int]) -> None:
    ordered = np.sort(np.array(lengths, dtype=np.int32))
    runs = cut_by_length(ordered)
    assert [row for start, end in runs for row in range(start, end)] == list(range(len(lengths)))
    for start, end in runs:
        padded = (end - start) * int(ordered[end - 1])
        assert padded - int(ordered[start:end].sum()) <= MAX_PADDING * padded


def test_texts_of_one_length_are_one_run() -> None:
    assert cut_by_length(np.full(30, 7, np.int32)) == [(0, 30)]
    assert cut_by_length(np.array([2, 2, 2, 9, 10], np.int32)) == [(0, 3), (3, 5)]


def test_each_different_text_is_read_once_and_rows_find_theirs(feed: TextFeed, encoder: CutEncoder) -> None:
    split = with_texts(43)
    rows = feed.of_batch(SplitRows(split).gather(slice(0, 43)))
    used = {int(feed.query_text[q]) for q in split.query_idx} | {int(feed.product_text[p]) for p in split.product_idx}
    assert sum(len(bucket.hidden) for bucket in rows.texts) == len(used)

    trained = TrainedLayers(encoder.trained, encoder.d).eval()
    ours, theirs = trained(rows.texts), trained(naive(feed, split).texts)
    torch.testing.assert_close(ours[rows.query], theirs[:43], **ROUNDED)
    torch.testing.assert_close(ours[rows.product], theirs[43:], **ROUNDED)


def test_a_whole_splits_vectors_are_those_of_its_batches(feed: TextFeed, encoder: CutEncoder) -> None:
    split = with_texts(43)
    trained = TrainedLayers(encoder.trained, encoder.d).eval()
    of_split = feed.of_split(split, trained)
    for rows in (slice(0, 20), slice(20, 43), slice(0, 0)):
        batch = SplitRows(split).gather(rows)
        whole, own = of_split(batch), feed.of_batch(batch)
        vectors = trained(own.texts)
        torch.testing.assert_close(whole.texts[whole.query], vectors[own.query], **ROUNDED)
        torch.testing.assert_close(whole.texts[whole.product], vectors[own.product], **ROUNDED)


def test_texts_whose_layers_are_not_trained_are_read_once_and_leave_the_batches_as_they_are(
    feed: TextFeed, encoder: CutEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, valid = with_texts(160), with_texts(43)
    settings = TrainConfig(threads=1, precision="fp32", batch_size=32, epochs=2, patience=10)
    config = tiny_network("dcn_v2", "neural.text.matching=cross", "neural.text.trained_layers=0")
    seen: list[list[int]] = []
    step = Trainer.step

    def noted(training: Trainer, batch: Batch) -> torch.Tensor:
        seen.append(batch.product_idx.tolist())
        return step(training, batch)

    def learned() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = MultiTaskRanker(4, (2,), 3, config, trained_layers=TrainedLayers([], encoder.d))
        Trainer(model, train, valid, settings, WEIGHTS, 0, texts=feed).run()
        return model.state_dict()

    monkeypatch.setattr(Trainer, "step", noted)
    read = counted(monkeypatch)
    ours = learned()
    assert read == [len(QUERIES) + len(DOCUMENTS)]
    plain = ShuffledBatches(SplitRows(train), 32, 0)
    assert seen == [batch.product_idx.tolist() for epoch in range(2) for batch in plain.epoch(epoch)]

    monkeypatch.setattr(trainer, "FinishedTexts", lambda feed, *_: feed)
    theirs = learned()
    assert len(read) == 3  # the validation split's, after each epoch
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], **ROUNDED)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each reading of finished vectors has."""
    found: list[int] = []
    read = TextFeed.read

    def reading(self: TextFeed, texts: np.ndarray, trained: TrainedLayers) -> torch.Tensor:
        found.append(len(texts))
        return read(self, texts, trained)

    monkeypatch.setattr(TextFeed, "read", reading)
    return found


@pytest.mark.parametrize("matching", ["cross", "dot"])
def test_shared_texts_give_the_loss_and_gradients_of_reading_every_row(
    feed: TextFeed, folder: Path, matching: str
) -> None:
    exact = {"atol": 1e-5, "rtol": 1e-3} if feed.frozen.use.computed else {"atol": 1e-3, "rtol": 1e-2}
    split = with_texts(43)
    batch = SplitRows(split).gather(slice(0, 43))
    results = []
    for texts in (feed.of_batch(batch), naive(feed, split)):
        encoder = load_cut_encoder(str(folder), 1)
        torch.manual_seed(0)
        config = tiny_network("dcn_v2", f"neural.text.matching={matching}")
        model = MultiTaskRanker(4, (2,), 3, config, trained_layers=TrainedLayers(encoder.trained, encoder.d)).train()
        loss = task_losses(model(batch.numerical, batch.categorical, texts).logits, batch.labels).sum()
        loss.backward()
        results.append((loss, {name: p.grad for name, p in model.named_parameters()}))

    (loss, ours), (naive_loss, theirs) = results
    torch.testing.assert_close(loss, naive_loss, **exact)
    assert any(name.startswith("text.trained.layers.0") for name in ours)
    for name, gradient in ours.items():
        assert gradient is not None, name
        torch.testing.assert_close(gradient, theirs[name], **exact)


@pytest.mark.parametrize("stop_before", [2, 5, 6, 9], ids=["first epoch", "epoch's end", "epoch's begin", "second"])
def test_a_text_training_that_was_interrupted_and_resumed_has_the_same_bits(
    feed: TextFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_before: int
) -> None:
    # Dropout in the network and in the encoder's layer: the state of the random numbers must come back too.
    dropping = save_tiny_bert(tmp_path / "model", dropout=0.2)
    settings = TrainConfig(
        threads=1, precision="fp32", batch_size=32, epochs=2, patience=10, checkpoint_every_s=1e-9
    )  # five steps an epoch, a checkpoint after each
    config = tiny_network("dcn_v2", "neural.text.matching=cross", "neural.dropout=0.3")

    def train(resume: bool | None) -> MultiTaskRanker:
        encoder = load_cut_encoder(str(dropping), 1)
        torch.manual_seed(0)
        model = MultiTaskRanker(4, (2,), 3, config, trained_layers=TrainedLayers(encoder.trained, encoder.d))
        checkpoints = None if resume is None else Checkpoints(tmp_path / "checkpoints", "owner", resume)
        splits = (with_texts(160), with_texts(43))
        Trainer(model, *splits, settings, WEIGHTS, 0, checkpoints=checkpoints, texts=feed).run()
        return model

    whole = train(None)
    steps, step = [0], Trainer.step

    def counted(*args: object) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == stop_before:
            raise KeyboardInterrupt
        return step(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Trainer, "step", counted)
    with pytest.raises(KeyboardInterrupt):
        train(resume=False)
    torch.manual_seed(99)
    resumed = train(resume=True).state_dict()

    assert steps[0] == 11  # ten steps in all, and the one that was stopped
    assert [name for name, tensor in whole.state_dict().items() if not torch.equal(tensor, resumed[name])] == []
