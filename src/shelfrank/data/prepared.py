"""PreparedData: columnar, memory-mapped arrays, so that training never parses anything.

Per split a folder of `.npy` arrays whose rows are grouped by search, searches in order of time, products in the order
shown. `columns.json` names the columns; `encoder.json` says how raw values became these numbers.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int8, Int32, Int64, UInt64

from shelfrank.core.artifact import Manifest, read_manifest
from shelfrank.core.errors import UserError
from shelfrank.core.folds import FOLDS, refuse_folds
from shelfrank.core.hashing import mixed_bits
from shelfrank.core.schema import Side

KIND = "prepared_data"
MISSING_SUFFIX = "__missing"
"""Separates a number's name from its missing flag's suffix."""
Neutral = Literal["anonymous", "zero", "mean"]
"""Kinds of neutral customers; see `Split.neutral`."""
SPLITS = ("train", "valid", "test")
SAMPLING_OFFSETS = "sampling_offsets.npy"
"""The file of what sampling added to the log-odds of training rows, by product and task; absent without sampling."""
LAST_OF_SESSION = "last_of_session"
"""The column of `searches` that marks the last search of its session."""
ARRAYS = (
    "numerical",
    "categorical",
    "labels",
    "query_idx",
    "product_idx",
    "customer_idx",
    "position",
    "tie_keys",
    "search_offsets",
)
"""The arrays of every split's folder; `relevance` may be beside them."""
ROW_ARRAYS = (*ARRAYS[:-1], "relevance")
"""The arrays of a `Split` that have a value per row."""


