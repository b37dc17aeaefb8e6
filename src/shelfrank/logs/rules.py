"""Rules of the data contract about single rows, and how rules are counted."""

from collections.abc import Callable
from dataclasses import dataclass

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from shelfrank.core.schema import TASKS, Kind
from shelfrank.core.values import MAX_NUMBER, trimmed_expression
from shelfrank.logs.engine import Table, Value, rows_of
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


@dataclass(frozen=True)
class Rule:
    """One rule: the rows where `broken` is true break it."""

    column: str
    must: str
    broken: Value
    severity: Severity = "error"
    reason: Callable[[Backend], str] | None = None
    """Computed if the rule is broken, and appended to `must`."""


@dataclass(frozen=True)
class Checked:
    """Rules over one relation, counted in one pass.

    Attributes:
        table: The table that is validated.
        rows: The relation: a table, its searches, or only its offending rows.
        unit: What a row of it is, in the singular.
        keys: The columns that identify a row to a reader.
        rules: The rules.
    """

    table: str
    rows: Table
    unit: str
    keys: tuple[str, ...]
    rules: tuple[Rule, ...]

    def violations(self, engine: Backend) -> list[Violation]:
        """Counts every rule, then looks up examples of the broken ones."""
        if not self.rules:
            return []
        sums = {f"rule_{i}": rule.broken.fill_null(False).sum() for i, rule in enumerate(self.rules)}
        counts = rows_of(engine, self.rows.aggregate(**sums))[0]
        return [
            Violation(
                self.table,
                rule.column,
                rule.must + (rule.reason(engine) if rule.reason else ""),
                rule.severity,
                n,
                self.unit,
                self._examples(rule, engine),
            )
            for rule, n in zip(self.rules, counts.values(), strict=True)
            if n
        ]

    def _examples(self, rule: Rule, engine: Backend) -> tuple[str, ...]:
        value = (rule.column,) if rule.column in self.rows.columns and rule.column not in self.keys else ()
        names = (*self.keys, *value)
        rows = self.rows.filter(rule.broken).select(*names).distinct().order_by(*names).limit(N_EXAMPLES)
        # Python cannot hold every time of the engine, and engine releases differ in how they write the UTC offset.
        times = [
            rows[name].cast("string").re_replace(r"\+00$", "+00:00").name(name)
            for name in names
            if rows[name].type().is_timestamp()
        ]
        return tuple(example(row) for row in rows_of(engine, rows.mutate(*times)))


def row_rules(table: str, rows: Table, structure: Structure, nesting: Severity) -> Checked:
    """Collects the rules about single rows.

    Args:
        table: The table's name.
        rows: The table.
        structure: Its usable columns; other columns already have a violation of the structure.
        nesting: Severity of a purchase without a click.

    Returns:
        The rules, counted in one pass.
    """
    columns = structure.columns[table]
    rules: list[Rule] = []

    def rule(
        name: str,
        must: str,
        broken: Callable[[Value], Value],
        severity: Severity = "error",
        other: str | None = None,
    ) -> None:
        if {name, other or name} <= set(columns):
            rules.append(Rule(name, must, broken(rows[name]), severity))

    for name in NOT_EMPTY[table]:
        rule(name, "must not be null or empty", lambda text: text.isnull() | (text == ""))
    if (
        structure.schema is not None
        and structure.schema.spelling is not None
        and structure.schema.spelling.ids == "normalised"
    ):
        for name in ("search_id", "product_id", "customer_id", "session_id"):
            rule(name, "must have no white space around it", lambda text: text != trimmed_expression(text))
    if table in ("impressions", "events"):
        rule("timestamp", "must not be null", lambda time: time.isnull())
        rule("timestamp", "must be from 1990 on and before 2100", _is_far_off)
        for name in ("customer_id", "session_id"):
            rule(name, "must be null where it is not known, not an empty text", lambda text: text == "")
    if table == "impressions":
        rule("query", "must not be null", lambda query: query.isnull())
        rule("query", "should not be blank", _is_blank, "warning")
        rule("position", "must not be null", lambda position: position.isnull())
        rule("position", "must be 1 or more", lambda position: position < 1)
        for task in TASKS:
            rule(task, "must be 0, 1 or null", lambda label: label.notin([0, 1]))
        word = "must" if nesting == "error" else "should"
        for later, earlier in (("add_to_cart", "click"), ("purchase", "click"), ("purchase", "add_to_cart")):
            must = f"{word} be 0 where {earlier} is 0"
            rule(
                later,
                must,
                lambda label, earlier=earlier: (label == 1) & (rows[earlier] == 0),
                nesting,
                earlier,
            )
    if table == "products":
        rule("title", "should not be null or blank", lambda title: title.isnull() | _is_blank(title), "warning")
    if table == "events":
        must = "should be known where session_id is null; otherwise no history contains the event"
        known = "session_id" if "session_id" in columns else None
        rule("customer_id", must, lambda customer: customer.isnull() & _is_null(rows, known), "warning")
    for feature in structure.schema.select(kind=Kind.NUMERICAL) if structure.schema else ():
        if feature_table(feature, structure.columns) == table:
            if pa.types.is_floating(columns[feature.name]):
                rule(
                    feature.name,
                    "must not be NaN; write null where it is missing",
                    lambda value: value.isnan(),
                )
                rule(feature.name, "must be finite", lambda value: value.isinf())
                rule(
                    feature.name,
                    f"must be of a magnitude below {MAX_NUMBER:g}",
                    # In the engine, NaN compares above every number.
                    lambda value: ~value.isinf() & ~value.isnan() & (value.abs() >= MAX_NUMBER),
                )
            if feature.log1p:
                rule(
                    feature.name,
                    "must be 0 or more, since schema.yaml declares log1p",
                    lambda value: value < 0,
                )
    return Checked(table, rows, "row", tuple(key for key in KEYS[table] if key in columns), tuple(rules))


def _is_far_off(time: Value) -> Value:
    return (time < ibis.literal(EARLIEST)) | (time >= ibis.literal(LATEST))


def _is_blank(text: Value) -> Value:
    return text.strip() == ""


def _is_null(rows: Table, name: str | None) -> Value:
    return ibis.literal(True) if name is None else rows[name].isnull()
