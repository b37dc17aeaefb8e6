"""Search logs from Python: simulated, and imported from tables in memory."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

import shelfrank as sr
from shelfrank.logs.search_log import SearchLog as FinishedLog
from small_log import IMPRESSION_TYPES, small_tables

ROLES = {
    "search_id": "page",
    "timestamp": "shown_at",
    "customer_id": "user",
    "session_id": "visit",
    "query": "words",
    "product_id": "sku",
    "position": "rank",
    "click": "clicked",
}
FEATURES: dict[str, Any] = {
    "device": {"side": "context", "kind": "categorical"},
    "brand": {"side": "product", "kind": "categorical"},
    "price": {"name": "price_usd", "side": "product", "kind": "numerical", "log1p": True},
    "age_band": {"side": "customer", "kind": "categorical"},
}


def test_a_log_is_simulated_once(tmp_path: Path) -> None:
    made = [sr.simulate(out=tmp_path / "log", searches=30, products=100, customers=10, days=3) for _ in range(2)]
    assert [log.changed for log in made] == [True, False]
    assert made[0].path == tmp_path / "log"
    assert made[0].info["rows"]["impressions"] > 0
    assert not [each for each in sr.validate(made[0]) if each.severity == "error"]


def frames() -> dict[str, pa.Table]:
    """A shop's tables whose columns are called otherwise than the roles."""
    tables = small_tables(40)
    impressions = pa.Table.from_pylist(tables["impressions"], schema=IMPRESSION_TYPES)
    products, customers, events = (pa.Table.from_pylist(tables[name]) for name in ("products", "customers", "events"))
    renamed = [ROLES.get(name, name) for name in impressions.column_names]
    return {
        "impressions": impressions.rename_columns(renamed),
        "products": products,
        "customers": customers,
        "events": events,
    }


COLUMNS = {"impressions": {name: role for role, name in ROLES.items()}}


def custom_log(folder: Path, suffix: str) -> sr.SearchLog:
    """The custom import of the same tables as files."""
    columns: dict[str, Any] = {
        "impressions": {
            **COLUMNS["impressions"],
            "add_to_cart": "add_to_cart",
            "purchase": "purchase",
            "device": FEATURES["device"],
        },
        "products": {
            "product_id": "product_id",
            "title": "title",
            "brand": FEATURES["brand"],
            "price": FEATURES["price"],
        },
        "customers": {"customer_id": "customer_id", "age_band": FEATURES["age_band"]},
        "events": {name: name for name in ("timestamp", "customer_id", "session_id", "product_id", "action")},
    }
    for name, rows in frames().items():
        if suffix == "parquet":
            pq.write_table(rows, folder / f"{name}.parquet")
        else:
            pyarrow.csv.write_csv(rows, folder / f"{name}.csv")
    files = {name: f"{name}.{suffix}" for name in columns}
    mapping = {"name": "log", "tables": files, "columns": columns}
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    return sr.import_log("custom", folder / "mapping.yaml", out=folder / "custom")


def contents(log: sr.SearchLog) -> dict[str, Any]:
    opened = FinishedLog.open(log.path)
    tables = {
        table: pa.concat_tables(pq.read_table(file) for file in opened.files(table)).to_pylist() for table in frames()
    }
    return {"schema": opened.schema, **tables}


class OnlyAStream:
    """A table that is known by the Arrow PyCapsule interface alone."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._rows.__arrow_c_stream__(requested_schema)


class OnlyToArrow:
    """A table that can only be turned into Arrow."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def to_arrow(self) -> pa.Table:
        return self._rows


def with_views(rows: pa.Table) -> OnlyAStream:
    """Texts as Polars exports them."""
    fields = [(each.name, pa.string_view() if pa.types.is_string(each.type) else each.type) for each in rows.schema]
    return OnlyAStream(rows.cast(pa.schema(fields)))


def with_an_index(rows: pa.Table) -> pd.DataFrame:
    """A pandas frame of which rows were left out, and whose texts are categories."""
    frame = rows.to_pandas()
    frame = pd.concat([frame.iloc[:1], frame]).iloc[1:]
    return frame.astype({name: "category" for name in ("brand", "device") if name in frame})


