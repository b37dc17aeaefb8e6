"""Normalises the spelling of ids, queries and categories of every log that is written, and counts the changes."""

# pyarrow.compute creates its functions at import time, where static checkers cannot see them.
# pyright: reportAttributeAccessIssue=false

from collections import Counter
from typing import Any, cast, get_args

import pyarrow as pa
import pyarrow.compute as pc

from shelfrank.core.errors import UserError
from shelfrank.core.schema import Feature, IdColumn, Kind, Schema, Spelling
from shelfrank.core.values import NULL_WORDS, TOO_LARGE, each_distinct, too_large
from shelfrank.logs.violation import N_EXAMPLES

SPELLING_VERSION = 3
"""Part of every log's inputs; raise it when the rules of `shelfrank.core.values` change."""

MAX_LEVELS = 100_000
"""Most categories of a feature that are compared with each other."""


class LogSpelling:
    """Normalises the tables of one log.

    Args:
        schema: The log's schema, with its spelling.
    """

    def __init__(self, schema: Schema) -> None:
        self._spelling = schema.spelling or Spelling()
        self._categories = {each.name: each for each in schema.select(kind=Kind.CATEGORICAL)}
        self._changed: Counter[tuple[str, str]] = Counter()
        self._levels: dict[str, set[str]] = {name: set() for name in self._categories}
        self._doubtful: dict[str, Counter[str]] = {name: Counter() for name in self._categories}

    def spell(self, table: str, rows: pa.Table) -> pa.Table:
        """Normalises the values of a table.

        Args:
            table: The table's name.
            rows: Some of its rows.

        Returns:
            The rows with the same columns in the same order.

        Raises:
            UserError: Where ids or categories are floats too large to be exact.
        """
        in_log = not table.startswith("truth/")
        for place, name in enumerate(rows.column_names):
            if name in get_args(IdColumn):
                rows = rows.set_column(place, name, self._ids(table, cast("IdColumn", name), rows.column(name)))
            elif name == "query" and in_log:
                rows = rows.set_column(place, name, self._queries(table, rows.column(name)))
            elif name in self._categories and in_log:
                rows = rows.set_column(place, name, self._category(table, self._categories[name], rows.column(name)))
        return rows

    def notes(self) -> dict[str, Any]:
        """Facts about the log's values that a reader should know, by subject."""
        notes: dict[str, Any] = {f"{place}, {what}": n for (place, what), n in sorted(self._changed.items()) if n}
        for name, words in self._doubtful.items():
            if words:
                shown = ", ".join(f"{word} ({n:,})" for word, n in sorted(words.items()))
                notes[f"{name}, words that may mean missing, kept as categories"] = (
                    f"{shown}; declare null_words of the column to read them as missing"
                )
        for name, levels in self._levels.items():
            groups: dict[str, list[str]] = {}
            for level in sorted(levels):
                groups.setdefault(level.casefold(), []).append(level)
            alike = [" / ".join(group) for group in groups.values() if len(group) > 1]
            if alike:
                shown = ", ".join(alike[:N_EXAMPLES])
                notes[f"{name}, categories that differ by case only"] = (
                    f"{len(alike):,}, such as {shown}; declare fold_case of the column to merge them"
                )
        return notes

    def _ids(self, table: str, name: IdColumn, given: pa.ChunkedArray) -> pa.ChunkedArray:
        if self._spelling.ids == "as_written" or not _is_text_or_float(given.type):
            return given
        _refuse_too_large(table, name, given)
        spelled = self._spelling.of_id(name).column(given)
        self._count(f"{table}.{name}", given, spelled)
        return spelled

    def _queries(self, table: str, given: pa.ChunkedArray) -> pa.ChunkedArray:
        if self._spelling.queries == "as_written" or not _is_text_or_float(given.type):
            return given
        given = given.cast(pa.string())
        spelled = each_distinct(given, self._spelling.query)
        if spelled is not given:
            self._changed[f"{table}.query", "rows whose case or white space was folded"] += _n_different(given, spelled)
        return spelled

    def _category(self, table: str, feature: Feature, given: pa.ChunkedArray) -> pa.ChunkedArray:
        if pa.types.is_integer(given.type) or pa.types.is_boolean(given.type):
            return given
        _refuse_too_large(table, feature.name, given)
        spelled = feature.spelling.column(given)
        self._count(f"{table}.{feature.name}", given, spelled)
        levels = self._levels[feature.name]
        counted = pc.value_counts(spelled.drop_null())
        found = set(counted.field("values").to_pylist())
        if len(levels) < MAX_LEVELS:
            levels |= found
        if feature.null_words is None and not found.isdisjoint(NULL_WORDS):
            words = {each["values"]: each["counts"] for each in counted.to_pylist() if each["values"] in NULL_WORDS}
            self._doubtful[feature.name].update(words)
        return spelled

    def _count(self, place: str, given: pa.ChunkedArray, spelled: pa.ChunkedArray) -> None:
        if spelled is given:
            return
        missing = spelled.null_count - given.null_count
        if pa.types.is_floating(given.type):
            # In a column of floats, NaN means missing.
            missing -= pc.sum(pc.is_nan(given)).as_py() or 0
        self._changed[place, "words or blanks read as missing"] += missing
        if pa.types.is_string(given.type):
            self._changed[place, "values with another spelling, such as spaces around them"] += _n_different(
                given, spelled
            )


def _is_text_or_float(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_floating(type_)


def _n_different(given: pa.ChunkedArray, spelled: pa.ChunkedArray) -> int:
    return pc.sum(pc.not_equal(given, spelled)).as_py() or 0


def _refuse_too_large(table: str, name: str, values: pa.ChunkedArray) -> None:
    if too_large(values):
        largest = pc.max(values.filter(pc.is_finite(values))).as_py()
        raise UserError(f"{table}.{name} must hold exact values, but it holds {largest!r}: {TOO_LARGE}")
