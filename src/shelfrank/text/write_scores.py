"""Writes the tables of a folder of semantic scores: embeddings of texts, and the cosines of pairs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from shelfrank.core.progress import progress
from shelfrank.logs.engine import stream
from shelfrank.logs.search_log import SearchLog
from shelfrank.text.documents import Documents, shown_pairs
from shelfrank.text.encoder import TextEncoder
from shelfrank.text.scores import (
    CHUNK_ROWS,
    PAIRS,
    PRODUCT_EMBEDDINGS,
    PRODUCTS,
    QUERIES,
    QUERY_EMBEDDINGS,
    row_cosines,
)
from shelfrank.text.shards import Embedded, embed_texts


def write_queries(folder: Path, encoder: TextEncoder, queries: list[str], shards: Path, bf16: bool) -> Embedded:
    """Writes the queries and their embeddings, NaN where a query is blank.

    Args:
        folder: Folder of both files.
        encoder: The model.
        queries: In ascending order.
        shards: Folder of finished shards.
        bf16: Multiplies matrices in bfloat16.

    Returns:
        The statistics of the embedding.
    """
    table = {"query_idx": pa.array(np.arange(len(queries))), "query": pa.array(queries, pa.string())}
    pq.write_table(pa.table(table), folder / QUERIES)
    parts = [(query,) if query.strip() else () for query in queries]
    return _write_embeddings(folder / QUERY_EMBEDDINGS, encoder, parts, shards, "Embedding queries", bf16)


def write_products(
    folder: Path,
    encoder: TextEncoder,
    documents: Documents,
    per_attribute: Literal["mean"] | None,
    shards: Path,
    bf16: bool,
) -> Embedded:
    """Writes the products, their documents and embeddings, NaN where a product has no text.

    Paper: Sec. 3.2 says both that the document combines the attributes and that each is embedded.

    Args:
        folder: Folder of both files.
        encoder: The model.
        documents: The products' texts.
        per_attribute: `mean` averages the attributes' embeddings; None embeds the joined text.
        shards: Folder of finished shards.
        bf16: Multiplies matrices in bfloat16.

    Returns:
        The statistics of the embedding.
    """
    joined = documents.joined()
    table = {
        "product_idx": pa.array(np.arange(len(joined))),
        "product_id": pa.array(documents.product_ids, pa.string()),
        "document": pa.array(joined, pa.string()),
    }
    pq.write_table(pa.table(table), folder / PRODUCTS)
    parts = documents.attributes if per_attribute == "mean" else [(text,) if text else () for text in joined]
    return _write_embeddings(folder / PRODUCT_EMBEDDINGS, encoder, parts, shards, "Embedding products", bf16)


def write_pairs(folder: Path, log: SearchLog, engine: Backend) -> tuple[int, int]:
    """Writes the cosine of every shown pair of the log from the embeddings in the folder.

    Args:
        folder: Folder of the embeddings and of the pairs.
        log: The log.
        engine: The engine.

    Returns:
        The number of pairs, and of those without a score because a text is missing.
    """
    queries = np.load(folder / QUERY_EMBEDDINGS, mmap_mode="r")
    products = np.load(folder / PRODUCT_EMBEDDINGS, mmap_mode="r")
    pairs = shown_pairs(log, engine, folder / QUERIES, folder / PRODUCTS)
    schema = pa.schema([("query", pa.string()), ("product_id", pa.string()), ("semantic_score", pa.float32())])
    n_pairs = n_missing = n_queries = 0
    with (
        progress("Scoring pairs", total=len(queries), unit="queries") as advance,
        pq.ParquetWriter(folder / PAIRS, schema, compression="zstd") as writer,
    ):
        for rows in _chunks(stream(engine, pairs)):
            query_rows = rows["query_idx"].to_numpy()
            cosines = row_cosines(queries, products, query_rows, rows["product_idx"].to_numpy())
            writer.write_table(pa.table([rows["query"], rows["product_id"], pa.array(cosines)], schema=schema))
            n_pairs += len(rows)
            n_missing += int(np.isnan(cosines).sum())
            # Pairs are sorted by query; a chunk may end within one.
            reached = int(query_rows[-1]) + 1
            advance(reached - n_queries)
            n_queries = reached
    return n_pairs, n_missing


def _write_embeddings(
    out: Path, encoder: TextEncoder, parts: Sequence[tuple[str, ...]], shards: Path, title: str, bf16: bool
) -> Embedded:
    """Writes for each row the normalised mean of its texts' embeddings, NaN without a text."""
    texts = sorted({text for some in parts for text in some})
    unique = out.with_suffix(".texts")
    embedded = embed_texts(encoder, texts, unique, shards, title, bf16)
    row_of = {text: row for row, text in enumerate(texts)}
    embeddings = np.load(unique, mmap_mode="r")
    rows = np.lib.format.open_memmap(out, mode="w+", dtype=np.float16, shape=(len(parts), encoder.d))
    for start in range(0, len(parts), CHUNK_ROWS):
        some = parts[start : start + CHUNK_ROWS]
        owner = np.repeat(np.arange(len(some)), [len(part) for part in some])
        used = np.array([row_of[text] for part in some for text in part], dtype=np.int64)
        sums = np.zeros((len(some), encoder.d), dtype=np.float32)
        np.add.at(sums, owner, embeddings[used].astype(np.float32))
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        rows[start : start + len(some)] = np.divide(sums, lengths, out=np.full_like(sums, np.nan), where=lengths > 0)
    rows.flush()
    unique.unlink()
    return embedded


def _chunks(pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    n_held = 0
    for piece in pieces:
        held.append(piece)
        n_held += len(piece)
        if n_held >= CHUNK_ROWS:
            yield pa.concat_tables(held)
            held, n_held = [], 0
    if n_held:
        yield pa.concat_tables(held)