def as_polars(rows: pa.Table) -> Any:
    return pytest.importorskip("polars").from_arrow(rows)


@pytest.fixture(scope="module")
def custom_logs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return [contents(custom_log(tmp_path_factory.mktemp(suffix), suffix)) for suffix in ("parquet", "csv")]


@pytest.mark.parametrize(
    "library", [lambda rows: rows, pa.Table.to_pandas, as_polars, OnlyAStream, OnlyToArrow, with_views, with_an_index]
)
def test_tables_in_memory_give_the_log_of_the_same_files(
    library: Any, custom_logs: list[dict[str, Any]], tmp_path: Path
) -> None:
    given = {name: library(rows) for name, rows in frames().items()}
    log = sr.SearchLog.from_frames(**given, out=tmp_path / "log", columns=COLUMNS, features=FEATURES)
    assert log.changed
    assert [contents(log)] * 2 == custom_logs


def test_the_same_tables_are_imported_once(tmp_path: Path) -> None:
    made = [
        sr.SearchLog.from_frames(**frames(), out=tmp_path / "log", columns=COLUMNS, features=FEATURES) for _ in range(2)
    ]
    assert [log.changed for log in made] == [True, False]
    assert sr.prepare(made[1], out=tmp_path / "prepared", engine={"threads": 1}).changed


def test_impressions_alone_are_enough(tmp_path: Path) -> None:
    wide = frames()["impressions"].rename_columns(dict(zip(ROLES.values(), ROLES, strict=True))).to_pandas()
    log = sr.SearchLog.from_frames(
        impressions=wide,
        out=tmp_path / "log",
        features={"position": {"name": "engine_rank", "side": "context", "kind": "numerical"}},
    )
    assert log.info["rows"]["impressions"] == len(wide)
    assert [feature.name for feature in FinishedLog.open(log.path).schema.features] == ["engine_rank"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"impressions": [1, 2]}, "impressions must be a table of pandas.*list"),
        ({"impressions": pd.Series([1])}, "impressions must "),
        ({"columns": {"impression": {}}}, "unknown table in `columns` 'impression'"),
        ({"columns": {"impressions": {"page": "serch_id"}}}, "unknown role of impressions 'serch_id'"),
        ({"columns": {"impressions": {"pge": "search_id"}}}, "unknown column of impressions.parquet 'pge'"),
        ({"features": {"colour": {"side": "product", "kind": "categorical"}}}, "unknown column in `features` 'colour'"),
        ({"features": {"brand": {"side": "product"}}}, "columns.products.brand.*`side` and `kind`"),
        ({"features": {"brand": {"side": "prduct", "kind": "categorical"}}}, "columns.products.brand.*'prduct'"),
        (
            {"timestamp_units": "s"},
            r"from_frames: timestamp_units: unknown key, did you mean timestamp_unit\?",
        ),
        ({"feature": {}}, r"from_frames: feature: unknown key, did you mean features\?"),
        ({"zzz": 1}, "from_frames: zzz: unknown key, choose one of impressions, .* timestamp_unit"),
        (
            {"impressions": pd.DataFrame({"page": ["a", "b"], "rank": [1, "2nd"]})},
            "impressions must hold values of one type .*, but 'rank' holds int and str, such as 1 and '2nd'; convert",
        ),
        ({"tables": {}}, "tables must not be among the settings"),
    ],
)
def test_what_is_wrong_with_tables_in_memory_is_said(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {**frames(), "columns": COLUMNS, "features": FEATURES, **changes}
    with pytest.raises(sr.UserError, match=said) as error:
        sr.SearchLog.from_frames(**given, out=tmp_path / "log")
    assert "shelfrank-frames-" not in str(error.value)
    assert not (tmp_path / "log").exists()


def test_a_misspelt_table_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(sr.UserError, match=r"'impresions': choose one of .*; did you mean 'impressions'"):
        sr.SearchLog.from_frames(impresions=frames()["impressions"], out=tmp_path / "log")  # pyright: ignore[reportCallIssue]
