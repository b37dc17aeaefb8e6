"""Encoders cut in two give what the whole one gives, and what cannot be cut is told."""

import json
from pathlib import Path

import pytest
import torch

from shelfrank.core.errors import UserError
from shelfrank.nn.matching import Bucket, TrainedLayers
from shelfrank.text import encoder as encoder_module
from shelfrank.text.bert import load_cut_encoder, shape_of_cut
from tiny_encoder import save_tiny_bert

TEXTS = ["red sofa", "small green lamp 12 desk", "chair"]
TINYBERT = "huawei-noah/TinyBERT_General_6L_768D"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert") / "tiny", n_layers=3)


@pytest.mark.parametrize("n_trained", [0, 1, 2, 3])
def test_the_two_parts_give_what_the_whole_encoder_gives(folder: Path, n_trained: int) -> None:
    from transformers import AutoModel, AutoTokenizer

    whole = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    mask = tokens["attention_mask"].bool()
    expected = whole(**tokens).last_hidden_state.masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)

    cut = load_cut_encoder(str(folder), n_trained)
    ids, n_truncated = cut.tokenize(TEXTS, 64)
    found = TrainedLayers(cut.trained, cut.d).eval()([Bucket(*cut.hidden(ids))])

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert n_truncated == 0
    assert len(cut.trained) == n_trained


def test_a_text_is_read_alone_as_among_others(folder: Path) -> None:
    cut = load_cut_encoder(str(folder), 1)
    trained = TrainedLayers(cut.trained, cut.d).eval()
    ids, _ = cut.tokenize(TEXTS, 64)
    among = trained([Bucket(*cut.hidden(ids))])
    for row, text in enumerate(ids):
        torch.testing.assert_close(trained([Bucket(*cut.hidden([text]))])[0], among[row], atol=1e-5, rtol=1e-5)


def test_only_the_last_layers_can_be_trained(folder: Path) -> None:
    cut = load_cut_encoder(str(folder), 2)
    trained = TrainedLayers(cut.trained, cut.d).train()
    trained([Bucket(*(part.clone() for part in cut.hidden(cut.tokenize(TEXTS, 64)[0])))]).square().sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().max() > 0
        for name, p in trained.named_parameters()
        if "key.bias" not in name
    )
    assert not any(p.requires_grad or p.grad is not None for p in cut.frozen.parameters())
    assert not cut.frozen.training


def test_long_texts_are_cut_and_counted(folder: Path) -> None:
    cut = load_cut_encoder(str(folder), 1)
    ids, n_truncated = cut.tokenize(["red " * 30, "red"], 64)
    assert [len(text) for text in ids] == [16, 3]  # the encoder reads no more
    assert n_truncated == 1
    assert cut.tokenize(["red sofa chair lamp"], 4)[0] == [cut.tokenize(["red sofa"], 4)[0][0]]
    assert cut.tokenize([], 64) == ([], 0)


@pytest.mark.parametrize(("dropout", "expected"), [(None, 0.1), (0.0, 0.0), (0.3, 0.3)])
def test_dropout_of_the_trained_layers_is_the_encoders_unless_configured(
    folder: Path, dropout: float | None, expected: float
) -> None:
    trained = load_cut_encoder(str(folder), 1, dropout).trained
    assert {part.p for part in trained[0].modules() if isinstance(part, torch.nn.Dropout)} == {expected}


def test_too_many_trained_layers_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"at least trained_layers \(4\) encoder layers like BERT's, but it has 3"):
        load_cut_encoder(str(folder), 4)


def test_an_encoder_that_is_not_like_bert_is_refused(tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    folder = save_tiny_bert(tmp_path / "distil")
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()
    config = DistilBertConfig(vocab_size=40, dim=32, n_layers=1, n_heads=2, hidden_dim=64, max_position_embeddings=16)
    DistilBertModel(config).save_pretrained(folder)
    with pytest.raises(UserError, match=r"must (be a BERT-like encoder|have at least trained_layers)"):
        load_cut_encoder(str(folder), 1)


def test_the_older_format_and_settings_without_a_type_are_read(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    old = save_tiny_bert(tmp_path / "old", n_layers=3)
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    settings = json.loads((old / "config.json").read_text())
    del settings["model_type"]
    (old / "config.json").write_text(json.dumps(settings))

    ours, theirs = load_cut_encoder(str(old), 1), load_cut_encoder(str(folder), 1)

    ids, _ = theirs.tokenize(TEXTS, 64)
    assert torch.equal(ours.hidden(ids)[0], theirs.hidden(ids)[0])


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    folder = save_tiny_bert(tmp_path / "evil")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(UserError, match="loads without running code of its own"):
        load_cut_encoder(str(folder), 1)
    assert not (tmp_path / "ran").exists()


def test_a_hub_model_of_the_older_format_is_fetched_with_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def snapshot_download(model: str, allow_patterns: list[str], **_: object) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    encoder_module.find_model(TINYBERT)
    assert [encoder_module.PICKLED_WEIGHTS in patterns for patterns in asked] == [False, True]


def test_tinybert_has_the_papers_counts() -> None:
    frozen, trained, d = shape_of_cut(TINYBERT, 1)
    n_frozen = sum(parameter.numel() for parameter in frozen.parameters())
    n_trained = sum(parameter.numel() for layer in trained for parameter in layer.parameters())
    assert d == 768
    assert n_trained == 7_087_872
    # The paper's 59.87 million hold the pooler's 0.59, which nothing here reads.
    assert n_frozen + 768 * 768 + 768 == pytest.approx(59.87e6, rel=1e-3)
