"""Writes the arrays of every split, some whole pages at a time."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int8, Int32

from shelfrank.data.prepared import SPLITS, id_hashes, tie_keys
from shelfrank.prepare.encode import Encoder, NumericalEncoding, numbers
from shelfrank.prepare.features import EntityTables, Plan
from shelfrank.prepare.rows import Batch, RowReader
from shelfrank.prepare.statistics import SplitCounter
from shelfrank.schema import Feature


def write_arrays(
    out: Path,
    reader: RowReader,
    entities: EntityTables,
    encoder: Encoder,
    searches: pa.Table,
    splits: Int8[np.ndarray, " searches"],
    plan: Plan,
) -> dict[str, Any]:
    """Encodes all rows into memory-mapped arrays, one folder per split.

    Args:
        out: The folder being written.
        reader: The rows.
        entities: Products and customers.
        encoder: The fitted encoder.
        searches: The searches by `search_idx`.
        splits: The split of each search.
        plan: The tasks and the declared features.

    Returns:
        Statistics by split.
    """
    assembler = _Assembler(encoder, entities, plan, reader.features)
    search_hashes = id_hashes(searches["search_id"].to_pylist())
    product_hashes = id_hashes(entities.products["product_id"].to_pylist())
    arrays = _open_arrays(out, encoder, searches, _page_sizes(reader, len(splits)), splits, len(plan.tasks))
    counter = SplitCounter(plan.tasks)
    filled = [0] * len(SPLITS)
    for batch in reader.batches("Encoding"):
        encoded: dict[str, np.ndarray] = {
            name: batch.ints(name) for name in ("query_idx", "product_idx", "customer_idx", "position")
        }
        encoded["numerical"] = assembler.numerical(batch)
        encoded["categorical"] = assembler.categorical(batch)
        encoded["labels"] = np.stack(
            [batch.rows[task].fill_null(-1).to_numpy().astype(np.int8) for task in plan.tasks], axis=1
        )
        encoded["tie_keys"] = tie_keys(search_hashes[batch.ints("search_idx")], product_hashes[encoded["product_idx"]])
        for index, name in enumerate(SPLITS):
            chosen = batch.split == index
            n = int(chosen.sum())
            if n:
                of_split = {array: values[chosen] for array, values in encoded.items()}
                for array, values in of_split.items():
                    arrays[index][array][filled[index] : filled[index] + n] = values
                counter.add(name, of_split)
                filled[index] += n
    for of_split in arrays:
        for array in of_split.values():
            array.flush()
    return counter.finish(searches, splits)


class _Assembler:
    """Encodes a batch's rows; products and customers are encoded once and looked up."""

    def __init__(self, encoder: Encoder, entities: EntityTables, plan: Plan, computed: tuple[Feature, ...]) -> None:
        self.encoder = encoder
        self.features = {feature.name: feature for feature in (*plan.row_features, *computed)}
        self.tables: dict[str, tuple[str, np.ndarray]] = {}
        for key, features, table in (
            ("product_idx", plan.product_features, entities.products),
            ("customer_idx", plan.customer_features, entities.customers),
        ):
            names = {feature.name for feature in features}
            for encoding in (*encoder.numerical, *encoder.categorical):
                if encoding.name in names:
                    column = table[encoding.name].combine_chunks()
                    # A last row of null: index -1, the anonymous customer, finds it.
                    column = pa.concat_arrays([column, pa.nulls(1, column.type)])
                    if isinstance(encoding, NumericalEncoding):
                        encoded = encoding.transform(numbers(column))
                    else:
                        encoded = encoding.transform(column)
                    self.tables[encoding.name] = (key, encoded)

    def numerical(self, batch: Batch) -> Float32[np.ndarray, "rows n_num"]:
        """The encoded numbers."""
        blocks = []
        for encoding in self.encoder.numerical:
            if encoding.name in self.tables:
                key, table = self.tables[encoding.name]
                blocks.append(table[batch.ints(key)])
            else:
                raw = batch.raw(self.features[encoding.name])
                assert isinstance(raw, np.ndarray)
                blocks.append(encoding.transform(raw))
        return np.concatenate(blocks, axis=1) if blocks else np.empty((batch.rows.num_rows, 0), np.float32)

    def categorical(self, batch: Batch) -> Int32[np.ndarray, "rows n_cat"]:
        """The category codes."""
        blocks = []
        for encoding in self.encoder.categorical:
            if encoding.name in self.tables:
                key, table = self.tables[encoding.name]
                blocks.append(table[batch.ints(key)])
            else:
                raw = batch.raw(self.features[encoding.name])
                assert not isinstance(raw, np.ndarray)
                blocks.append(encoding.transform(raw))
        return np.stack(blocks, axis=1) if blocks else np.empty((batch.rows.num_rows, 0), np.int32)


def _page_sizes(reader: RowReader, n_searches: int) -> np.ndarray:
    sizes = np.zeros(n_searches, dtype=np.int64)
    for batch in pq.ParquetFile(reader.files.rows).iter_batches(columns=["search_idx"]):
        sizes += np.bincount(batch["search_idx"].to_numpy(), minlength=n_searches)
    return sizes


def _open_arrays(
    out: Path,
    encoder: Encoder,
    searches: pa.Table,
    sizes: np.ndarray,
    splits: Int8[np.ndarray, " searches"],
    n_tasks: int,
) -> list[dict[str, np.memmap]]:
    n_num = sum(len(encoding.columns()) for encoding in encoder.numerical)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "numerical": ((n_num,), np.float32),
        "categorical": ((len(encoder.categorical),), np.int32),
        "labels": ((n_tasks,), np.int8),
        "query_idx": ((), np.int32),
        "product_idx": ((), np.int32),
        "customer_idx": ((), np.int32),
        "position": ((), np.int32),
        "tie_keys": ((), np.uint64),
    }
    arrays = []
    for index, name in enumerate(SPLITS):
        folder = out / name
        folder.mkdir()
        of_split = np.flatnonzero(splits == index)
        offsets = np.concatenate([[0], np.cumsum(sizes[of_split])]).astype(np.int64)
        np.save(folder / "search_offsets.npy", offsets)
        known = searches.take(of_split).select(["search_id", "timestamp", "customer_id"])
        pq.write_table(known, folder / "searches.parquet")
        n_rows = int(offsets[-1])
        arrays.append(
            {
                array: _allocate(folder / f"{array}.npy", dtype, (n_rows, *shape))
                for array, (shape, dtype) in shapes.items()
            }
        )
    return arrays


def _allocate(file: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    array = np.lib.format.open_memmap(file, "w+", dtype, shape)
    # Writing into a map of a full disk kills the process; taking the room first is an error that can be told.
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return array
