"""A disk cache of the frozen layers' output, in memory-mapped files.

A cache folder belongs to one encoder, cut and number format. It holds segments: folders, written atomically, each with
the concatenated hidden states of some texts. The key of a text is its hash, so runs on other logs can share the cache.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64, Shaped
from torch import Tensor

from shelfrank.core.artifact import fingerprint, publish, read_manifest, verify_files
from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress
from shelfrank.text.bert import CutEncoder

KIND = "text_states"
SEGMENT_TOKENS = 65_536
"""Approximate tokens of a segment, the most that a killed run loses."""
FORWARD_TOKENS = 4096
"""Tokens per forward pass, padding included; bounds the memory."""
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_BYTES = 2


@dataclass(frozen=True)
class CacheUse:
    """Statistics of opening the cache.

    Attributes:
        found: Texts that were in the cache.
        computed: Texts that were computed and stored.
        recomputed: Texts that do not fit and are computed at each use.
        damaged: Damaged segments, which were removed.
        truncated: Truncated texts.
        mb: Megabytes of the stored texts.
    """

    found: int
    computed: int
    recomputed: int
    damaged: int
    truncated: int
    mb: float


class FrozenTexts:
    """Hidden states of texts before the trained layers, from the cache.

    Args:
        encoder: The encoder.
        texts: The texts, which methods address by index.
        cache: Folder of the cache, which several runs may share.
        max_tokens: Maximum tokens of a text.
        cache_mb: Maximum megabytes of the cache.
        dtype: Number format of stored states.
        priority: How often each text is used; the most used are stored if not all fit.

    Attributes:
        lengths: Tokens of each text.
        use: Statistics of opening the cache.

    Raises:
        UserError: Where a hidden state overflows the number format.
    """

    def __init__(
        self,
        encoder: CutEncoder,
        texts: Sequence[str],
        cache: Path,
        max_tokens: int,
        cache_mb: float,
        dtype: Literal["fp16", "bf16"],
        priority: Int64[np.ndarray, " texts"] | None = None,
    ) -> None:
        self.encoder, self.dtype = encoder, DTYPES[dtype]
        self.ids, truncated = encoder.tokenize(texts, max_tokens)
        self.lengths = np.array([len(ids) for ids in self.ids], dtype=np.int32)
        hashes: list[str] = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]
        key = {"model": encoder.fingerprint, "trained": len(encoder.trained), "tokens": max_tokens, "dtype": dtype}
        self._folder = cache / fingerprint(key)[:16]
        self._segments: list[np.ndarray] = []
        self._segment = np.full(len(texts), -1, np.int32)
        self._start = np.zeros(len(texts), np.int64)
        number = {digest: index for index, digest in enumerate(hashes)}
        found, damaged, used, unused = self._open_segments(number)
        missing = np.array([index for index in set(number.values()) if self._segment[index] < 0], dtype=np.int64)
        n_needed = int(self.lengths[missing].sum()) * encoder.d * _BYTES
        for folder, size in unused:
            if used + n_needed > cache_mb * 1e6:
                shutil.rmtree(folder, ignore_errors=True)
                used -= size
        free = cache_mb * 1e6 - used
        rank = missing if priority is None else -priority[missing]
        kept = missing[np.lexsort((missing, rank))]
        kept = kept[np.cumsum(self.lengths[kept].astype(np.int64)) * encoder.d * _BYTES <= free]
        self._compute(kept, hashes)
        # Equal texts share one entry.
        same = np.array([number[digest] for digest in hashes], dtype=np.int64)
        self._segment, self._start = self._segment[same], self._start[same]
        stored = int(self.lengths[np.unique(same[self._segment >= 0])].sum()) * encoder.d * _BYTES
        self.use = CacheUse(found, len(kept), len(missing) - len(kept), damaged, truncated, stored / 1e6)

    def hidden(
        self, texts: Int64[np.ndarray, " texts"]
    ) -> tuple[Float[Tensor, "texts tokens d"], Bool[Tensor, "texts tokens"]]:
        """States of texts in float32, padded with zeros to the longest, and a mask of the real tokens."""
        lengths = self.lengths[texts]
        longest = int(lengths.max())
        mask = torch.from_numpy(np.arange(longest) < lengths[:, None])
        hidden = torch.zeros(len(texts), longest, self.encoder.d)
        for segment in np.unique(self._segment[texts]).tolist():
            rows = np.flatnonzero(self._segment[texts] == segment)
            inside = mask[rows]
            if segment < 0:
                # Rounded like stored states, so that a text always gives the same values.
                values = self._encode(texts[rows])
            else:
                token = self._start[texts[rows], None] + np.arange(longest)
                values = torch.from_numpy(self._segments[segment][token[inside.numpy()]]).view(self.dtype)
            place = torch.zeros_like(mask)
            place[rows] = inside
            hidden[place] = values.float()
        return hidden, mask

    def _open_segments(self, number: dict[str, int]) -> tuple[int, int, int, list[tuple[Path, int]]]:
        """Finds stored texts and removes damaged segments.

        Args:
            number: By hash, the index of its text.

        Returns:
            Texts found, damaged segments, bytes in use, and the segments without any of the texts, oldest first, with
            their bytes.
        """
        found = damaged = 0
        used, unused = 0, []
        folders = sorted(self._folder.glob("segment-*"), key=lambda folder: folder.stat().st_mtime)
        for folder in folders:
            try:
                verify_files(folder, read_manifest(folder, KIND))
            except UserError:
                damaged += 1
                shutil.rmtree(folder, ignore_errors=True)
                continue
            hashes = (folder / "texts.txt").read_text(encoding="ascii").split()
            lengths = np.load(folder / "lengths.npy")
            starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[:-1]
            size = int(lengths.sum()) * self.encoder.d * _BYTES
            used += size
            hits = 0
            for digest, start in zip(hashes, starts.tolist(), strict=True):
                index = number.get(digest, -1)
                if index >= 0 and self._segment[index] < 0:
                    self._segment[index], self._start[index] = len(self._segments), start
                    hits += 1
            if hits:
                self._segments.append(np.load(folder / "states.npy", mmap_mode="r"))
                found += hits
            else:
                unused.append((folder, size))
        return found, damaged, used, unused

    def _compute(self, kept: Int64[np.ndarray, " kept"], hashes: list[str]) -> None:
        # Sorted by length to limit padding; longest first, so that too little memory fails at once.
        order = kept[np.argsort(-self.lengths[kept], kind="stable")]
        ends = np.cumsum(self.lengths[order].astype(np.int64))
        with progress("Encoding texts (frozen layers)", total=len(order), unit="texts") as advance:
            for part in np.split(order, np.flatnonzero(np.diff(ends // SEGMENT_TOKENS)) + 1):
                if len(part):
                    self._write_segment(part, [hashes[index] for index in part.tolist()])
                    advance(len(part))

    def _write_segment(self, texts: Int64[np.ndarray, " texts"], hashes: list[str]) -> None:
        # The name includes the process, so that concurrent runs do not wait for each other.
        folder = self._folder / f"segment-{fingerprint(list(hashes))[:16]}-{os.getpid()}"
        with publish(folder, KIND, {"texts": len(texts)}) as draft:
            np.save(draft.path / "states.npy", self._encode(texts).view(torch.int16).numpy())
            np.save(draft.path / "lengths.npy", self.lengths[texts])
            (draft.path / "texts.txt").write_text("\n".join(hashes), encoding="ascii")
        self._segment[texts] = len(self._segments)
        self._start[texts] = np.concatenate([[0], np.cumsum(self.lengths[texts], dtype=np.int64)])[:-1]
        self._segments.append(np.load(folder / "states.npy", mmap_mode="r"))

    def _encode(self, texts: Int64[np.ndarray, " texts"]) -> Shaped[Tensor, "tokens d"]:
        """Concatenated states of the texts' tokens."""
        pieces = []
        for start, end in _cut(self.lengths[texts]):
            hidden, mask = self.encoder.hidden([self.ids[index] for index in texts[start:end].tolist()])
            pieces.append(hidden[mask].to(self.dtype).cpu())
            if not torch.isfinite(pieces[-1]).all():
                raise UserError(
                    f"hidden states of {self.encoder.name!r} must fit the number format of the cache, but some do not; "
                    "set neural.text.cache_dtype to bf16"
                )
        return torch.cat(pieces)


def _cut(lengths: Int32[np.ndarray, " texts"]) -> Iterator[tuple[int, int]]:
    """Yields the ranges of texts for each forward pass."""
    start = longest = 0
    for index, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if index > start and longest * (index + 1 - start) > FORWARD_TOKENS:
            yield start, index
            start, longest = index, length
    if len(lengths):
        yield start, len(lengths)
