"""The cache of hidden states: what is kept is found, what is not is computed, and both are the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shelfrank.core.errors import UserError
from shelfrank.text import frozen as frozen_module
from shelfrank.text.bert import CutEncoder, load_cut_encoder
from shelfrank.text.frozen import FrozenTexts
from tiny_encoder import save_tiny_bert

TEXTS = ["red sofa", "small green lamp 12 desk", "chair", "blue shelf 3", "red sofa", "oak"]
EVERY = np.arange(len(TEXTS))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> CutEncoder:
    return load_cut_encoder(str(save_tiny_bert(tmp_path_factory.mktemp("bert") / "tiny")), 1)


def open_cache(encoder: CutEncoder, cache: Path, texts: list[str] = TEXTS, **changes: object) -> FrozenTexts:
    settings = {"max_tokens": 16, "cache_mb": 10.0, "dtype": "fp16"} | changes
    return FrozenTexts(encoder, texts, cache, **settings)  # pyright: ignore[reportArgumentType]


def counts(opened: FrozenTexts) -> tuple[int, int, int]:
    return opened.use.found, opened.use.computed, opened.use.recomputed


@pytest.mark.parametrize(("dtype", "error"), [("fp16", 1e-3), ("bf16", 8e-3)])
def test_states_are_the_frozen_layers_output_to_the_precision_kept(
    encoder: CutEncoder, tmp_path: Path, dtype: str, error: float
) -> None:
    opened = open_cache(encoder, tmp_path, dtype=dtype)
    hidden, mask = opened.hidden(np.array([1, 0]))
    ids, _ = encoder.tokenize([TEXTS[1], TEXTS[0]], 16)
    expected, expected_mask = encoder.hidden(ids)
    assert torch.equal(mask, expected_mask)
    assert not hidden[~mask].any()
    torch.testing.assert_close(hidden[mask], expected[mask], rtol=error, atol=error)
    assert opened.lengths.tolist() == [len(text) for text in encoder.tokenize(TEXTS, 16)[0]]


def test_what_was_computed_is_found_by_the_next_run_and_by_another_log(encoder: CutEncoder, tmp_path: Path) -> None:
    first = open_cache(encoder, tmp_path)
    assert counts(first) == (0, 5, 0)  # one text is there twice
    again = open_cache(encoder, tmp_path)
    assert counts(again) == (5, 0, 0)
    assert torch.equal(again.hidden(EVERY)[0], first.hidden(EVERY)[0])
    other = open_cache(encoder, tmp_path, ["new lamp", "oak", "chair"])
    assert counts(other) == (2, 1, 0)
    assert torch.equal(other.hidden(np.array([2]))[0], first.hidden(np.array([2]))[0])


def test_another_cut_format_or_encoder_shares_nothing(encoder: CutEncoder, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    open_cache(encoder, cache)
    assert counts(open_cache(encoder, cache, dtype="bf16")) == (0, 5, 0)
    assert counts(open_cache(encoder, cache, max_tokens=4)) == (0, 5, 0)
    other = load_cut_encoder(str(save_tiny_bert(tmp_path / "other", seed=1)), 1)
    assert counts(open_cache(other, cache)) == (0, 5, 0)


def test_texts_without_room_are_computed_at_each_use_and_are_the_same(encoder: CutEncoder, tmp_path: Path) -> None:
    whole = open_cache(encoder, tmp_path / "whole")
    of_one = int(whole.lengths[1]) * encoder.d * 2 / 1e6
    uses = np.array([1, 9, 1, 1, 1, 1])
    small = open_cache(encoder, tmp_path / "small", cache_mb=of_one, priority=uses)
    none = open_cache(encoder, tmp_path / "none", cache_mb=0.0)
    assert counts(small) == (0, 1, 4)
    assert counts(none) == (0, 0, 5)
    for texts in (EVERY, np.array([4, 1]), np.array([1])):
        for opened in (small, none):
            torch.testing.assert_close(opened.hidden(texts)[0], whole.hidden(texts)[0], atol=2e-3, rtol=2e-3)
    written = sum(file.stat().st_size for file in (tmp_path / "small").rglob("states.npy"))
    assert written <= of_one * 1e6 + 200


def test_segments_of_no_use_make_room(encoder: CutEncoder, tmp_path: Path) -> None:
    room = open_cache(encoder, tmp_path, TEXTS[:3]).use.mb * 1.01
    others = ["green desk 4", "blue desk 5", "red lamp"]
    opened = open_cache(encoder, tmp_path, others, cache_mb=room)
    assert opened.use.computed >= 2
    assert counts(open_cache(encoder, tmp_path, TEXTS[:3], cache_mb=0.0)) == (0, 0, 3)


def test_a_damaged_segment_is_computed_anew_and_counted(encoder: CutEncoder, tmp_path: Path) -> None:
    before = open_cache(encoder, tmp_path).hidden(EVERY)[0]
    (states,) = tmp_path.rglob("states.npy")
    content = bytearray(states.read_bytes())
    content[-3] ^= 0xFF
    states.write_bytes(content)
    opened = open_cache(encoder, tmp_path)
    assert (opened.use.damaged, opened.use.computed) == (1, 5)
    assert torch.equal(opened.hidden(EVERY)[0], before)


def test_states_that_overflow_the_cache_format_are_refused(
    encoder: CutEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = CutEncoder.hidden

    def huge(self: CutEncoder, ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        states, mask = hidden(self, ids)
        return states * 1e6, mask

    monkeypatch.setattr(CutEncoder, "hidden", huge)
    with pytest.raises(UserError, match=r"set neural\.text\.cache_dtype to bf16"):
        open_cache(encoder, tmp_path)
    assert counts(open_cache(encoder, tmp_path, dtype="bf16")) == (0, 5, 0)


KILLED = """
import os, signal, sys
from pathlib import Path
from shelfrank.text import frozen
from shelfrank.text.bert import load_cut_encoder

frozen.SEGMENT_TOKENS = 4
publish, n = frozen.publish, 0

def stop(*args):
    global n
    n += 1
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return publish(*args)

frozen.publish = stop
texts = sys.argv[3:]
frozen.FrozenTexts(load_cut_encoder(sys.argv[1], 1), texts, Path(sys.argv[2]), 16, 10.0, "fp16")
"""


def test_a_killed_run_leaves_what_it_had_finished(
    encoder: CutEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLED, encoder.name, str(tmp_path / "cache"), *TEXTS]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    opened = open_cache(encoder, tmp_path / "cache")
    assert opened.use.found >= 2
    assert opened.use.found + opened.use.computed == 5
    whole = open_cache(encoder, tmp_path / "whole")
    torch.testing.assert_close(opened.hidden(EVERY)[0], whole.hidden(EVERY)[0], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("forward_tokens", [1, 12, 4096])
def test_states_hardly_depend_on_what_is_encoded_together(
    encoder: CutEncoder, tmp_path: Path, forward_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_cache(encoder, tmp_path / "whole")
    monkeypatch.setattr(frozen_module, "FORWARD_TOKENS", forward_tokens)
    opened = open_cache(encoder, tmp_path / "cut")
    torch.testing.assert_close(opened.hidden(EVERY)[0], whole.hidden(EVERY)[0], atol=2e-3, rtol=2e-3)
