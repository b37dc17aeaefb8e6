"""Streams of whole pages: the log's rows in order, with everything that is computed from them."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float64, Int8, Int32, Int64, Num

from shelfrank.core.parallel import ordered_map
from shelfrank.core.processor import usable_cores
from shelfrank.core.progress import progress
from shelfrank.core.schema import PRICE, Feature, Kind
from shelfrank.engine.base import ROW, Kept
from shelfrank.features.encoder import numbers
from shelfrank.features.history_features import ComputedFeature
from shelfrank.features.texts import TextColumns
from shelfrank.prepare.columns import ColumnFiles
from shelfrank.prepare.feature_seconds import FeatureSeconds

BATCH_ROWS = 131_072

Result = TypeVar("Result")


@dataclass(frozen=True)
class RowFiles:
    """The log's rows by search, then position, and their history statistics.

    Attributes:
        rows: Integer keys, position, labels, and the declared columns of the impressions, of every row.
        kept: Which rows are kept; the others only complete their pages.
        history: By key, the statistics of the kept rows or, for the keys of `whole`, of all rows.
        whole: Keys whose statistics cover every row.
    """

    rows: Kept
    kept: Bool[np.ndarray, " rows"]
    history: Mapping[str, ColumnFiles]
    whole: frozenset[str]


@dataclass(frozen=True)
class PageBatch:
    """Kept rows of some whole pages.

    Attributes:
        rows: Their columns.
        split: Each row's split.
        computed: The computed features' values, in the narrowest types that hold them.
    """

    rows: pa.Table
    split: Int8[np.ndarray, " rows"]
    computed: dict[str, Num[np.ndarray, " rows"]]

    def ints(self, name: str) -> Int32[np.ndarray, " rows"]:
        """An integer column."""
        return self.rows[name].to_numpy().astype(np.int32)

    def labels(self, tasks: Sequence[str]) -> Int8[np.ndarray, "rows n_tasks"]:
        """1, 0, or -1 where the label is missing."""
        return np.stack([self.rows[task].fill_null(-1).to_numpy().astype(np.int8) for task in tasks], axis=1)

    def raw(self, feature: Feature) -> pa.ChunkedArray | Float64[np.ndarray, " rows"]:
        """A row-level feature's raw values: numbers as floats, categories as Arrow values."""
        if feature.name in self.computed:
            return np.asarray(self.computed[feature.name], dtype=np.float64)
        column = self.rows[feature.name]
        return numbers(column) if feature.kind is Kind.NUMERICAL else column