@dataclass(frozen=True)
class Column:
    """One column of `numerical` or `categorical`.

    Attributes:
        name: The feature's name.
        side: Whom it describes.
        size: Codes of a categorical column, 0 included; 0 for a numerical one.
        zero: The encoded raw 0 (numerical) or default value (categorical).
        mean: The encoded training mean (numerical) or default value (categorical).
        missing: What a missing value became; of a customer feature that is computed, as history is, what nothing known
            of the customer became; of a feature with `made_of`, what these unknown make of it.
        made_of: The declared features that a computed one depends on: of the share of a query's clicks that went to
            the product's brand, the brand.
    """

    name: str
    side: Side
    size: int
    zero: float
    mean: float
    missing: float = 0.0
    made_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """The rows of one split, columns as declared in `numerical_columns` and `categorical_columns`.

    Attributes:
        name: Which split.
        tasks: The tasks of `labels`, in order.
        numerical: Standardised numbers.
        categorical: Codes; 0 is unknown or default.
        labels: 1, 0, or -1 where the label is missing.
        query_idx: Row of the query in `texts/queries.parquet`.
        product_idx: Row of the product in `texts/products.parquet`.
        customer_idx: Row of the customer in `customers.parquet`; -1 is anonymous.
        position: Position at which the product was shown, below 1 where unknown; only the shown order scores by it.
        tie_keys: Fixed hash of (search, product) that breaks ties between equal scores.
        search_offsets: Rows of search i are `search_offsets[i]` to `search_offsets[i + 1]`.
        numerical_columns: The columns of `numerical`.
        categorical_columns: The columns of `categorical`.
        relevance: Class of each row's relevance, a higher one the more relevant, or -1 where the row has no label
            (Paper: Sec. 3.5); one value stands for every row, and left out, no row has one.
        relevance_classes: How many classes there are; 0 where the data has no relevance labels.
        offsets: What sampling added to the log-odds of a product's rows, by task; None where rows were not sampled.
    """

    name: str
    tasks: tuple[str, ...]
    numerical: Float32[np.ndarray, "rows n_num"]
    categorical: Int32[np.ndarray, "rows n_cat"]
    labels: Int8[np.ndarray, "rows n_tasks"]
    query_idx: Int32[np.ndarray, " rows"]
    product_idx: Int32[np.ndarray, " rows"]
    customer_idx: Int32[np.ndarray, " rows"]
    position: Int32[np.ndarray, " rows"]
    tie_keys: UInt64[np.ndarray, " rows"]
    search_offsets: Int64[np.ndarray, " searches_plus_1"]
    numerical_columns: tuple[Column, ...]
    categorical_columns: tuple[Column, ...]
    relevance: Int8[np.ndarray, "#rows"] = field(default_factory=lambda: np.full(1, -1, np.int8))
    relevance_classes: int = 0
    offsets: Float32[np.ndarray, "n_products n_tasks"] | None = None

    def __post_init__(self) -> None:
        rows = len(self.labels)
        if len(self.relevance) == 1:
            # A view that repeats the value: a split of many rows needs no memory for labels that it lacks.
            object.__setattr__(self, "relevance", np.broadcast_to(self.relevance, rows))
        for name in ROW_ARRAYS:
            assert len(getattr(self, name)) == rows, f"{name} must have {rows} rows"
        assert self.numerical.shape[1] == len(self.numerical_columns), "every numerical column must be named"
        assert self.categorical.shape[1] == len(self.categorical_columns), "every categorical column must be named"
        assert int(self.search_offsets[-1]) == rows, "the last search must end at the last row"
        assert self.offsets is None or self.offsets.shape[1] == self.labels.shape[1], "each task must have its offsets"

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        return len(self.labels)

    @property
    def n_searches(self) -> int:
        """Searches in all."""
        return len(self.search_offsets) - 1

    def column(self, name: str) -> Float32[np.ndarray, " rows"]:
        """The numerical column of this name; an absent one is a `UserError`."""
        for index, column in enumerate(self.numerical_columns):
            if column.name == name:
                return self.numerical[:, index]
        raise UserError(
            f"the prepared data must have the numerical feature {name!r}, but it has not; prepare with it switched on"
        )

    def select(self, sides: Iterable[Side] = (), names: Iterable[str] = ()) -> "Split":
        """The same rows without the features of the given sides and names; an unknown name is a `UserError`."""
        left_out, sides = set(names), set(sides)
        known = {column.name for column in (*self.numerical_columns, *self.categorical_columns)}
        if left_out - known:
            raise UserError(
                f"exclude_features must name features of the prepared data, but {', '.join(sorted(left_out - known))} "
                f"is none of {', '.join(sorted(known))}"
            )
        if not left_out and not sides:
            return self
        numbers = [i for i, c in enumerate(self.numerical_columns) if c.side not in sides and c.name not in left_out]
        codes = [i for i, c in enumerate(self.categorical_columns) if c.side not in sides and c.name not in left_out]
        return replace(
            self,
            numerical=np.ascontiguousarray(self.numerical[:, numbers]),
            categorical=np.ascontiguousarray(self.categorical[:, codes]),
            numerical_columns=tuple(self.numerical_columns[i] for i in numbers),
            categorical_columns=tuple(self.categorical_columns[i] for i in codes),
        )

    def neutral(self, mode: Neutral) -> "Split":
        """The same rows with every customer feature at its neutral value (Paper: Sec. 4.3, Eq. (16)).

        Differs: `anonymous` has the values that the service gives an unknown visitor; `zero` is the raw
        zero, as printed, which standardisation moves away from 0; `mean` is the training mean. Histories and sessions
        count as customer features.
        """
        numerical, categorical = np.array(self.numerical), np.array(self.categorical)
        make_neutral(numerical, categorical, self.numerical_columns, self.categorical_columns, mode)
        return replace(self, numerical=numerical, categorical=categorical)

    def searches(self, chosen: Int64[np.ndarray, " chosen"]) -> "Split":
        """The rows of the chosen searches only, in the given order."""
        starts, ends = self.search_offsets[chosen], self.search_offsets[chosen + 1]
        sizes = ends - starts
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
        picked = {name: getattr(self, name)[rows] for name in ROW_ARRAYS}
        return replace(self, search_offsets=offsets, **picked)

    def run_of_searches(self, first: int, end: int) -> "Split":
        """The rows of the searches from one on and before another, without copying any."""
        offsets = self.search_offsets[first : end + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        picked = {name: getattr(self, name)[rows] for name in ROW_ARRAYS}
        return replace(self, search_offsets=offsets - offsets[0], **picked)


def tie_order(rows: Split) -> Int64[np.ndarray, " rows"]:
    """Row indices that sort each search by ascending tie key, searches staying in their places.

    What is computed in this order does not depend on the order in which a page was shown. The boosting libraries break
    ties between scores, and round sums, by the order of rows: in this one they break ties as our metrics do.
    """
    return np.lexsort((rows.tie_keys, search_of_rows(rows)))


def search_of_rows(rows: Split) -> Int64[np.ndarray, " rows"]:
    """Index of each row's search."""
    return np.repeat(np.arange(rows.n_searches), np.diff(rows.search_offsets))


def one_after_another(splits: Sequence[Split]) -> Split:
    """The rows of several splits as those of one, without their features, which each fold encodes in its own way."""
    rows = {
        name: np.concatenate([getattr(split, name) for split in splits])
        for name in ROW_ARRAYS
        if name not in ("numerical", "categorical")
    }
    starts = np.cumsum([0, *(split.n_rows for split in splits)])
    offsets = [np.asarray(split.search_offsets[1:]) + start for split, start in zip(splits, starts[:-1], strict=True)]
    return replace(
        splits[0],
        numerical=np.empty((starts[-1], 0), np.float32),
        categorical=np.empty((starts[-1], 0), np.int32),
        numerical_columns=(),
        categorical_columns=(),
        search_offsets=np.concatenate([[0], *offsets]).astype(np.int64),
        **rows,
    )


@dataclass(frozen=True)
class PreparedData:
    """A finished folder of prepared data, or of its folds.

    Attributes:
        path: The folder.
        manifest: Its manifest.
        tasks: The tasks.
        numerical_columns: The columns of `numerical`.
        categorical_columns: The columns of `categorical`.
        relevance_classes: How many classes relevance labels have; 0 where there are none.
        folds: The folds that the folder holds, whose test splits together are its own; else none.
        marked: A split and a column of its searches: only the searches with this mark are of the split. None has all.
    """

    path: Path
    manifest: Manifest
    tasks: tuple[str, ...]
    numerical_columns: tuple[Column, ...]
    categorical_columns: tuple[Column, ...]
    relevance_classes: int
    folds: tuple["PreparedData", ...] = ()
    marked: tuple[str, str] | None = None

    @classmethod
    def open_folds(cls, path: Path) -> "PreparedData":
        """Opens a finished folder, which may hold folds; a missing, half-written or truncated one is a `UserError`."""
        manifest = read_manifest(path, KIND)
        if FOLDS not in manifest.info:
            return cls.open(path)
        folds = tuple(cls.open(path / name) for name in manifest.info[FOLDS])
        return replace(
            folds[-1], path=path, manifest=manifest, numerical_columns=(), categorical_columns=(), folds=folds
        )

    @classmethod
    def open(cls, path: Path) -> "PreparedData":
        """Opens a finished folder; a missing, half-written or truncated one, or one of folds, is a `UserError`."""
        manifest = read_manifest(path, KIND)
        refuse_folds(path, manifest)
        file = path / "columns.json"
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            tasks = tuple(data["tasks"])
            numerical, categorical = (
                tuple(_column(item) for item in data[kind]) for kind in ("numerical", "categorical")
            )
            relevance_classes = int(data.get("relevance_classes", 0))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} must name the columns, but it cannot be read: {error}; prepare again") from error
        return cls(path, manifest, tasks, numerical, categorical, relevance_classes)

    @property
    def parts(self) -> tuple["PreparedData", ...]:
        """The folds or, without any, the data itself."""
        return self.folds or (self,)

    def only(self, name: str, mark: str) -> "PreparedData":
        """The same data with only those searches of a split that have a mark.

        Args:
            name: The split.
            mark: `last_of_session` or `randomised`, a column of `searches`.

        Returns:
            The data.

        Raises:
            UserError: Where the log does not say which searches these are, or none of the split has the mark.
        """
        if mark not in self.searches(name).column_names:
            needs = "session_id" if mark == LAST_OF_SESSION else mark
            raise UserError(
                f"the log must have the column {needs} to evaluate only {mark}, but {self.path} was prepared from one "
                "without it, or by an older version; import the column and prepare again, or remove evaluate.only"
            )
        folds = tuple(replace(fold, marked=(name, mark)) for fold in self.folds)
        found = replace(self, folds=folds, marked=(name, mark))
        if not found.searches(name).num_rows:
            raise UserError(
                f"the {name} split of {self.path} must have searches marked {mark}, but it has none; remove "
                "evaluate.only"
            )
        return found

    def unmarked(self) -> "PreparedData":
        """The same data with all searches of every split."""
        return replace(self, folds=tuple(fold.unmarked() for fold in self.folds), marked=None)

    def split(self, name: str) -> Split:
        """One split's rows, memory-mapped; of folds the test splits', one after another and without features."""
        assert name in SPLITS, name
        if self.folds:
            assert name == "test", f"only the test splits of folds belong together, not {name}"
            return one_after_another([fold.split(name) for fold in self.folds])
        split = self._whole_split(name)
        return split if self.marked is None or self.marked[0] != name else split.searches(self._chosen(name))

    def _chosen(self, name: str) -> Int64[np.ndarray, " chosen"]:
        """The searches of a split that have the mark."""
        assert self.marked is not None
        marks = self._all_searches(name)[self.marked[1]].fill_null(False)
        return np.flatnonzero(marks.to_numpy(zero_copy_only=False)).astype(np.int64)

    def _whole_split(self, name: str) -> Split:
        folder = self.path / name
        arrays: dict[str, Any] = {array: map_array(folder / f"{array}.npy") for array in ARRAYS}
        if self.relevance_classes and (folder / "relevance.npy").is_file():
            arrays["relevance"] = map_array(folder / "relevance.npy")
        if name == SPLITS[0] and (self.path / SAMPLING_OFFSETS).is_file():
            arrays["offsets"] = np.array(map_array(self.path / SAMPLING_OFFSETS))
        return Split(
            name=name,
            tasks=self.tasks,
            numerical_columns=self.numerical_columns,
            categorical_columns=self.categorical_columns,
            relevance_classes=self.relevance_classes,
            **arrays,
        )

    def searches(self, name: str) -> pa.Table:
        """`search_id`, `timestamp` and `customer_id` of each search of a split, in order.

        Where the log has them, also the marks `last_of_session` and `randomised`, null where not known.
        """
        if self.folds:
            return pa.concat_tables([fold.searches(name) for fold in self.folds])
        searches = self._all_searches(name)
        return searches if self.marked is None or self.marked[0] != name else searches.take(self._chosen(name))

    def _all_searches(self, name: str) -> pa.Table:
        return pq.read_table(self.path / name / "searches.parquet")

    def queries(self) -> pa.Table:
        """The unique queries; row i is `query_idx` i."""
        return pq.read_table(self.parts[-1].path / "texts" / "queries.parquet")

    def products(self) -> pa.Table:
        """The unique products; row i is `product_idx` i."""
        return pq.read_table(self.parts[-1].path / "texts" / "products.parquet")

    def feature_notes(self) -> list[str]:
        """Notes of preparing on features that it kept: suspected leaks, defaults of no use, clipped numbers."""
        info = self.manifest.info
        # Folders of other makers, such as the census, list neither defaults nor leaks.
        lost = sorted(info.get("lost_defaults", {}).items())
        suspects = info.get("suspect_features", {})
        return [
            *(f"feature {name} may be a leak: {suspect['text']}" for name, suspect in suspects.items()),
            *(f"default of {name} of no use: {why}" for name, why in lost),
            *clipped_lines(info.get("clipped", {})),
        ]


