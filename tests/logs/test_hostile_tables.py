"""Whatever a table holds, an import ends with a log that can be prepared, or says what must hold and what to do."""

import datetime as dt
import decimal
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shelfrank.config import PrepareConfig
from shelfrank.core.errors import UserError
from shelfrank.logs.custom import import_custom
from shelfrank.logs.sources import SOURCES
from shelfrank.logs.ubi.importer import import_ubi
from shelfrank.logs.validate import validate
from shelfrank.prepare.pipeline import prepare

FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)

NAMES = [
    "by", "self", "having", "metrics", "name", "select", "order by", "a.b", 'q"uote', "it's", "🙂", "ß", " ", "", "n",
    "Price", "price", "PRICE", "row", "Row", "search_idx", "raw_impressions", "column 0",
    "column_0", "price__missing", "split",
    "known_0", "title", "Query", "timestamp", "count", "x" * 300, "a\nb", "a\tb", "null", "%s", "{name}",
    "product_clicks",
]  # fmt: skip
CELLS: dict[str, Any] = {
    "text": ["a", "", None, "NULL"],
    "nul": ["a\0b", "\0", "b", None],
    "long": ["x" * 100_000, "y", "z", None],
    "huge numbers": ["1" * 40, "9" * 400, "1e999", "-1e999"],
    "numbers as text": ["1,234.5", "1.234,5", " 3 ", "3.0"],
    "float": [float("nan"), float("inf"), -1e308, None],
    "int64": [2**63 - 1, -(2**63), 0, None],
    "uint64": pa.array([2**64 - 1, 0, 1, None], pa.uint64()),
    "int8": pa.array([127, -128, 0, None], pa.int8()),
    "bool": [True, False, True, None],
    "null": pa.nulls(4),
    "decimal": [decimal.Decimal("1.00"), decimal.Decimal("-99999999.99"), decimal.Decimal(0), None],
    "large decimal": pa.array([decimal.Decimal(10**37), decimal.Decimal(0), None, None], pa.decimal128(38, 0)),
    "decimal256": pa.array([decimal.Decimal(10**37), decimal.Decimal(0), None, None], pa.decimal256(50, 0)),
    "list": [["a"], [], None, ["b"]],
    "struct": [{"a": 1}, {"a": 2}, None, {"a": 3}],
    "map": pa.array([[("a", 1)], [], None, []], pa.map_(pa.string(), pa.int64())),
    "binary": [b"a", b"\xff", b"", None],
    "fixed": pa.array([b"ab", b"cd", None, b"\xff\xff"], pa.binary(2)),
    "dictionary": pa.array(["a", "b", None, "a"]).dictionary_encode(),
    "time": pa.array([0, 1, None, 86_399], pa.time32("s")),
    "date": [dt.date(2024, 5, 1), dt.date(1, 1, 1), dt.date(9999, 12, 31), None],
    "wild times": pa.array([0, 2**62, -(2**62), None], pa.timestamp("us")),
    "zoned ns": pa.array([1_714_564_800_000_000_000, 0, 2**62, None], pa.timestamp("ns", tz="Europe/Berlin")),
    "duration": pa.array([1, 2, 3, None], pa.duration("s")),
    "times": ["2024-05-31 18:04 Europe/Berlin", "infinity", "epoch", "2024-05-31 18:04 CEST"],
    "seconds": [1_714_564_800, 10**18, -1, 0],
}
GOOD: dict[str, tuple[str, Any]] = {
    "search_id": ("page", ["1", "1", "2", "2"]),
    "timestamp": ("at", [dt.datetime(2024, 5, day, tzinfo=dt.UTC) for day in (1, 1, 2, 2)]),
    "query": ("words", ["shoe", "shoe", "hat", "hat"]),
    "product_id": ("sku", ["a", "b", "a", "b"]),
    "position": ("rank", [1, 2, 1, 2]),
    "click": ("clicked", [1, 0, 0, 1]),
    "title": ("label", ["A", "B", "A", "B"]),
    "customer_id": ("user", ["u", "u", None, None]),
}


TOO_FEW = ("a log must have at least 3 searches to be split, but it has", "every split must get at least one search")
NONE_LEFT = "the log must hold at least one search, but no search is left"
PARTS = (" must ", " but ", "; ")
"""What every sentence has: what must hold, what was given, and what to do."""


def ends_well(step: Callable[[], object], *causes: str) -> bool:
    """Whether a step succeeds; the only other end is a `UserError` that names one of these causes."""
    try:
        step()
    except UserError as error:
        assert_helpful(str(error), causes)
        return False
    return True


def assert_helpful(text: str, causes: tuple[str, ...]) -> None:
    assert all(part in text for part in PARTS), text
    assert any(cause in text for cause in causes), (text, causes)


def causes_of(column: str, name: str) -> list[str]:
    """How sentences call a column of the file, and the log's column that is made of it; short names are in any text."""
    own = [repr(column), f"  {column}: must ", f"{column} of wide.parquet must ", f"{name}s of "]
    return [*own, *(f"  {table}.{name}: must " for table in ("impressions", "products", "customers"))]


