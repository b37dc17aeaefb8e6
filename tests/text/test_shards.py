"""Sharded embedding: killed and run again gives the same bytes; changed bytes are seen."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `text` is not installed")

from shelfrank.text import shards
from shelfrank.text.encoder import TextEncoder, load_encoder
from shelfrank.text.shards import embed_texts, read_shard, write_shard
from tiny_encoder import save_tiny_encoder

TEXTS = [f"chair {i}" for i in range(10)] + ["lamp " * 30]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return load_encoder(str(save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_TEXTS", 4)


def test_rows_are_the_encoders_in_float16(encoder: TextEncoder, tmp_path: Path) -> None:
    embedded = embed_texts(encoder, TEXTS, tmp_path / "out.npy", tmp_path / "cache", "Embedding")
    rows = np.load(tmp_path / "out.npy")
    assert rows.dtype == np.float16
    np.testing.assert_allclose(rows, encoder.encode(TEXTS).embeddings, atol=1e-3)
    assert (embedded.computed, embedded.truncated, len(embedded.shards)) == (11, 1, 3)


def test_killed_and_run_again_goes_on_and_gives_the_same_bytes(
    encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_texts(encoder, TEXTS, tmp_path / "whole.npy", tmp_path / "whole", "Embedding")
    with monkeypatch.context() as patched:

        def write_then_die(*args: object) -> None:
            write_shard(*args)  # type: ignore[arg-type]
            raise KeyboardInterrupt

        patched.setattr(shards, "write_shard", write_then_die)
        with pytest.raises(KeyboardInterrupt):
            embed_texts(encoder, TEXTS, tmp_path / "out.npy", tmp_path / "cache", "Embedding")
    embedded = embed_texts(encoder, TEXTS, tmp_path / "out.npy", tmp_path / "cache", "Embedding")
    assert embedded.computed == 7
    assert embedded.truncated == 1
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_shard_is_computed_again(encoder: TextEncoder, tmp_path: Path, damage: str) -> None:
    first = embed_texts(encoder, TEXTS, tmp_path / "first.npy", tmp_path / "cache", "Embedding")
    content = bytearray(first.shards[1].read_bytes())
    content[-3] ^= 1
    first.shards[1].write_bytes({"cut": content[:-5], "flipped": content, "empty": b""}[damage])
    second = embed_texts(encoder, TEXTS, tmp_path / "second.npy", tmp_path / "cache", "Embedding")
    assert (second.damaged_shards, second.computed) == (1, 4)
    assert (tmp_path / "first.npy").read_bytes() == (tmp_path / "second.npy").read_bytes()


def test_another_model_or_precision_finds_no_shards(encoder: TextEncoder, tmp_path: Path) -> None:
    other = load_encoder(str(save_tiny_encoder(tmp_path / "other", seed=1)))
    runs = [(encoder, False), (other, False), (encoder, True), (encoder, False)]
    computed = [embed_texts(e, TEXTS, tmp_path / "o.npy", tmp_path / "c", "E", bf16).computed for e, bf16 in runs]
    assert computed == [11, 11, 11, 0]


def test_no_texts_are_no_rows(encoder: TextEncoder, tmp_path: Path) -> None:
    assert embed_texts(encoder, [], tmp_path / "out.npy", tmp_path / "cache", "Embedding").computed == 0
    assert np.load(tmp_path / "out.npy").shape == (0, 32)


def test_a_shard_of_another_shape_is_not_taken(tmp_path: Path) -> None:
    write_shard(tmp_path / "s", np.ones((2, 3), dtype=np.float16), np.zeros(2, dtype=bool))
    assert read_shard(tmp_path / "s", (2, 3)) is not None
    assert read_shard(tmp_path / "s", (2, 4)) is None
