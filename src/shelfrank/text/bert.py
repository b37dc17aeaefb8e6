"""BERT-like encoders split into frozen layers and the last layers, which a ranker trains."""

import contextlib
import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from shelfrank.core.errors import UserError
from shelfrank.text.encoder import PICKLED_WEIGHTS, find_model, model_fingerprint, require

DEFAULT_TYPE = "bert"
"""Model type of settings without one, as in some older models."""


KNOWN_SHAPES = {
    "huawei-noah/TinyBERT_General_6L_768D": {
        "num_hidden_layers": 6,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 30522,
    }
}
"""Settings of the paper's text model, to describe and imitate it without a hub."""


@dataclass(frozen=True)
class CutEncoder:
    """A BERT-like encoder without its pooler, cut before the layers that are trained (Paper: Sec. 3.3).

    Attributes:
        name: The requested name.
        fingerprint: sha256 over the contents of the model's files.
        tokenizer: Its tokenizer, of the transformers library.
        frozen: Embeddings and all layers before the cut, in eval mode and without gradients.
        trained: The layers after it, which take hidden states and an additive mask.
        d: Width of a token's vector.
        max_tokens: Maximum tokens of a text.
    """

    name: str
    fingerprint: str
    tokenizer: Any
    frozen: nn.Module
    trained: tuple[nn.Module, ...]
    d: int
    max_tokens: int

    @property
    def n_frozen(self) -> int:
        """Number of frozen parameters."""
        return sum(parameter.numel() for parameter in self.frozen.parameters())

    def tokenize(self, texts: Sequence[str], max_tokens: int) -> tuple[list[list[int]], int]:
        """Token ids of each text, special tokens included, and the number of truncated texts."""
        if not texts:
            return [], 0
        whole = self.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        limit = min(max_tokens, self.max_tokens)
        cut = self.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        return cut, sum(len(ids) > limit for ids in whole)

    @torch.no_grad()
    def hidden(
        self, ids: Sequence[Sequence[int]]
    ) -> tuple[Float[Tensor, "texts tokens d"], Bool[Tensor, "texts tokens"]]:
        """Runs the frozen layers on texts, padded to the longest; the mask is True for real tokens.

        In float32, so that a text's vectors hardly depend on the other texts of the batch.
        """
        longest = max(len(text) for text in ids)
        device = next(self.frozen.parameters()).device
        tokens = torch.full((len(ids), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros(len(ids), longest, dtype=torch.bool)
        for row, text in enumerate(ids):
            tokens[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = True
        output = self.frozen(input_ids=tokens.to(device), attention_mask=mask.long().to(device))
        return output.last_hidden_state, mask.to(device)


def load_cut_encoder(model: str, trained_layers: int, dropout: float | None = None) -> CutEncoder:
    """Loads an encoder and splits it.

    Args:
        model: `packaged`, a local folder, or the name of a model on the hub.
        trained_layers: Number of layers after the cut.
        dropout: Share of their units dropped in training; None keeps the encoder's own.

    Returns:
        The encoder.

    Raises:
        UserError: Where a library is missing, or the model is not available, is not BERT-like or has too few layers.
    """
    require("transformers", "text")
    folder = find_model(model)
    return cut_encoder(model, folder, trained_layers, dropout)


def cut_encoder(model: str, folder: Path, trained_layers: int, dropout: float | None) -> CutEncoder:
    """Splits an encoder from a folder of model files; see `load_cut_encoder`."""
    from transformers import AutoModel, AutoTokenizer

    try:
        with _quiet_library():
            config = read_config(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
            whole = AutoModel.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                # PyTorch reads the older format without executing code in it.
                use_safetensors=not (folder / PICKLED_WEIGHTS).is_file() or None,
                add_pooling_layer=False,
                attn_implementation="eager",
            )
    except (OSError, ValueError, KeyError, ImportError, TypeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"model {model!r} must be a BERT-like encoder that loads without running code of its own, but {folder} "
            f"does not load: {' '.join(str(error).split())[:200]}; choose another model"
        ) from error
    frozen, trained = _cut(model, whole, trained_layers)
    frozen.float().eval().requires_grad_(False)
    for layer in trained:
        layer.float().requires_grad_(True)
        if dropout is not None:
            for part in layer.modules():
                if isinstance(part, nn.Dropout):
                    part.p = dropout
    max_tokens = int(min(config.max_position_embeddings, tokenizer.model_max_length))
    return CutEncoder(model, model_fingerprint(folder), tokenizer, frozen, trained, int(config.hidden_size), max_tokens)


def shape_of_cut(model: str, trained_layers: int) -> tuple[nn.Module, tuple[nn.Module, ...], int]:
    """Builds an encoder without weights, to inspect its shape.

    Args:
        model: As for `load_cut_encoder`.
        trained_layers: Layers after the cut.

    Returns:
        The frozen part, the trained layers, and the width of a token's vector.

    Raises:
        UserError: Where the model's shape is neither built in nor available.
    """
    require("transformers", "text")
    from transformers import AutoConfig, AutoModel

    if model in KNOWN_SHAPES:
        config = AutoConfig.for_model(DEFAULT_TYPE, **KNOWN_SHAPES[model])
    else:
        config = read_config(find_model(model))
    with torch.device("meta"):
        whole = AutoModel.from_config(config, add_pooling_layer=False)
    return *_cut(model, whole, trained_layers), int(config.hidden_size)


def _cut(model: str, whole: nn.Module, trained_layers: int) -> tuple[nn.Module, tuple[nn.Module, ...]]:
    encoder = getattr(whole, "encoder", None)
    layers = getattr(encoder, "layer", None)
    if encoder is None or not isinstance(layers, nn.ModuleList) or trained_layers > len(layers):
        found = str(len(layers)) if isinstance(layers, nn.ModuleList) else "none"
        raise UserError(
            f"model {model!r} must have at least trained_layers ({trained_layers}) encoder layers like BERT's, but it "
            f"has {found}; lower trained_layers or choose another model"
        )
    cut = len(layers) - trained_layers
    encoder.layer = layers[:cut]
    return whole, tuple(layers[cut:])


def read_config(folder: Path) -> Any:
    """Reads a model's settings; one without a model type is a BERT.

    Args:
        folder: The model's files.

    Returns:
        The settings, of the transformers library.

    Raises:
        OSError: Where there are none.
        ValueError: Where they cannot be read, or the model type is unknown.
    """
    from transformers import AutoConfig

    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return AutoConfig.for_model(settings.pop("model_type", DEFAULT_TYPE), **settings)


@contextlib.contextmanager
def _quiet_library() -> Iterator[None]:
    """Silences the library's warning about unused weights: the pooler's, always."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    # The library's progress bar over tensors would garble JSON lines.
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