def import_and_prepare(mapping: Path, out: Path, *causes: str) -> bool:
    """Whether the import succeeds; only the small size of the log may keep it from being prepared."""
    if not ends_well(lambda: import_custom(mapping, out / "log"), *causes):
        return False
    assert not [each for each in validate(out / "log") if each.severity == "error"]
    ends_well(lambda: prepare(out / "log", out / "prepared", PrepareConfig()), *TOO_FEW)
    return True


@pytest.mark.parametrize(
    ("text", "causes"),
    [
        ("internal error", ("price",)),
        ("price is wrong", ("price",)),
        ("price must be a number, but it is text", ("price",)),
        ("brand must be a number, but it is text; mend it", ("price",)),
    ],
)
def test_a_sentence_that_does_not_help_fails(text: str, causes: tuple[str, ...]) -> None:
    def fail() -> None:
        raise UserError(text)

    with pytest.raises(AssertionError):
        ends_well(fail, *causes)


VALID = {
    "categorical": [
        "text",
        "numbers as text",
        "int64",
        "uint64",
        "int8",
        "bool",
        "decimal",
        "dictionary",
        "time",
        "date",
    ],
    "numerical": ["int64", "uint64", "int8", "bool", "decimal"],
    "text": ["text", "long", "int64", "date"],
}


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("kind", VALID)
def test_features_of_valid_types_are_imported_whatever_their_names(kind: str, first: int, tmp_path: Path) -> None:
    side = "product" if kind == "text" else "context"
    # Names that are blank, hold control characters, differ by case only, or are those of roles are refused.
    refused = ("price", "row", "title", "query", "timestamp")
    names = [name for name in NAMES if name.lower() not in refused and name.strip() and name.isprintable()]
    # Each import has every type, and each name has another type in each import.
    cells = [CELLS[VALID[kind][(first + place) % len(VALID[kind])]] for place in range(len(names))]
    table = pa.table({**dict(GOOD.values()), **dict(zip(names, cells, strict=True))})
    columns: dict[str, Any] = {column: role for role, (column, _) in GOOD.items()}
    columns |= {name: {"side": side, "kind": kind} for name in names}
    pq.write_table(table, tmp_path / "wide.parquet")
    assert import_custom(write_mapping(tmp_path, "wide.parquet", columns), tmp_path / "log")


@pytest.mark.parametrize(
    ("role", "cell"),
    [
        ("title", "text"),
        ("title", "int64"),
        ("customer_id", "text"),
        ("customer_id", "int64"),
        ("customer_id", "uint64"),
        ("customer_id", "dictionary"),
        ("customer_id", "decimal"),
        ("click", "bool"),
    ],
)
def test_roles_of_valid_types_are_imported(role: str, cell: str, tmp_path: Path) -> None:
    values = CELLS[cell] if isinstance(CELLS[cell], pa.Array) else pa.array(CELLS[cell])
    # The same for all products of a search; a label is known for all of them.
    values = values.take(pa.array([0, 0, 1, 1] if role == "customer_id" else [0, 1, 2, 1]))
    pq.write_table(pa.table({**dict(GOOD.values()), GOOD[role][0]: values}), tmp_path / "wide.parquet")
    uses = {column: name for name, (column, _) in GOOD.items()}
    assert import_custom(write_mapping(tmp_path, "wide.parquet", uses), tmp_path / "log")


def write_mapping(folder: Path, file: str, columns: dict[str, Any], **changes: Any) -> Path:
    mapping = {"name": "shop", "tables": {"impressions": file}, "columns": {"impressions": columns}} | changes
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping, allow_unicode=True), encoding="utf-8")
    return folder / "mapping.yaml"


