"""Rules of the data contract between rows: within a search, within a table, between tables."""

from collections.abc import Iterator, Mapping
from functools import partial

import duckdb

from shelfrank.core.schema import RANDOMISED, TASKS
from shelfrank.logs.engine import one_row
from shelfrank.logs.rules import Checked, Rule
from shelfrank.logs.structure import Structure
from shelfrank.logs.violation import Severity

UNIQUE = (
    ("impressions", ("search_id", "product_id"), "must occur once in a search"),
    ("impressions", ("search_id", "position"), "must occur once in a search"),
    ("products", ("product_id",), "must occur once in the table"),
    ("customers", ("customer_id",), "must occur once in the table"),
)
"""Table, its key, and the rule about the key's last column."""

REFERENCES: tuple[tuple[str, str, str, Severity], ...] = (
    ("impressions", "product_id", "products", "error"),
    ("impressions", "customer_id", "customers", "error"),
    ("events", "product_id", "products", "warning"),
    ("events", "customer_id", "customers", "warning"),
)
"""Table, column, the table that must hold its ids, and the severity of an unknown one."""

SPELLINGS: Mapping[str, str] = {
    "decimals that are 0": r"regexp_replace({}, '\.0*$', '')",
    "zeros at the beginning": r"regexp_replace({}, '^0+(.)', '\1')",
    "the case of letters": "lower({})",
    "white space": r"regexp_replace({}, '[\s\p{{Z}}]', '', 'g')",
}
"""Common differences between spellings of one id, and the SQL that removes them."""


def search_rules(structure: Structure) -> Iterator[Checked]:
    """Collects the rules about all rows of one search."""
    columns = structure.columns["impressions"]
    if "search_id" not in columns:
        return
    same = [name for name in ("timestamp", "customer_id", "session_id", "query", RANDOMISED) if name in columns]
    labels = [task for task in TASKS if task in columns]
    values = ["search_id", "count(*) AS n", *(f"count({name}) AS {name}_known" for name in (*same, *labels))]
    values += [f"min({name}) AS {name}_min, max({name}) AS {name}_max" for name in same]
    searches = f"(SELECT {', '.join(values)} FROM impressions WHERE search_id IS NOT NULL GROUP BY search_id)"

    def partly(name: str) -> str:
        return f"{name}_known > 0 AND {name}_known < n"

    rules = [
        Rule(name, "must be the same in all rows of a search", f"{name}_min <> {name}_max OR ({partly(name)})")
        for name in same
    ]
    rules += [Rule(task, "must be known in all rows of a search or in none", partly(task)) for task in labels]
    yield Checked("impressions", searches, "search", ("search_id",), tuple(rules))


def uniqueness_rules(structure: Structure) -> Iterator[Checked]:
    """Collects the rules that keys are unique."""
    for table, keys, must in UNIQUE:
        if set(keys) <= set(structure.columns.get(table, ())):
            yield Checked(table, _repeated(table, keys), "repeated row", keys, (Rule(keys[-1], must, "nth > 1"),))


def reference_rules(structure: Structure) -> Iterator[Checked]:
    """Collects the rules that ids refer to a row of their table."""
    for table, key, home, severity in REFERENCES:
        if key in structure.columns.get(table, ()) and key in structure.columns.get(home, ()):
            used = f"(SELECT DISTINCT {key} FROM {table} WHERE {key} IS NOT NULL)"
            unknown = f"(SELECT {key} FROM {used} ANTI JOIN {home} USING ({key}))"
            must = f"{'must' if severity == 'error' else 'should'} be a {key} of {home}"
            reason = partial(_spelled_otherwise, unknown, key, home)
            rule = Rule(key, must, f"{key} IS NOT NULL", severity, reason)
            yield Checked(table, unknown, "id", (key,), (rule,))


def _spelled_otherwise(unknown: str, key: str, home: str, connection: duckdb.DuckDBPyConnection) -> str:
    """How most unknown ids differ from known ones if only by their spelling; otherwise empty."""
    (n_unknown,) = one_row(connection, unknown, ["count(*)"])
    for what, alike in SPELLINGS.items():
        known = (
            f"(SELECT {alike.format(key)} AS alike, min({key}) AS known FROM {home} WHERE {key} IS NOT NULL GROUP BY 1)"
        )
        pairs = f"(SELECT {key}, {alike.format(key)} AS alike FROM {unknown}) JOIN {known} USING (alike)"
        n, given, held = one_row(connection, pairs, ["count(*)", f"min({key})", f"arg_min(known, {key})"])
        if 2 * n >= n_unknown:
            count = "all" if n == n_unknown else f"{n:,}"
            return (
                f", but {count} of these differ from one of {home} by {what} only, as {given!r} does from "
                f"{held!r}; spell them alike"
            )
    return ""


def _repeated(table: str, keys: tuple[str, ...]) -> str:
    listed, known = ", ".join(keys), " AND ".join(f"{key} IS NOT NULL" for key in keys)
    # 64-bit hashes are a fraction of the keys' size. Equal keys have equal hashes, so only the few rows whose hash
    # occurs again are compared by their keys, which also separates keys that share a hash.
    rows = f"SELECT {listed}, hash({listed}) AS hashed FROM {table} WHERE {known}"
    suspects = "SELECT * FROM rows WHERE hashed IN (SELECT hashed FROM rows GROUP BY hashed HAVING count(*) > 1)"
    numbered = f"SELECT {listed}, row_number() OVER (PARTITION BY {listed}) AS nth FROM ({suspects})"
    return f"(WITH rows AS ({rows}) SELECT * FROM ({numbered}) WHERE nth > 1)"