class RowReader:
    """Reads the rows page by page and computes their features.

    Args:
        files: The rows and their history.
        splits: The split of each search.
        groups: The features that are computed from history and page, by group.
        texts: Those that are computed from texts.
        product_numbers: Columns of the products that features read.
        price_in_rows: Whether `price` is a column of the rows.
        seconds: Takes in what each group costs.
        scratch: Folder for features that are kept between two passes.
        threads: Batches that are computed at once; as many as there are cores by default.
    """

    def __init__(
        self,
        files: RowFiles,
        splits: Int8[np.ndarray, " searches"],
        groups: Mapping[str, Sequence[ComputedFeature]],
        texts: Sequence[TextColumns],
        product_numbers: Mapping[str, Float64[np.ndarray, " products"]],
        price_in_rows: bool,
        seconds: FeatureSeconds,
        scratch: Path,
        threads: int | None = None,
    ) -> None:
        self.files, self.splits, self.groups, self.texts = files, splits, groups, tuple(texts)
        self.seconds = seconds
        self.product_numbers, self.price_in_rows = product_numbers, price_in_rows
        self.threads = threads or usable_cores()
        self._scratch, self._lock = scratch, threading.Lock()
        self._kept: ColumnFiles | None = None
        self._all_kept = False
        self._kept_before = np.concatenate([[0], np.cumsum(files.kept, dtype=np.int64)])

    @property
    def features(self) -> tuple[Feature, ...]:
        """The computed features."""
        return (
            *(each.feature for group in self.groups.values() for each in group),
            *(feature for each in self.texts for feature in each.features),
        )

    @property
    def group_of(self) -> dict[str, str]:
        """The group of each computed feature, by name."""
        return {
            **{each.feature.name: name for name, group in self.groups.items() for each in group},
            **{feature.name: each.group for each in self.texts for feature in each.features},
        }

    def page_sizes(self, n_searches: int) -> Int64[np.ndarray, " searches"]:
        """Kept rows of each search."""
        sizes, start = np.zeros(n_searches, dtype=np.int64), 0
        for part in self.files.rows.batches(["search_idx"]):
            kept = self.files.kept[start : start + len(part)]
            sizes += np.bincount(part["search_idx"].to_numpy()[kept], minlength=n_searches)
            start += len(part)
        return sizes

    def map(
        self, title: str, function: Callable[[PageBatch], Result | None], keep_features: bool = False
    ) -> Iterator[Result]:
        """A function of some whole pages at a time, several at once; the results come in the rows' order.

        Args:
            title: What the progress bar says.
            function: Takes the kept rows of whole pages; None is passed over.
            keep_features: Whether the computed features go to disk, from which later calls read them; the history, of
                which they need nothing more, is deleted.

        Yields:
            What it returned.
        """

        def work(page_rows: tuple[int, pa.Table]) -> tuple[int, Result | None]:
            start, rows = page_rows
            batch = self._batch(start, rows, keep_features)
            return rows.num_rows, None if batch is None else function(batch)

        with progress(title, total=self.files.rows.n_rows, unit="rows") as advance:
            for n_rows, result in ordered_map(work, self._whole_pages(), self.threads):
                if result is not None:
                    yield result
                advance(n_rows)
        if keep_features:
            self._all_kept = self._kept is not None
            for history in self.files.history.values():
                history.remove()

    def _batch(self, start: int, rows: pa.Table, keep_features: bool) -> PageBatch | None:
        kept = self.files.kept[start : start + rows.num_rows]
        if not kept.any():
            return None
        first, last = int(self._kept_before[start]), int(self._kept_before[start + len(kept)])
        if self._all_kept:
            assert self._kept is not None
            computed = self._kept.read(first, last)
        else:
            computed = self._compute(start, rows, kept)
            if keep_features:
                self._keep(first, computed)
        rows = rows if kept.all() else rows.filter(pa.array(kept))
        return PageBatch(rows, self.splits[rows["search_idx"].to_numpy()], computed)

    def _keep(self, first: int, computed: dict[str, Num[np.ndarray, " kept"]]) -> None:
        with self._lock:
            if self._kept is None:
                dtypes = {name: values.dtype for name, values in computed.items()}
                self._kept = ColumnFiles(self._scratch, dtypes, int(self._kept_before[-1]))
        self._kept.write(first, computed)

    def _compute(
        self, start: int, rows: pa.Table, kept: Bool[np.ndarray, " rows"]
    ) -> dict[str, Num[np.ndarray, " kept"]]:
        columns = self._columns(rows)
        computed = self._whole_page_features(start, columns, kept)
        if not kept.all():
            columns = {name: values[kept] for name, values in columns.items()}
        first, last = int(self._kept_before[start]), int(self._kept_before[start + len(kept)])
        for key, history in self.files.history.items():
            if key in self.files.whole:
                some = history.read(start, start + len(kept))
                columns |= {name: values[kept] for name, values in some.items()}
            else:
                columns |= history.read(first, last)
        for name, group in self.groups.items():
            with self.seconds.of(name):
                for each in group:
                    if not each.whole_pages:
                        computed[each.feature.name] = np.asarray(each.compute(columns))
        for each in self.texts:
            with self.seconds.of(each.group):
                values = each.compute(columns)
            columns_of_texts = np.ascontiguousarray(values.T)
            computed |= {feature.name: columns_of_texts[index] for index, feature in enumerate(each.features)}
        return computed

    def _whole_page_features(
        self, start: int, columns: dict[str, Num[np.ndarray, " rows"]], kept: Bool[np.ndarray, " rows"]
    ) -> dict[str, Num[np.ndarray, " kept"]]:
        whole = dict(columns)
        for key in self.files.whole:
            whole |= self.files.history[key].read(start, start + len(kept))
        computed: dict[str, Num[np.ndarray, " kept"]] = {}
        for name, group in self.groups.items():
            with self.seconds.of(name):
                for each in group:
                    if each.whole_pages:
                        computed[each.feature.name] = np.asarray(each.compute(whole))[kept]
        return computed

    def _columns(self, rows: pa.Table) -> dict[str, Num[np.ndarray, " rows"]]:
        names = ("ts_us", "position", "search_idx", "product_idx", "query_idx")
        columns = {name: rows[name].to_numpy() for name in names}
        columns |= {name: values[columns["product_idx"]] for name, values in self.product_numbers.items()}
        if self.price_in_rows:
            columns[PRICE] = numbers(rows[PRICE])
        return columns

    def _whole_pages(self) -> Iterator[tuple[int, pa.Table]]:
        """Rows of whole pages with the number of the first; where they are cut depends on nothing but the rows."""
        wanted = [name for name in self.files.rows.table.columns if name != ROW]
        waiting: list[pa.RecordBatch] = []
        start = n_waiting = 0
        for part in self.files.rows.batches(wanted):
            waiting.append(part)
            n_waiting += len(part)
            while n_waiting > BATCH_ROWS:
                table = pa.Table.from_batches(waiting)
                search_idx = table["search_idx"].to_numpy()
                # The row at the grid's next line belongs to the next batch, with its whole page.
                cut = int(np.searchsorted(search_idx, search_idx[BATCH_ROWS]))
                if cut == 0:
                    cut = int(np.searchsorted(search_idx, search_idx[0], side="right"))
                    if cut == n_waiting:
                        break
                yield start, table.slice(0, cut).combine_chunks()
                start, n_waiting = start + cut, n_waiting - cut
                waiting = table.slice(cut).to_batches()
        if n_waiting:
            yield start, pa.Table.from_batches(waiting).combine_chunks()
