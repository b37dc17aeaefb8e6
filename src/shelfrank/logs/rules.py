"""Rules of the data contract about single rows, and how rules are counted."""

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from shelfrank.core.schema import RANDOMISED, TASKS, Kind
from shelfrank.core.values import BLANK_AT_END, MAX_NUMBER
from shelfrank.logs.engine import one_row, sql_name, sql_text
from shelfrank.logs.structure import Structure, feature_table
from shelfrank.logs.times import EARLIEST, LATEST
from shelfrank.logs.violation import N_EXAMPLES, Severity, Violation, example

KEYS = {
    "impressions": ("search_id", "product_id"),
    "products": ("product_id",),
    "customers": ("customer_id",),
    "events": ("customer_id", "session_id", "product_id"),
}
"""By table, the columns that identify a row to a reader."""

NOT_EMPTY = {
    "impressions": ("search_id", "product_id"),
    "products": ("product_id",),
    "customers": ("customer_id",),
    "events": ("product_id", "action"),
}


_WHITE_SPACE = " \t\n\r\v\f"
"""Characters that make a query or a title blank."""


@dataclass(frozen=True)
class Rule:
    """One rule: the rows where the SQL condition `broken` is true break it."""

    column: str
    must: str
    broken: str
    severity: Severity = "error"
    reason: Callable[[duckdb.DuckDBPyConnection], str] | None = None
    """Computed if the rule is broken, and appended to `must`."""


@dataclass(frozen=True)
class Checked:
    """Rules over one relation, counted in one pass.

    Attributes:
        table: The table that is validated.
        rows: The relation as SQL: a table, its searches, or only its offending rows.
        unit: What a row of it is, in the singular.
        keys: The columns that identify a row to a reader.
        rules: The rules.
        with_values: Whether the relation has the rules' columns, so that examples show their values.
    """

    table: str
    rows: str
    unit: str
    keys: tuple[str, ...]
    rules: tuple[Rule, ...]
    with_values: bool = False

    def violations(self, connection: duckdb.DuckDBPyConnection) -> list[Violation]:
        """Counts every rule, then looks up examples of the broken ones."""
        if not self.rules:
            return []
        counts = one_row(connection, self.rows, [f"count(*) FILTER ({rule.broken})" for rule in self.rules])
        return [
            Violation(
                self.table,
                rule.column,
                rule.must + (rule.reason(connection) if rule.reason else ""),
                rule.severity,
                n,
                self.unit,
                self._examples(rule, connection),
            )
            for rule, n in zip(self.rules, counts, strict=True)
            if n
        ]

    def _examples(self, rule: Rule, connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
        value = (rule.column,) if self.with_values and rule.column not in self.keys else ()
        names = [sql_name(name) for name in (*self.keys, *value)]
        listed = ", ".join(names)
        rows = f"(SELECT DISTINCT {listed} FROM {self.rows} WHERE {rule.broken} ORDER BY {listed} LIMIT {N_EXAMPLES})"
        if value == ("timestamp",):
            # Python cannot hold every time of the engine, and engine releases differ in how they write the UTC offset.
            names[-1] = "regexp_replace(timestamp::VARCHAR, '\\+00$', '+00:00') AS timestamp"
        examples = connection.sql(f"SELECT {', '.join(names)} FROM {rows}").to_arrow_table()
        return tuple(example(row) for row in examples.to_pylist())


def row_rules(table: str, structure: Structure, nesting: Severity) -> Checked:
    """Collects the rules about single rows.

    Args:
        table: The table's name.
        structure: Its usable columns; other columns already have a violation of the structure.
        nesting: Severity of a purchase without a click.

    Returns:
        The rules, counted in one pass.
    """
    columns = structure.columns[table]
    rules: list[Rule] = []

    def rule(name: str, must: str, broken: str, severity: Severity = "error", other: str | None = None) -> None:
        if {name, other or name} <= set(columns):
            rules.append(Rule(name, must, broken, severity))

    for name in NOT_EMPTY[table]:
        rule(name, "must not be null or empty", f"{name} IS NULL OR {name} = ''")
    if (
        structure.schema is not None
        and structure.schema.spelling is not None
        and structure.schema.spelling.ids == "normalised"
    ):
        for name in ("search_id", "product_id", "customer_id", "session_id"):
            blank = f"regexp_matches({name}, {sql_text(BLANK_AT_END)})"
            rule(name, "must have no white space around it", blank)
    if table in ("impressions", "events"):
        rule("timestamp", "must not be null", "timestamp IS NULL")
        far_off = (
            f"timestamp < '{EARLIEST.isoformat()}'::TIMESTAMPTZ OR timestamp >= '{LATEST.isoformat()}'::TIMESTAMPTZ"
        )
        rule("timestamp", "must be from 1990 on and before 2100", far_off)
        for name in ("customer_id", "session_id"):
            rule(name, "must be null where it is not known, not an empty text", f"{name} = ''")
    if table == "impressions":
        rule("query", "must not be null", "query IS NULL")
        rule("query", "should not be blank", f"trim(query, {sql_text(_WHITE_SPACE)}) = ''", "warning")
        rule("position", "must not be null", "position IS NULL")
        rule("position", "must be 1 or more", "position < 1")
        for name in (*TASKS, RANDOMISED):
            rule(name, "must be 0, 1 or null", f"{name} NOT IN (0, 1)")
        word = "must" if nesting == "error" else "should"
        for later, earlier in (("add_to_cart", "click"), ("purchase", "click"), ("purchase", "add_to_cart")):
            must = f"{word} be 0 where {earlier} is 0"
            rule(later, must, f"{later} = 1 AND {earlier} = 0", nesting, earlier)
    if table == "products":
        blank = f"title IS NULL OR trim(title, {sql_text(_WHITE_SPACE)}) = ''"
        rule("title", "should not be null or blank", blank, "warning")
    if table == "events":
        must = "should be known where session_id is null; otherwise no history contains the event"
        unknown = "customer_id IS NULL" + (" AND session_id IS NULL" if "session_id" in columns else "")
        rule("customer_id", must, unknown, "warning")
    for feature in structure.schema.select(kind=Kind.NUMERICAL) if structure.schema else ():
        if feature_table(feature, structure.columns) == table:
            value = sql_name(feature.name)
            if pa.types.is_floating(columns[feature.name]):
                rule(feature.name, "must not be NaN; write null where it is missing", f"isnan({value})")
                rule(feature.name, "must be finite", f"isinf({value})")
                rule(
                    feature.name,
                    f"must be of a magnitude below {MAX_NUMBER:g}",
                    # In the engine, NaN compares above every number.
                    f"NOT isinf({value}) AND NOT isnan({value}) AND abs({value}) >= {MAX_NUMBER!r}",
                )
            if feature.log1p:
                rule(feature.name, "must be 0 or more, since schema.yaml declares log1p", f"{value} < 0")
    keys = tuple(key for key in KEYS[table] if key in columns)
    return Checked(table, table, "row", keys, tuple(rules), with_values=True)
