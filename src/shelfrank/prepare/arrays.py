"""Writes the arrays of every split, some whole pages at a time."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, Int8, Int32, Int64

from shelfrank.core.schema import RANDOMISED
from shelfrank.data.npy import NpyWriter
from shelfrank.data.prepared import LAST_OF_SESSION, SPLITS, id_hashes, tie_keys
from shelfrank.features.encoder import Encoder, NumericalEncoding, encode_entities, numbers
from shelfrank.features.plan import EntityTables, Plan
from shelfrank.prepare.feature_seconds import DECLARED
from shelfrank.prepare.relevance import RelevanceLabels
from shelfrank.prepare.rows import PageBatch, RowReader
from shelfrank.prepare.statistics import SplitCounter


def write_arrays(
    out: Path,
    reader: RowReader,
    entities: EntityTables,
    encoder: Encoder,
    searches: pa.Table,
    sizes: Int64[np.ndarray, " searches"],
    plan: Plan,
    relevance: RelevanceLabels | None,
) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """Encodes all kept rows into arrays, one folder per split.

    Args:
        out: The folder being written.
        reader: The rows.
        entities: Products and customers.
        encoder: The fitted encoder.
        searches: The searches by `search_idx`.
        sizes: Kept rows of each search; a search of which no row is kept is in no split.
        plan: The tasks and the declared features.
        relevance: The labels of the fourth task.

    Returns:
        Statistics by split, and by feature and split the rows whose number is clipped to what training saw.
    """
    assembler = _Assembler(encoder, entities, plan, reader)
    search_hashes = id_hashes(searches["search_id"].to_pylist())
    product_hashes = id_hashes(entities.products["product_id"].to_pylist())

    clipped: dict[str, Counter[str]] = {}

    def encode(
        batch: PageBatch,
    ) -> tuple[Int8[np.ndarray, " rows"], dict[str, np.ndarray], dict[str, Bool[np.ndarray, " rows"]]]:
        encoded: dict[str, np.ndarray] = {
            name: batch.ints(name) for name in ("query_idx", "product_idx", "customer_idx", "position")
        }
        encoded["numerical"] = assembler.numerical(batch)
        encoded["categorical"] = assembler.categorical(batch)
        encoded["labels"] = batch.labels(plan.tasks)
        if relevance is not None:
            encoded["relevance"] = relevance.lookup(encoded["query_idx"], encoded["product_idx"])
        encoded["tie_keys"] = tie_keys(search_hashes[batch.ints("search_idx")], product_hashes[encoded["product_idx"]])
        return batch.split, encoded, assembler.clipped(batch)

    splits = np.where(sizes > 0, reader.splits, -1)
    counter = SplitCounter(plan.tasks)
    writers = [_SplitWriter(out / name, searches, sizes, splits == index) for index, name in enumerate(SPLITS)]
    for split, encoded, outside in reader.map("Encoding", encode):
        for feature, rows in outside.items():
            counts = np.bincount(split[rows & (split >= 0)], minlength=len(SPLITS)).tolist()
            clipped.setdefault(feature, Counter()).update(dict(zip(SPLITS, counts, strict=True)))
        for index, writer in enumerate(writers):
            chosen = split == index
            if chosen.any():
                of_split = encoded if chosen.all() else {array: values[chosen] for array, values in encoded.items()}
                writer.append(of_split)
                counter.add(writer.folder.name, of_split)
    for writer in writers:
        writer.finish()
    return counter.finish(searches, splits), {feature: dict(+counts) for feature, counts in clipped.items()}


class _SplitWriter:
    """Appends rows to one split's `.npy` files."""

    def __init__(
        self, folder: Path, searches: pa.Table, sizes: Int64[np.ndarray, " searches"], chosen: np.ndarray
    ) -> None:
        self.folder = folder
        folder.mkdir()
        of_split = np.flatnonzero(chosen)
        offsets = np.concatenate([[0], np.cumsum(sizes[of_split])]).astype(np.int64)
        np.save(folder / "search_offsets.npy", offsets)
        marks = [name for name in (LAST_OF_SESSION, RANDOMISED) if name in searches.column_names]
        known = searches.take(of_split).select(["search_id", "timestamp", "customer_id", *marks])
        for name in marks:
            known = known.set_column(known.column_names.index(name), name, known[name].cast(pa.bool_()))
        pq.write_table(known, folder / "searches.parquet")
        self.n_rows, self._written = int(offsets[-1]), 0
        self._files: dict[str, NpyWriter] = {}

    def append(self, arrays: dict[str, np.ndarray]) -> None:
        """Appends rows to every array."""
        for name, values in arrays.items():
            if name not in self._files:
                self._files[name] = NpyWriter(self.folder / f"{name}.npy", values.dtype, values.shape[1:])
            self._files[name].append(values)
        self._written += len(arrays["labels"])

    def finish(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.finish()
        assert self._written == self.n_rows, f"{self.folder.name} must have {self.n_rows} rows, not {self._written}"


class _Assembler:
    """Encodes a batch's rows; products and customers are encoded once and looked up."""

    def __init__(self, encoder: Encoder, entities: EntityTables, plan: Plan, reader: RowReader) -> None:
        self.encoder, self.seconds, self.group_of = encoder, reader.seconds, reader.group_of
        self.features = {feature.name: feature for feature in (*plan.row_features, *reader.features)}
        self.tables: dict[str, tuple[str, np.ndarray]] = {}
        self._clipped: dict[str, tuple[str, Bool[np.ndarray, " entities_plus_1"]]] = {}
        for key, features, table in (
            ("product_idx", plan.product_features, entities.products),
            ("customer_idx", plan.customer_features, entities.customers),
        ):
            names = {feature.name for feature in features}
            for encoding in (*encoder.numerical, *encoder.categorical):
                if encoding.name in names:
                    self.tables[encoding.name] = (key, encode_entities(encoding, table))
                    if isinstance(encoding, NumericalEncoding):
                        is_clipped = encoding.is_clipped(numbers(table[encoding.name]))
                        self._clipped[encoding.name] = key, np.append(is_clipped, False)

    def numerical(self, batch: PageBatch) -> Float32[np.ndarray, "rows n_num"]:
        """The encoded numbers."""
        blocks = []
        for encoding in self.encoder.numerical:
            with self.seconds.of(self.group_of.get(encoding.name, DECLARED)):
                if encoding.name in self.tables:
                    key, table = self.tables[encoding.name]
                    blocks.append(table[batch.ints(key)])
                else:
                    raw = batch.raw(self.features[encoding.name])
                    assert isinstance(raw, np.ndarray)
                    blocks.append(encoding.transform(raw))
        return np.concatenate(blocks, axis=1) if blocks else np.empty((batch.rows.num_rows, 0), np.float32)

    def clipped(self, batch: PageBatch) -> dict[str, Bool[np.ndarray, " rows"]]:
        """By feature, the rows whose number is clipped; features without any are left out."""
        found: dict[str, Bool[np.ndarray, " rows"]] = {}
        for encoding in self.encoder.numerical:
            if encoding.low is None:
                continue
            if encoding.name in self._clipped:
                key, table = self._clipped[encoding.name]
                rows = table[batch.ints(key)] if table.any() else table[:0]
            else:
                raw = batch.raw(self.features[encoding.name])
                assert isinstance(raw, np.ndarray)
                rows = encoding.is_clipped(raw)
            if rows.any():
                found[encoding.name] = rows
        return found

    def categorical(self, batch: PageBatch) -> Int32[np.ndarray, "rows n_cat"]:
        """The category codes."""
        blocks = []
        for encoding in self.encoder.categorical:
            with self.seconds.of(self.group_of.get(encoding.name, DECLARED)):
                if encoding.name in self.tables:
                    key, table = self.tables[encoding.name]
                    blocks.append(table[batch.ints(key)])
                else:
                    raw = batch.raw(self.features[encoding.name])
                    assert not isinstance(raw, np.ndarray)
                    blocks.append(encoding.transform(raw))
        return np.stack(blocks, axis=1) if blocks else np.empty((batch.rows.num_rows, 0), np.int32)
