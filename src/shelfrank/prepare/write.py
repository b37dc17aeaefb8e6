"""Fits the encoder on the training rows and writes the arrays, one batch of rows at a time."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64, Int8, Int32

from shelfrank.config import PrepareConfig
from shelfrank.data.prepared import SPLITS, id_hashes, save_columns, tie_keys
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.encode import (
    CategoricalEncoding,
    Encoder,
    Moments,
    NumericalEncoding,
    count_values,
    fit_categorical,
    fit_numerical,
    numbers,
    squash,
)
from shelfrank.prepare.engine import connect
from shelfrank.prepare.features import EntityTables, Plan, entity_tables
from shelfrank.prepare.interactions import OVERLAP_FEATURES, TextOverlap
from shelfrank.prepare.statistics import SplitCounter
from shelfrank.progress import progress
from shelfrank.schema import Feature, Kind, Schema

BATCH_ROWS = 131_072


@dataclass(frozen=True)
class RowFiles:
    """The two files with one row per impression, in the same order, and the features of the second."""

    rows: Path
    history: Path
    made: tuple[Feature, ...]


@dataclass(frozen=True)
class Batch:
    """Some rows of both files."""

    rows: pa.RecordBatch
    history: pa.RecordBatch
    overlap: Float32[np.ndarray, "rows 3"]
    split: Int8[np.ndarray, " rows"]

    def ints(self, name: str) -> Int32[np.ndarray, " rows"]:
        """An integer column of the rows."""
        return self.rows[name].to_numpy(zero_copy_only=False).astype(np.int32)

    def raw(self, feature: Feature) -> pa.Array | Float64[np.ndarray, " rows"]:
        """A feature's raw values: numbers as floats, categories as Arrow values."""
        for index, overlap in enumerate(OVERLAP_FEATURES):
            if overlap.name == feature.name:
                return self.overlap[:, index].astype(np.float64)
        source = self.rows if feature.name in self.rows.schema.names else self.history
        column = source[feature.name]
        return numbers(column) if feature.kind is Kind.NUMERICAL else column


def write_prepared(
    out: Path,
    log: SearchLog,
    files: RowFiles,
    searches: pa.Table,
    splits: Int8[np.ndarray, " searches"],
    plan: Plan,
    config: PrepareConfig,
    scratch: Path,
) -> dict[str, Any]:
    """Writes everything that PreparedData holds.

    Args:
        out: The folder being written.
        log: Where the rows come from.
        files: The rows.
        searches: The searches by `search_idx`.
        splits: The split of each search.
        plan: What is made.
        config: How.
        scratch: For the engine.

    Returns:
        Facts for the manifest: statistics by split (Paper: Table 1), features by side, and what was left out.
    """
    with connect(config.engine, scratch) as backend:
        entities = entity_tables(log, backend)
    row_features = (*plan.row_features, *files.made, *(OVERLAP_FEATURES if config.text_overlap else ()))
    titles = [title or "" for title in entities.products["title"].to_pylist()]
    documents = _documents(log.schema, entities.products, titles)
    overlap = TextOverlap(entities.queries["query"].to_pylist(), titles, documents) if config.text_overlap else None
    reader = _Reader(files, splits, overlap, pq.read_metadata(files.rows).num_rows)
    encoder = _fit(reader, entities, plan, row_features, config)
    _write_texts(out, entities, titles, documents)
    counts = _write_arrays(out, reader, entities, encoder, searches, splits, plan)
    encoder.save(out / "encoder.json")
    log.schema.save(out / "schema.yaml")
    columns = [column for encoding in encoder.numerical for column in encoding.columns()]
    codes = [encoding.column() for encoding in encoder.categorical]
    save_columns(out, plan.tasks, columns, codes)
    return {
        "splits": counts,
        "features": dict(Counter(column.side.value for column in (*columns, *codes))),
        "left_out_features": encoder.left_out,
        "left_out": dict(log.manifest.info["left_out"]),
        "texts_cut_for_overlap": overlap.truncated if overlap else 0,
    }


class _Reader:
    """Streams batches of both row files."""

    def __init__(
        self, files: RowFiles, splits: Int8[np.ndarray, " searches"], overlap: TextOverlap | None, n_rows: int
    ) -> None:
        self.files, self.splits, self.overlap, self.n_rows = files, splits, overlap, n_rows

    def batches(self, title: str) -> Iterator[Batch]:
        rows = pq.ParquetFile(self.files.rows).iter_batches(BATCH_ROWS)
        history = pq.ParquetFile(self.files.history).iter_batches(BATCH_ROWS)
        with progress(title, total=self.n_rows, unit="rows") as advance:
            for some, its_history in itertools.zip_longest(rows, history):
                assert some is not None and its_history is not None, "both files must have the same rows"
                assert len(some) == len(its_history), "both files must be cut into the same batches"
                query_idx, product_idx, search_idx = (
                    some[name].to_numpy() for name in ("query_idx", "product_idx", "search_idx")
                )
                shares = (
                    self.overlap.features(query_idx, product_idx)
                    if self.overlap
                    else np.empty((len(some), 0), np.float32)
                )
                yield Batch(some, its_history, shares, self.splits[search_idx])
                advance(len(some))


