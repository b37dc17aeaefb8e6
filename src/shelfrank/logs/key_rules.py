"""Rules of the data contract between rows: within a search, within a table, between tables."""

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial, reduce

import ibis
from ibis.backends.duckdb import Backend

from shelfrank.core.schema import TASKS
from shelfrank.logs.engine import Table, Value, rows_of
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

SPELLINGS: Mapping[str, Callable[[Value], Value]] = {
    "decimals that are 0": lambda ids: ids.re_replace(r"\.0*$", ""),
    "zeros at the beginning": lambda ids: ids.re_replace("^0+(.)", r"\1"),
    "the case of letters": lambda ids: ids.lower(),
    "white space": lambda ids: ids.re_replace(r"[\s\p{Z}]", ""),
}
"""Common differences between spellings of one id, and the expression that removes them."""


def search_rules(impressions: Table, structure: Structure) -> Iterator[Checked]:
    """Collects the rules about all rows of one search."""
    columns = structure.columns["impressions"]
    if "search_id" not in columns:
        return
    rows = impressions.drop_null("search_id")
    same = [name for name in ("timestamp", "customer_id", "session_id", "query") if name in columns]
    labels = [task for task in TASKS if task in columns]
    values: dict[str, Value] = {"n": rows.count()}
    for name in (*same, *labels):
        values[f"{name}_known"] = rows[name].count()
    for name in same:
        values[f"{name}_min"], values[f"{name}_max"] = rows[name].min(), rows[name].max()
    searches: Table = rows.group_by("search_id").aggregate(**values)

    def partly(name: str) -> Value:
        return (searches[f"{name}_known"] > 0) & (searches[f"{name}_known"] < searches["n"])

    def differ(name: str) -> Value:
        return (searches[f"{name}_min"] != searches[f"{name}_max"]) | partly(name)

    rules = [Rule(name, "must be the same in all rows of a search", differ(name)) for name in same]
    rules += [Rule(task, "must be known in all rows of a search or in none", partly(task)) for task in labels]
    yield Checked("impressions", searches, "search", ("search_id",), tuple(rules))


def uniqueness_rules(tables: Mapping[str, Table], structure: Structure) -> Iterator[Checked]:
    """Collects the rules that keys are unique."""
    for table, keys, must in UNIQUE:
        if table in tables and set(keys) <= set(structure.columns[table]):
            repeated = _repeated(tables[table], keys)
            yield Checked(table, repeated, "repeated row", keys, (Rule(keys[-1], must, repeated["nth"] > 0),))


def reference_rules(tables: Mapping[str, Table], structure: Structure) -> Iterator[Checked]:
    """Collects the rules that ids refer to a row of their table."""
    for table, key, home, severity in REFERENCES:
        held = table in tables and home in tables
        if held and key in structure.columns[table] and key in structure.columns[home]:
            used = tables[table].select(key).drop_null(key).distinct()
            unknown = used.anti_join(tables[home].select(key), key)
            must = f"{'must' if severity == 'error' else 'should'} be a {key} of {home}"
            reason = partial(_spelled_otherwise, unknown, tables[home], key, home)
            rule = Rule(key, must, unknown[key].notnull(), severity, reason)
            yield Checked(table, unknown, "id", (key,), (rule,))


def _spelled_otherwise(unknown: Table, home: Table, key: str, name: str, engine: Backend) -> str:
    """How most unknown ids differ from known ones if only by their spelling; otherwise empty."""
    n_unknown = rows_of(engine, unknown.aggregate(n=unknown.count()))[0]["n"]
    for what, alike in SPELLINGS.items():
        known = home.drop_null(key).group_by(alike=alike(home[key])).aggregate(known=home[key].min())
        pairs = unknown.mutate(alike=alike(unknown[key])).inner_join(known, "alike")
        n = rows_of(engine, pairs.aggregate(n=pairs.count()))[0]["n"]
        if 2 * n >= n_unknown:
            (first,) = rows_of(engine, pairs.order_by(key).limit(1))
            count = "all" if n == n_unknown else f"{n:,}"
            return (
                f", but {count} of these differ from one of {name} by {what} only, as {first[key]!r} does from "
                f"{first['known']!r}; spell them alike"
            )
    return ""


def _repeated(table: Table, keys: tuple[str, ...]) -> Table:
    rows = table.select(*keys).drop_null(list(keys))
    # 64-bit hashes are a fraction of the keys' size. Equal keys have equal hashes, so only the few rows whose hash
    # occurs again are compared by their keys, which also separates keys that share a hash.
    rows = rows.mutate(hashed=reduce(operator.xor, (rows[key].hash() for key in keys)))
    hashes = rows.group_by("hashed").aggregate(n=rows.count())
    suspects = rows.semi_join(hashes.filter(hashes["n"] > 1), "hashed")
    ordered = suspects.mutate(nth=ibis.row_number().over(group_by=list(keys)))
    return ordered.filter(ordered["nth"] > 0)
