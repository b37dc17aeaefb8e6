"""A broken rule of the data contract, with counts and examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]
N_EXAMPLES = 5
_MAX_VALUE_LENGTH = 60


@dataclass(frozen=True)
class Violation:
    """One broken rule.

    Attributes:
        table: The table, or `schema.yaml`.
        column: The column; None where the rule is about the whole table.
        must: What must hold, and what was given where the count does not say it.
        severity: An error refuses the log, a warning does not.
        count: Number of `unit` that break the rule.
        unit: What is counted, in the singular; empty if only one thing can break the rule.
        examples: Keys of the first few, such as `search_id=s1 product_id=p2`.
    """

    table: str
    column: str | None
    must: str
    severity: Severity = "error"
    count: int = 1
    unit: str = ""
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = self.table if self.column is None else f"{self.table}.{self.column}"
        counted = f"; {self.count:,} {_plural(self.unit, self.count)}" if self.unit else ""
        shown = f", e.g. {', '.join(self.examples)}" if self.examples else ""
        return f"{place}: {self.must}{counted}{shown}"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a manifest or `--json`, with the sentence as `text`."""
        return {
            "table": self.table,
            "column": self.column,
            "must": self.must,
            "severity": self.severity,
            "count": self.count,
            "unit": self.unit,
            "examples": list(self.examples),
            "text": str(self),
        }


def example(row: Mapping[str, object]) -> str:
    """Formats the keys and value of one row that breaks a rule."""
    return " ".join(f"{name}={_short(value)}" for name, value in row.items())


def _short(value: object) -> str:
    text = "null" if value is None else str(value) or "''"
    return text if len(text) <= _MAX_VALUE_LENGTH else text[: _MAX_VALUE_LENGTH - 1] + "…"


def _plural(unit: str, count: int) -> str:
    if count == 1:
        return unit
    return f"{unit}es" if unit.endswith("ch") else f"{unit}s"
