"""The frozen layers' output of many texts, computed once and kept in memory-mapped files.

A cache folder belongs to one encoder, cut and number format. It holds segments: folders that are complete or absent,
each with the hidden states of some texts, one after the other. A text is known by its hash, so that another log's run
finds what this one computed.
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
"""Tokens of a segment, about: what a killed run loses at most."""
FORWARD_TOKENS = 4096
"""Tokens, padding included, that are encoded at a time; bounds the memory."""
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_BYTES = 2


@dataclass(frozen=True)
class CacheUse:
    """What opening the cache took.

    Attributes:
        found: Texts that were there.
        computed: Texts that were computed and kept.
        recomputed: Texts for which there is no room, so that they are computed at each use.
        damaged: Segments whose bytes had changed, which were removed.
        truncated: Texts whose end was cut off.
        mb: Megabytes of the kept texts on disk.
    """

    found: int
    computed: int
    recomputed: int
    damaged: int
    truncated: int
    mb: float


class FrozenTexts:
    """Hidden states of texts before the trained layers.

    Args:
        encoder: The encoder.
        texts: The texts; text i is number i below.
        cache: Folder of the cache, which several runs may share.
        max_tokens: Tokens that are read of a text.
        cache_mb: Most megabytes that the cache may take.
        dtype: Numbers in which states are kept.
        priority: How often each text is used; the most used are kept where there is no room for all.

    Attributes:
        lengths: Tokens of each text.
        use: What opening the cache took.

    Raises:
        UserError: Where a hidden state is too large for the numbers in which states are kept.
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
        found, damaged, used, useless = self._open_segments(number)
        missing = np.array([index for index in set(number.values()) if self._segment[index] < 0], dtype=np.int64)
        wanted = int(self.lengths[missing].sum()) * encoder.d * _BYTES
        for folder, size in useless:
            if used + wanted > cache_mb * 1e6:
                shutil.rmtree(folder, ignore_errors=True)
                used -= size
        free = cache_mb * 1e6 - used
        rank = missing if priority is None else -priority[missing]
        kept = missing[np.lexsort((missing, rank))]
        kept = kept[np.cumsum(self.lengths[kept].astype(np.int64)) * encoder.d * _BYTES <= free]
        self._compute(kept, hashes)
        # Texts that are written alike are one text.
        same = np.array([number[digest] for digest in hashes], dtype=np.int64)
        self._segment, self._start = self._segment[same], self._start[same]
        stored = int(self.lengths[np.unique(same[self._segment >= 0])].sum()) * encoder.d * _BYTES
        self.use = CacheUse(found, len(kept), len(missing) - len(kept), damaged, truncated, stored / 1e6)

    def hidden(
        self, texts: Int64[np.ndarray, " texts"]
    ) -> tuple[Float[Tensor, "texts tokens d"], Bool[Tensor, "texts tokens"]]:
        """States of some texts in float32, padded with zeros to the longest, and a mask of the real tokens."""
        lengths = self.lengths[texts]
        longest = int(lengths.max())
        mask = torch.from_numpy(np.arange(longest) < lengths[:, None])
        hidden = torch.zeros(len(texts), longest, self.encoder.d)
        for segment in np.unique(self._segment[texts]).tolist():
            rows = np.flatnonzero(self._segment[texts] == segment)
            inside = mask[rows]
            if segment < 0:
                # The same rounding as what is kept, so that a text has one meaning.
                values = self._encode(texts[rows])
            else:
                token = self._start[texts[rows], None] + np.arange(longest)
                values = torch.from_numpy(self._segments[segment][token[inside.numpy()]]).view(self.dtype)
            place = torch.zeros_like(mask)
            place[rows] = inside
            hidden[place] = values.float()
        return hidden, mask

    def _open_segments(self, number: dict[str, int]) -> tuple[int, int, int, list[tuple[Path, int]]]:
        """Finds the texts that are there and removes broken segments.

        Args:
            number: Which text each hash is.

        Returns:
            Texts found, broken segments, bytes in use, and the segments without any of the texts, oldest first, with
            their bytes.
        """
        found = damaged = 0
        used, useless = 0, []
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
                useless.append((folder, size))
        return found, damaged, used, useless

    def _compute(self, kept: Int64[np.ndarray, " kept"], hashes: list[str]) -> None:
        # By length, so that little is padding; longest first, so that too little memory shows at once.
        order = kept[np.argsort(-self.lengths[kept], kind="stable")]
        ends = np.cumsum(self.lengths[order].astype(np.int64))
        with progress("Encoding texts (frozen layers)", total=len(order), unit="texts") as advance:
            for part in np.split(order, np.flatnonzero(np.diff(ends // SEGMENT_TOKENS)) + 1):
                if len(part):
                    self._write_segment(part, [hashes[index] for index in part.tolist()])
                    advance(len(part))

    def _write_segment(self, texts: Int64[np.ndarray, " texts"], hashes: list[str]) -> None:
        # Named after the process too: two that compute the same texts at once do not wait for each other.
        folder = self._folder / f"segment-{fingerprint(list(hashes))[:16]}-{os.getpid()}"
        with publish(folder, KIND, {"texts": len(texts)}) as draft:
            np.save(draft.path / "states.npy", self._encode(texts).view(torch.int16).numpy())
            np.save(draft.path / "lengths.npy", self.lengths[texts])
            (draft.path / "texts.txt").write_text("\n".join(hashes), encoding="ascii")
        self._segment[texts] = len(self._segments)
        self._start[texts] = np.concatenate([[0], np.cumsum(self.lengths[texts], dtype=np.int64)])[:-1]
        self._segments.append(np.load(folder / "states.npy", mmap_mode="r"))

    def _encode(self, texts: Int64[np.ndarray, " texts"]) -> Shaped[Tensor, "tokens d"]:
        """States of the texts' tokens, one text after the other."""
        pieces = []
        for start, end in _cut(self.lengths[texts]):
            hidden, mask = self.encoder.hidden([self.ids[index] for index in texts[start:end].tolist()])
            pieces.append(hidden[mask].to(self.dtype).cpu())
            if not torch.isfinite(pieces[-1]).all():
                raise UserError(
                    f"hidden states of {self.encoder.name!r} must fit the numbers in which they are kept, but some do "
                    "not; set neural.text.cache_dtype to bf16"
                )
        return torch.cat(pieces)


def _cut(lengths: Int32[np.ndarray, " texts"]) -> Iterator[tuple[int, int]]:
    """Runs of texts that are encoded at a time."""
    start = longest = 0
    for index, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if index > start and longest * (index + 1 - start) > FORWARD_TOKENS:
            yield start, index
            start, longest = index, length
    if len(lengths):
        yield start, len(lengths)