@FEW
@given(
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    cells=st.lists(st.sampled_from(sorted(CELLS)), min_size=4, max_size=4),
    kinds=st.lists(st.sampled_from(["categorical", "numerical", "text"]), min_size=4, max_size=4),
    side=st.sampled_from(["product", "context", "customer", "query"]),
    n_rows=st.integers(0, 4),
)
def test_features_of_any_name_and_type(
    names: list[str], cells: list[str], kinds: list[str], side: str, n_rows: int
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = pa.table(dict(GOOD.values()))
        columns: dict[str, Any] = {column: role for role, (column, _) in GOOD.items()}
        for name, cell, kind in zip(names, cells, kinds, strict=False):
            if name not in table.column_names:
                table = table.append_column(
                    name, pa.array(CELLS[cell]) if isinstance(CELLS[cell], list) else CELLS[cell]
                )
                columns[name] = {"side": side, "kind": kind}
        pq.write_table(table.slice(0, n_rows), folder / "wide.parquet")
        causes = [cause for name in names for cause in causes_of(name, name)] + ([] if n_rows else [NONE_LEFT])
        import_and_prepare(write_mapping(folder, "wide.parquet", columns), folder, *causes)


@FEW
@given(role=st.sampled_from(sorted(GOOD)), cell=st.sampled_from(sorted(CELLS)), unit=st.sampled_from([None, "s", "ns"]))
def test_roles_of_any_type(role: str, cell: str, unit: str | None) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        columns = dict(GOOD.values()) | {GOOD[role][0]: CELLS[cell]}
        pq.write_table(pa.table(columns), folder / "wide.parquet")
        uses = {column: name for name, (column, _) in GOOD.items()}
        mapping = write_mapping(folder, "wide.parquet", uses, timestamp_unit=unit)
        import_and_prepare(mapping, folder, *causes_of(GOOD[role][0], role))


@FEW
@given(
    pieces=st.lists(
        st.one_of(
            st.sampled_from(["1,2024-05-01T12:00:00Z,shoe,a,1,1,A,u", "page,at,words,sku,rank,clicked,label,user", ""]),
            st.text(alphabet="a1,;\"\\\t|\0é🙂 '", max_size=30),
        ),
        max_size=6,
    ),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    other_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"]),
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz"]),
)
def test_text_of_any_kind(pieces: list[str], end: str, other_end: str, encoding: str, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = ["page,at,words,sku,rank,clicked,label,user", "1,2024-05-01T12:00:00Z,shoe,a,1,1,A,u", *pieces]
        content = end.join(lines[:2]) + end + other_end.join(lines[2:])
        (folder / f"wide{suffix}").write_bytes(content.encode(encoding))
        uses = {column: name for name, (column, _) in GOOD.items()}
        mapping = write_mapping(folder, f"wide{suffix}", uses)
        is_imported = import_and_prepare(mapping, folder, f"wide{suffix}", "impressions.", *uses)
        is_plain = set(pieces) <= {"", lines[0]} and encoding != "utf-16-le" and suffix != ".csv.gz"
        assert is_imported or not is_plain


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(),
        st.sampled_from(["1", "a", "", "\0", "1e400"]),
        st.sampled_from(["2024-05-01T12:00:00Z", 1_714_564_800_000, "click", "impression", 0, 1, 2]),
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["object_id", "ordinal"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@FEW
@given(
    queries=st.lists(
        st.fixed_dictionaries(
            {"query_id": st.sampled_from(["q1", "q2"]), "user_query": st.sampled_from(["shoe", "\0", None])},
            optional={"timestamp": JSON, "client_id": JSON, "query_response_hit_ids": st.lists(JSON, max_size=3)},
        ),
        min_size=1,
        max_size=4,
    ),
    events=st.lists(
        st.fixed_dictionaries(
            {"action_name": st.sampled_from(["click", "impression", "purchase", "view"])},
            optional={
                "query_id": JSON, "timestamp": JSON, "user_id": JSON, "client_id": JSON,
                "event_attributes": st.fixed_dictionaries({"object": JSON, "position": JSON}),
            },
        ),
        min_size=1,
        max_size=5,
    ),
)  # fmt: skip
def test_json_lines_of_any_kind(queries: list[dict[str, Any]], events: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        first = {
            "query_id": "q0",
            "user_query": "hat",
            "timestamp": 1_714_564_800_000,
            "query_response_hit_ids": ["1", "a"],
        }
        click = {"action_name": "click", "query_id": "q0", "timestamp": 1_714_564_801_000,
                 "event_attributes": {"object": {"object_id": "a"}}}  # fmt: skip
        for name, rows in (("queries", [first, *queries]), ("events", [click, *events])):
            (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        causes = ("queries.jsonl", "events.jsonl", "ordinals of impression events", "impressions.", "events.")
        if ends_well(lambda: import_ubi(folder, folder / "log"), *causes):
            assert not [each for each in validate(folder / "log") if each.severity == "error"]
            ends_well(lambda: prepare(folder / "log", folder / "prepared", PrepareConfig()), *TOO_FEW)


FILES_OF = {
    **dict.fromkeys(("bestbuy", "homedepot", "trivago"), ("train.csv",)),
    "kuaisearch": ("rank.jsonl", "items.jsonl", "users.jsonl"),
    "ubi": ("queries.jsonl", "events.jsonl"),
}


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {"custom"}))
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 50,
        b"\xff\xfea\0,\0b\0",
        b"a,b\n1\n",
        b'"',
        b'{"a": 1}\n',
        b"[" * 100_000,
        b"K\xf6ln,b\nK\xf6ln,1\n",
    ],
    ids=["empty", "nul", "utf-16", "ragged", "quote", "json", "nested", "latin-1"],
)
def test_files_of_another_format(source: str, content: bytes, tmp_path: Path) -> None:
    for name in ("train.csv", "queries.jsonl", "events.jsonl", "rank.jsonl", "items.jsonl", "users.jsonl"):
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "train.csv" if source in ("bestbuy", "trivago", "homedepot") else tmp_path
    with pytest.raises(UserError) as error:
        SOURCES[source](path, tmp_path / "log")
    text = str(error.value)
    # Objects of other keys are no searches, which only their number tells.
    named = [name for name in FILES_OF[source] if f"{tmp_path / name} must" in text]
    assert named or (source == "ubi" and content.startswith(b"{") and NONE_LEFT in text), text
    assert " but " in text
