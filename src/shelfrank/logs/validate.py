"""Validates a search log as a whole and reports every broken rule, not only the first.

The rules are our own SQL rather than a pandera schema, because each reports a count and example keys, and half of them
are about several rows or tables.
"""

from pathlib import Path
from typing import Any

import duckdb

from shelfrank.core.errors import UserError
from shelfrank.core.progress import progress
from shelfrank.logs.engine import open_engine, view_parquet
from shelfrank.logs.key_rules import reference_rules, search_rules, uniqueness_rules
from shelfrank.logs.rules import Checked, row_rules
from shelfrank.logs.search_log import TABLES, table_files
from shelfrank.logs.structure import holds_grades, inspect_structure
from shelfrank.logs.usefulness import empty_columns, usefulness_warnings
from shelfrank.logs.violation import Severity, Violation


def validate(folder: Path, purchase_without_click: Severity = "warning") -> list[Violation]:
    """Finds every rule of the data contract that a log breaks.

    Args:
        folder: A log's folder, finished or not.
        purchase_without_click: Severity of a purchase without a click, a cart without a click, and a purchase without
            a cart; some shops let customers buy from the results page.

    Returns:
        The broken rules, errors and warnings, table by table.

    Raises:
        UserError: Where the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} must be the folder of a search log, but there is no such folder")
    structure = inspect_structure(folder)
    violations = list(structure.violations)
    with open_engine() as engine:
        for table in structure.columns:
            view_parquet(engine, table, table_files(folder, table))
        checks = [row_rules(table, structure, purchase_without_click) for table in structure.columns]
        if "impressions" in structure.columns:
            checks += search_rules(structure)
        checks += [*uniqueness_rules(structure), *reference_rules(structure)]
        damaged: set[str] = set()
        with progress("Validating", total=len(checks), unit="checks") as advance:
            for check in checks:
                if check.table not in damaged:
                    violations += _count(check, engine.con, damaged)
                advance(1)
        if not damaged:
            violations += empty_columns(engine.con, structure, holds_grades(folder))
            violations += usefulness_warnings(engine.con, structure)
    return sorted(violations, key=_place)


def require_valid(folder: Path, purchase_without_click: Severity = "warning") -> list[dict[str, Any]]:
    """Refuses a log that breaks a rule of the data contract.

    Args:
        folder: A log's folder, finished or not.
        purchase_without_click: As for `validate`.

    Returns:
        The warnings, as plain data.

    Raises:
        UserError: Where a rule of severity `error` is broken; the text lists all of them, one per line.
    """
    violations = validate(folder, purchase_without_click)
    errors = [violation for violation in violations if violation.severity == "error"]
    if errors:
        rules = "1 rule" if len(errors) == 1 else f"{len(errors)} rules"
        first = f"the search log must keep the data contract, but it breaks {rules}; correct the source and repeat"
        raise UserError("\n".join([first, *(f"  {violation}" for violation in errors)]))
    return [violation.as_dict() for violation in violations]


def _count(check: Checked, connection: duckdb.DuckDBPyConnection, damaged: set[str]) -> list[Violation]:
    try:
        return check.violations(connection)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        damaged.add(check.table)
        reason = " ".join(str(error).split("\n")[0].split())
        return [Violation(check.table, None, f"must be readable to the last row; write the log again ({reason})")]


def _place(violation: Violation) -> tuple[int, int, str]:
    tables = ("schema.yaml", *TABLES)
    return tables.index(violation.table), violation.column is not None, violation.column or ""
