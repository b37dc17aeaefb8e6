"""A finished folder of semantic scores: embeddings on disk, cosines on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float16, Float32, Int, Int64

from shelfrank.core.artifact import Manifest, read_manifest, verify_files
from shelfrank.core.errors import UserError

KIND = "semantic_scores"
SEMANTIC_SCORE = "semantic_score"
"""The feature: the only computed one that may be missing, as a blank or new text has no embedding."""
QUERIES = "queries.parquet"
PRODUCTS = "products.parquet"
PAIRS = "pairs.parquet"
QUERY_EMBEDDINGS = "query_embeddings.npy"
PRODUCT_EMBEDDINGS = "product_embeddings.npy"
CHUNK_ROWS = 65_536
"""Cosines computed at a time, which bounds the memory."""
_KEPT_BITS = np.int32(-(1 << 31) | ((1 << 28) - 1) & ~((1 << 13) - 1))
"""The sign, and the 15 bits of a half's exponent and fraction shifted by 13 bits."""
_EXPONENT_SHIFT = np.float32(2.0**112)
_MAX_HALF = np.float32(np.finfo(np.float16).max)


@dataclass(frozen=True)
class SemanticScores:
    """Embeddings of a log's queries and products.

    Attributes:
        path: The folder.
        manifest: Model, counts, cost.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "SemanticScores":
        """Opens a finished folder; a missing, incomplete or truncated one is a `UserError`."""
        return cls(path, read_manifest(path, KIND))

    @property
    def fingerprint(self) -> str:
        """Hash over the scores and their inputs."""
        return self.manifest.fingerprint

    def check(self, log: str, split: dict[str, Any]) -> None:
        """Requires that these are the scores of a log, and that their model was not trained on its later searches.

        Args:
            log: Fingerprint of the log.
            split: How its searches are split, as plain data.

        Raises:
            UserError: Where the scores are of another log, their model was tuned on another split of this log, or the
                files have changed.
        """
        if self.manifest.inputs["log"] != log:
            raise UserError(
                f"{self.path} must be the scores of this log, but they are of another; run `shelfrank semantic score`"
            )
        tuned = self.manifest.inputs["tuned_on"]
        if tuned is not None and tuned["log"] == log and tuned["split"] != split:
            raise UserError(
                f"the text model of {self.path} must be tuned on the training searches of the same split, but it was "
                f"tuned by {tuned['split']} and the split is {split}; give `shelfrank semantic train` the same split"
            )
        verify_files(self.path, self.manifest)

    def align(self, queries: Sequence[str], product_ids: Sequence[str]) -> "AlignedScores":
        """Looks up the embeddings of the caller's queries and products.

        Args:
            queries: Queries, in the order of later `query_idx`.
            product_ids: Products, in the order of later `product_idx`.

        Returns:
            Scores by the caller's indices.

        Raises:
            UserError: Where one has no embedding.
        """
        query_rows = self._rows(QUERIES, "query", queries)
        product_rows = self._rows(PRODUCTS, "product_id", product_ids)
        return AlignedScores(
            np.load(self.path / QUERY_EMBEDDINGS, mmap_mode="r"),
            np.load(self.path / PRODUCT_EMBEDDINGS, mmap_mode="r"),
            query_rows,
            product_rows,
        )

    def _rows(self, file: str, column: str, values: Sequence[str]) -> Int64[np.ndarray, " values"]:
        known = pq.read_table(self.path / file, columns=[column])[column]
        requested = pa.array(values, known.type)
        rows = pc.index_in(requested, value_set=known)  # pyright: ignore[reportAttributeAccessIssue]
        if rows.null_count:
            absent = requested.filter(rows.is_null()).unique()
            named = ", ".join(repr(value) for value in absent[:3].to_pylist())
            raise UserError(
                f"{self.path} must hold an embedding of every {column}, but it lacks {len(absent):,} of them, such as "
                f"{named}; score the same log with `shelfrank semantic score`"
            )
        return rows.to_numpy(zero_copy_only=False).astype(np.int64)


@dataclass(frozen=True)
class AlignedScores:
    """Cosines of queries and products, by the caller's indices (Paper: Sec. 3.2).

    Attributes:
        query_embeddings: The folder's, memory-mapped.
        product_embeddings: The folder's, memory-mapped; NaN where a product has no text.
        query_rows: By the caller's query index, the row of its embedding.
        product_rows: By the caller's product index, the row of its embedding.
    """

    query_embeddings: Float16[np.ndarray, "stored_queries d"]
    product_embeddings: Float16[np.ndarray, "stored_products d"]
    query_rows: Int64[np.ndarray, " queries"]
    product_rows: Int64[np.ndarray, " products"]

    def cosine(
        self, query_idx: Int[np.ndarray, " rows"], product_idx: Int[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, " rows"]:
        """Computes the semantic score of each row: the cosine of its query and its product's document.

        Paper: Sec. 3.2.

        Args:
            query_idx: Each row's query, an index into the aligned queries.
            product_idx: Each row's product, an index into the aligned products.

        Returns:
            From -1 to 1; NaN where the query is blank or the product has no text.
        """
        return row_cosines(
            self.query_embeddings, self.product_embeddings, self.query_rows[query_idx], self.product_rows[product_idx]
        )


def row_cosines(
    query_embeddings: Float16[np.ndarray, "queries d"],
    product_embeddings: Float16[np.ndarray, "products d"],
    query_rows: Int[np.ndarray, " rows"],
    product_rows: Int[np.ndarray, " rows"],
) -> Float32[np.ndarray, " rows"]:
    """Computes the cosine of each pair of rows, a chunk at a time.

    Numerics: float16 changes lengths of 1 by a few parts in 10,000, so the cosine divides by the lengths.

    Args:
        query_embeddings: Of length about 1.
        product_embeddings: Of length about 1.
        query_rows: Rows of the first.
        product_rows: Rows of the second.

    Returns:
        One cosine per pair.
    """
    cosines = np.empty(len(query_rows), dtype=np.float32)
    for start in range(0, len(cosines), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        cosines[rows] = _cosines(
            widened(query_embeddings[query_rows[rows]]), widened(product_embeddings[product_rows[rows]])
        )
    return cosines


def cosines_of_query(
    query_embedding: Float16[np.ndarray, " d"], product_embeddings: Float16[np.ndarray, "products d"]
) -> Float32[np.ndarray, " products"]:
    """Computes the cosines of one query with products, bit-equal to `row_cosines`."""
    return _cosines(widened(query_embedding[None]), widened(product_embeddings))


def widened(halves: Float16[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Turns half-precision numbers into float32 as `astype` does, in a quarter of its time."""
    # Numerics: exponent and fraction keep their bits, and the exponents' biases differ by 112. A subnormal half is a
    # subnormal float until it is multiplied.
    bits = np.ascontiguousarray(halves).view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _KEPT_BITS
    wide = bits.view(np.float32)
    wide *= _EXPONENT_SHIFT
    infinite = np.abs(wide) > _MAX_HALF
    if infinite.any():
        wide[infinite] = halves[infinite].astype(np.float32)
    return wide


def _cosines(q: Float32[np.ndarray, "queries d"], p: Float32[np.ndarray, "rows d"]) -> Float32[np.ndarray, " rows"]:
    """The cosine of each row; a single query is broadcast."""
    lengths = np.sqrt(np.einsum("nd,nd->n", q, q) * np.einsum("nd,nd->n", p, p))
    return np.einsum("nd,nd->n", np.broadcast_to(q, p.shape), p) / lengths
