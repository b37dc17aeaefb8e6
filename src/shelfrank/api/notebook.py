"""Figures as an HTML table, which a notebook shows in place of an evaluation or a comparison."""

import html
from collections.abc import Mapping, Sequence
from typing import Any


def figures_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes figures at the largest cutoff as an HTML table with a line per ranker and task.

    Args:
        rows: The rows of `figure_rows` or `comparison_rows`.

    Returns:
        The table.
    """
    largest = max(row["k"] for row in rows if row["metric"] == "mrr")
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        if row["task"] is None or row["k"] not in (None, largest):
            continue
        line = lines.setdefault((*([row["ranker"]] if "ranker" in row else []), row["task"]), {})
        name = row["metric"].upper() + ("" if row["k"] is None else f"@{row['k']}")
        line[name] = _figure(row["value"], row["low"], row["high"], ".3f")
        if row.get("difference") is not None:
            line[f"{name} difference"] = _figure(
                row["difference"], row["difference_low"], row["difference_high"], "+.3f"
            )
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    heads = [*(["ranker"] if rows and "ranker" in rows[0] else []), "task", *names]
    body = "".join(
        f"<tr>{_cells('th', key)}{_cells('td', [line.get(name, '') for name in names])}</tr>"
        for key, line in lines.items()
    )
    return f"<table><thead><tr>{_cells('th', heads)}</tr></thead><tbody>{body}</tbody></table>"


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


def _figure(value: float | None, low: float | None, high: float | None, digits: str) -> str:
    if value is None:
        return "unknown"
    return f"{value:{digits}}" + ("" if low is None or high is None else f" ({low:{digits}} to {high:{digits}})")