def _fit(
    reader: _Reader,
    entities: EntityTables,
    plan: Plan,
    row_features: tuple[Feature, ...],
    config: PrepareConfig,
) -> Encoder:
    moments = {feature.name: Moments() for feature in row_features if feature.kind is Kind.NUMERICAL}
    counts = {feature.name: Counter[str]() for feature in row_features if feature.kind is Kind.CATEGORICAL}
    product_rows = np.zeros(entities.products.num_rows)
    customer_rows = np.zeros(entities.customers.num_rows + 1)
    for batch in reader.batches("Fitting the encoder"):
        train = batch.split == 0
        if not train.any():
            continue
        product_rows += np.bincount(batch.ints("product_idx")[train], minlength=len(product_rows))
        customer_rows += np.bincount(batch.ints("customer_idx")[train] + 1, minlength=len(customer_rows))
        for feature in row_features:
            raw = batch.raw(feature)
            if isinstance(raw, np.ndarray):
                moments[feature.name].add(squash(raw[train]) if feature.log1p else raw[train])
            else:
                counts[feature.name].update(count_values(raw.filter(pa.array(train))))
    # Row 0 of the customers' weights counts anonymous rows, whose features are all missing.
    for features, table, weights, anonymous in (
        (plan.product_features, entities.products, product_rows, 0.0),
        (plan.customer_features, entities.customers, customer_rows[1:], float(customer_rows[0])),
    ):
        for feature in features:
            column = table[feature.name]
            if feature.kind is Kind.NUMERICAL:
                raw = numbers(column)
                moments[feature.name] = Moments()
                moments[feature.name].add(squash(raw) if feature.log1p else raw, weights)
                moments[feature.name].missing += anonymous
            else:
                counts[feature.name] = Counter(count_values(column, weights))
    return _encoder((*plan.product_features, *plan.customer_features, *row_features), moments, counts, config)


def _encoder(
    features: tuple[Feature, ...],
    moments: dict[str, Moments],
    counts: dict[str, Counter[str]],
    config: PrepareConfig,
) -> Encoder:
    numerical: list[NumericalEncoding] = []
    categorical: list[CategoricalEncoding] = []
    left_out: dict[str, str] = {}
    for feature in features:
        if feature.kind is Kind.NUMERICAL:
            fitted = fit_numerical(feature, moments[feature.name])
        else:
            fitted = fit_categorical(feature, counts[feature.name], config.min_count, config.max_categories)
        if isinstance(fitted, str):
            left_out[feature.name] = fitted
        elif isinstance(fitted, NumericalEncoding):
            numerical.append(fitted)
        else:
            categorical.append(fitted)
    return Encoder(tuple(numerical), tuple(categorical), left_out)


class _Assembler:
    """Encodes a batch's rows; products and customers are encoded once and looked up."""

    def __init__(self, encoder: Encoder, entities: EntityTables, plan: Plan) -> None:
        self.encoder = encoder
        self.tables: dict[str, tuple[str, np.ndarray]] = {}
        declared = {feature.name: feature for feature in plan.row_features}
        self.by_name = declared
        for key, features, table in (
            ("product_idx", plan.product_features, entities.products),
            ("customer_idx", plan.customer_features, entities.customers),
        ):
            names = {feature.name for feature in features}
            for encoding in (*encoder.numerical, *encoder.categorical):
                if encoding.name in names:
                    # A last row of nulls: index -1, the anonymous customer, finds it.
                    column = pa.concat_arrays(
                        [table[encoding.name].combine_chunks(), pa.nulls(1, table[encoding.name].type)]
                    )
                    raw = numbers(column) if isinstance(encoding, NumericalEncoding) else column
                    self.tables[encoding.name] = (key, encoding.transform(raw))  # pyright: ignore[reportArgumentType]

    def numerical(self, batch: Batch) -> Float32[np.ndarray, "rows n_num"]:
        blocks = []
        for encoding in self.encoder.numerical:
            if encoding.name in self.tables:
                key, table = self.tables[encoding.name]
                blocks.append(table[batch.ints(key)])
            else:
                raw = batch.raw(self._feature(encoding, Kind.NUMERICAL))
                assert isinstance(raw, np.ndarray)
                blocks.append(encoding.transform(raw))
        return np.concatenate(blocks, axis=1) if blocks else np.empty((len(batch.rows), 0), np.float32)

    def categorical(self, batch: Batch) -> Int32[np.ndarray, "rows n_cat"]:
        blocks = []
        for encoding in self.encoder.categorical:
            if encoding.name in self.tables:
                key, table = self.tables[encoding.name]
                blocks.append(table[batch.ints(key)])
            else:
                raw = batch.raw(self._feature(encoding, Kind.CATEGORICAL))
                assert not isinstance(raw, np.ndarray)
                blocks.append(encoding.transform(raw))
        return np.stack(blocks, axis=1) if blocks else np.empty((len(batch.rows), 0), np.int32)

    def _feature(self, encoding: NumericalEncoding | CategoricalEncoding, kind: Kind) -> Feature:
        return self.by_name.get(encoding.name) or Feature(name=encoding.name, side=encoding.side, kind=kind)


