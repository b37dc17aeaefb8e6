"""Streams of whole pages: the row files side by side, with everything that is computed from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int8, Int32

from shelfrank.prepare.encode import numbers
from shelfrank.prepare.history import Made
from shelfrank.prepare.interactions import OVERLAP_FEATURES, TextOverlap
from shelfrank.progress import progress
from shelfrank.schema import Feature, Kind

BATCH_ROWS = 131_072
PRICE = "price"


@dataclass(frozen=True)
class RowFiles:
    """Files with one row per impression each, all in the same order: by search, then position.

    Attributes:
        rows: Integer keys, position, labels, and the declared columns of the impressions.
        totals: One file per key of history.
    """

    rows: Path
    totals: tuple[Path, ...]


@dataclass(frozen=True)
class Batch:
    """Rows of some whole pages.

    Attributes:
        rows: The row files' columns side by side.
        split: Each row's split.
        made: The computed features' values.
    """

    rows: pa.Table
    split: Int8[np.ndarray, " rows"]
    made: dict[str, Float64[np.ndarray, " rows"]]

    def ints(self, name: str) -> Int32[np.ndarray, " rows"]:
        """An integer column."""
        return self.rows[name].to_numpy().astype(np.int32)

    def raw(self, feature: Feature) -> pa.ChunkedArray | Float64[np.ndarray, " rows"]:
        """A row-level feature's raw values: numbers as floats, categories as Arrow values."""
        if feature.name in self.made:
            return self.made[feature.name]
        column = self.rows[feature.name]
        return numbers(column) if feature.kind is Kind.NUMERICAL else column


class RowReader:
    """Reads the row files page by page and computes what is made of them."""

    def __init__(
        self,
        files: RowFiles,
        splits: Int8[np.ndarray, " searches"],
        made: list[Made],
        overlap: TextOverlap | None,
        product_prices: Float64[np.ndarray, " products"] | None,
    ) -> None:
        self.files, self.splits, self.made, self.overlap = files, splits, made, overlap
        self.product_prices = product_prices
        self.n_rows = pq.read_metadata(files.rows).num_rows

    @property
    def features(self) -> tuple[Feature, ...]:
        """The computed features."""
        return (*(made.feature for made in self.made), *(OVERLAP_FEATURES if self.overlap else ()))

    def batches(self, title: str) -> Iterator[Batch]:
        """The rows of all pages, in order, some whole pages at a time."""
        with progress(title, total=self.n_rows, unit="rows") as advance:
            for rows in self._whole_pages():
                yield Batch(rows, self.splits[rows["search_idx"].to_numpy()], self._compute(rows))
                advance(rows.num_rows)

    def _compute(self, rows: pa.Table) -> dict[str, Float64[np.ndarray, " rows"]]:
        columns = {
            name: rows[name].to_numpy()
            for name in rows.column_names
            if "." in name or name in ("ts_us", "position", "search_idx", "product_idx", "query_idx")
        }
        if self.product_prices is not None:
            columns[PRICE] = self.product_prices[columns["product_idx"]]
        elif PRICE in rows.column_names:
            columns[PRICE] = numbers(rows[PRICE])
        made = {each.feature.name: np.asarray(each.compute(columns), dtype=np.float64) for each in self.made}
        if self.overlap:
            shares = self.overlap.features(columns["query_idx"], columns["product_idx"]).astype(np.float64)
            made |= {feature.name: shares[:, index] for index, feature in enumerate(OVERLAP_FEATURES)}
        return made

    def _whole_pages(self) -> Iterator[pa.Table]:
        streams = [pq.ParquetFile(file).iter_batches(BATCH_ROWS) for file in (self.files.rows, *self.files.totals)]
        rest: pa.Table | None = None
        for parts in zip(*streams, strict=True):
            sizes = {len(part) for part in parts}
            assert len(sizes) == 1, f"every row file must be cut into the same batches, not {sorted(sizes)}"
            columns = {name: part[name] for part in parts for name in part.schema.names}
            table = pa.table(columns)
            if rest is not None:
                table = pa.concat_tables([rest, table]).combine_chunks()
            search_idx = table["search_idx"].to_numpy()
            last_page = int(np.searchsorted(search_idx, search_idx[-1]))
            rest = table.slice(last_page)
            if last_page:
                yield table.slice(0, last_page)
        if rest is not None:
            yield rest