def clipped_lines(clipped: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence for each feature with numbers that are clipped, from the rows by feature and split."""
    lines = []
    for name, splits in sorted(clipped.items()):
        rows = " and ".join(f"{count:,} {split} rows" for split, count in splits.items())
        lines.append(f"{name} of {rows} is clipped to the range of the training rows")
    return lines


def make_neutral(
    numerical: Float32[np.ndarray, "rows n_num"],
    categorical: Int32[np.ndarray, "rows n_cat"],
    numerical_columns: Sequence[Column],
    categorical_columns: Sequence[Column],
    mode: Neutral,
) -> None:
    """Sets every customer feature of some rows to its neutral value, in place; see `Split.neutral`."""
    for index, column in enumerate(numerical_columns):
        if column.side is Side.CUSTOMER:
            numerical[:, index] = {"anonymous": column.missing, "zero": column.zero, "mean": column.mean}[mode]
    for index, column in enumerate(categorical_columns):
        if column.side is Side.CUSTOMER:
            categorical[:, index] = int(column.missing if mode == "anonymous" else column.zero)


def save_columns(
    path: Path,
    tasks: Sequence[str],
    numerical: Sequence[Column],
    categorical: Sequence[Column],
    relevance_classes: int = 0,
) -> None:
    """Writes `columns.json` of a folder being prepared."""
    data = {
        "tasks": list(tasks),
        "numerical": [vars(column) for column in numerical],
        "categorical": [vars(column) for column in categorical],
        # Data without relevance labels keeps the bytes, and so the fingerprint, that it had before there were any.
        **({"relevance_classes": relevance_classes} if relevance_classes else {}),
    }
    (path / "columns.json").write_text(json.dumps(data, indent=1), encoding="utf-8")


def id_hashes(ids: Iterable[str]) -> UInt64[np.ndarray, " ids"]:
    """A fixed 64-bit hash of each id, the same on every machine and engine."""
    return np.array(
        [int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8).digest(), "little") for i in ids],
        dtype=np.uint64,
    )


def tie_keys(
    search_hashes: UInt64[np.ndarray, " rows"], product_hashes: UInt64[np.ndarray, " rows"]
) -> UInt64[np.ndarray, " rows"]:
    """A fixed hash of each (search, product) pair, by which equal scores are ordered."""
    return mixed_bits(search_hashes * np.uint64(0x9E3779B97F4A7C15) ^ product_hashes)


def _column(item: dict[str, Any]) -> Column:
    # Folders made before these were known lack them, and cannot be trained on as they are.
    return Column(**{**item, "side": Side(item["side"]), "missing": item["missing"], "made_of": tuple(item["made_of"])})


def map_array(file: Path) -> np.ndarray:
    """Maps a `.npy` file into memory; an empty one, which cannot be mapped, is read. A broken one is a `UserError`."""
    try:
        array = np.load(file, mmap_mode="r")
    except ValueError as error:
        if "mmap" not in str(error) and "empty" not in str(error):
            raise UserError(f"{file} must be a NumPy array, but it cannot be read: {error}; prepare again") from error
        return np.load(file)
    return array