def _write_arrays(
    out: Path,
    reader: _Reader,
    entities: EntityTables,
    encoder: Encoder,
    searches: pa.Table,
    splits: Int8[np.ndarray, " searches"],
    plan: Plan,
) -> dict[str, Any]:
    assembler = _Assembler(encoder, entities, plan)
    search_hashes = id_hashes(searches["search_id"].to_pylist())
    product_hashes = id_hashes(entities.products["product_id"].to_pylist())
    sizes = np.bincount(
        np.concatenate(
            [
                batch["search_idx"].to_numpy()
                for batch in pq.ParquetFile(reader.files.rows).iter_batches(columns=["search_idx"])
            ]
        ),
        minlength=len(splits),
    )
    n_num = sum(len(encoding.columns()) for encoding in encoder.numerical)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "numerical": ((n_num,), np.float32),
        "categorical": ((len(encoder.categorical),), np.int32),
        "labels": ((len(plan.tasks),), np.int8),
        "query_idx": ((), np.int32),
        "product_idx": ((), np.int32),
        "customer_idx": ((), np.int32),
        "position": ((), np.int32),
        "tie_keys": ((), np.uint64),
    }
    arrays: list[dict[str, np.ndarray]] = []
    for index, name in enumerate(SPLITS):
        (out / name).mkdir()
        of_split = np.flatnonzero(splits == index)
        offsets = np.concatenate([[0], np.cumsum(sizes[of_split])]).astype(np.int64)
        np.save(out / name / "search_offsets.npy", offsets)
        pq.write_table(
            searches.take(of_split).select(["search_id", "timestamp", "customer_id"]),
            out / name / "searches.parquet",
        )
        arrays.append(
            {
                array: np.lib.format.open_memmap(out / name / f"{array}.npy", "w+", dtype, (int(offsets[-1]), *shape))
                for array, (shape, dtype) in shapes.items()
            }
        )
    counter = SplitCounter(plan.tasks)
    filled = [0] * len(SPLITS)
    for batch in reader.batches("Encoding"):
        encoded = {name: batch.ints(name) for name in ("query_idx", "product_idx", "customer_idx", "position")}
        encoded["numerical"] = assembler.numerical(batch)
        encoded["categorical"] = assembler.categorical(batch)
        encoded["labels"] = np.stack(
            [batch.rows[task].fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int8) for task in plan.tasks],
            axis=1,
        )
        encoded["tie_keys"] = tie_keys(search_hashes[batch.ints("search_idx")], product_hashes[encoded["product_idx"]])
        for index in range(len(SPLITS)):
            chosen = batch.split == index
            n = int(chosen.sum())
            if n:
                rows = slice(filled[index], filled[index] + n)
                for name, values in encoded.items():
                    arrays[index][name][rows] = values[chosen]
                counter.add(SPLITS[index], {name: values[chosen] for name, values in encoded.items()})
                filled[index] += n
    for of_split in arrays:
        for array in of_split.values():
            array.flush()  # pyright: ignore[reportAttributeAccessIssue]
    return counter.finish(searches, splits)


def _documents(schema: Schema, products: pa.Table, titles: list[str]) -> list[str]:
    names = [
        feature.name
        for feature in schema.features
        if feature.kind is not Kind.NUMERICAL
        and feature.side.value == "product"
        and feature.name in products.column_names
    ]
    columns = [products[name].cast(pa.string()).fill_null("").to_pylist() for name in names]
    return [" ".join(texts).strip() for texts in zip(titles, *columns, strict=True)]


def _write_texts(out: Path, entities: EntityTables, titles: list[str], documents: list[str]) -> None:
    (out / "texts").mkdir()
    pq.write_table(entities.queries.select(["query"]), out / "texts" / "queries.parquet")
    shown = [name for name in ("brand", "price", "category") if name in entities.products.column_names]
    products = entities.products.select(["product_id", *shown])
    products = products.append_column("title", pa.array(titles)).append_column("document", pa.array(documents))
    pq.write_table(products, out / "texts" / "products.parquet")
    pq.write_table(entities.customers, out / "customers.parquet")
