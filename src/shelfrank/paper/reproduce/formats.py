"""The tables and the claims as Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from typing import Any

from shelfrank.paper.reproduce.claims import CLAIMS, Check, Claim, judge, judge_rows
from shelfrank.paper.reproduce.rows import BY_NAME
from shelfrank.paper.reproduce.tables import SHORT, PaperTable, TableFigure
from shelfrank.report.formats import signed

LEGEND = "Ours over (95 % interval over searches); in italics the paper's figure."

TEX_LEGEND = r"Ours with 95\,\% intervals over searches; the paper's in brackets."

_TEX = str.maketrans({"%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "–": "--", "−": "$-$"})


def markdown_table(table: PaperTable) -> str:
    """A table in GitHub's Markdown."""
    spans = [group for group, width in table.groups for _ in range(width)] or [""] * len(table.columns)
    heads = [f"{group} {column}".strip() for group, column in zip(spans, table.columns, strict=True)]
    lines = [
        f"**Table {table.number}.** {table.caption}.",
        "",
        "| " + " | ".join(["", *heads]) + " |",
        "|" + "---|" * (len(heads) + 1),
    ]
    for line in table.lines:
        lines.append("| " + " | ".join([line.label, *map(_markdown_cell, line.figures)]) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def _markdown_cell(figure: TableFigure) -> str:
    parts = [figure.ours, f"({figure.interval})" if figure.interval else "", *figure.notes]
    parts.append(f"*{figure.paper}*" if figure.paper else "")
    return "<br>".join(part for part in parts if part)


def latex_table(table: PaperTable) -> str:
    """A table in LaTeX, for the package booktabs; the paper's figures stand in brackets below ours."""
    columns = "l" + "r" * len(table.columns)
    lines = [
        r"\begin{table}",
        rf"\caption{{{table.caption.translate(_TEX)}. {TEX_LEGEND}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
    ]
    if table.groups:
        spans = [rf"\multicolumn{{{width}}}{{c}}{{{group.translate(_TEX)}}}" for group, width in table.groups]
        lines.append(" & ".join(["", *spans]) + r" \\")
    lines += [" & ".join(["", *table.columns]).translate(_TEX | {ord("&"): "&"}) + r" \\", r"\midrule"]
    for line in table.lines:
        rows = [
            [line.label, *(figure.ours for figure in line.figures)],
            ["", *(f"({figure.interval})" if figure.interval else "" for figure in line.figures)],
            ["", *("; ".join(figure.notes) for figure in line.figures)],
            ["", *(f"[{figure.paper}]" if figure.paper else "" for figure in line.figures)],
        ]
        lines += [" & ".join(cell.translate(_TEX) for cell in row) + r" \\" for row in rows if any(row)]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def markdown_claims(differences: Mapping[str, Any], claims: Sequence[Claim] = CLAIMS) -> str:
    """Every claim with its verdict and the evidence."""
    lines = ["| Claim | Verdict |", "|---|---|"]
    parts = []
    for claim in claims:
        verdict, each = judge(claim, differences)
        lines.append(f"| **{claim.id}** {claim.statement} | **{verdict}** |")
        parts += [f"### {claim.id}: {verdict}", "", f"{claim.statement} ({claim.where})", ""]
        of_rows = judge_rows(claim, each)
        if of_rows:
            parts += ["| Row | Verdict |", "|---|---|"]
            parts += [f"| {BY_NAME[name].label} | {verdict_of_row} |" for name, verdict_of_row in of_rows.items()]
            parts.append("")
        parts += ["| Difference | Paper | Ours | By seed | Verdict |", "|---|---|---|---|---|"]
        for check, verdict_of_check in zip(claim.checks, each, strict=True):
            found = differences.get(check.pair.key)
            cells = [check_title(check), paper_figure(check), our_figure(found), by_seed(found), verdict_of_check]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join([*lines, "", *parts])


def check_title(check: Check) -> str:
    """An inequality in words."""
    pair = check.pair
    less = _short(pair.less)
    if pair.metric == "pd":
        return f"PD@10: {'1' if pair.more is None else _short(pair.more)} − {less}"
    return f"{SHORT[pair.task or '']}: {_short(pair.more or '')} − {less}"


def paper_figure(check: Check) -> str:
    """The paper's difference."""
    return "" if check.paper is None else signed(check.paper, 3)


def our_figure(found: Mapping[str, Any] | None) -> str:
    """Our difference with its interval."""
    if found is None or found["value"] is None:
        return "not measured"
    if found["low"] is None:
        return signed(found["value"])
    return f"{signed(found['value'])} ({signed(found['low'])} to {signed(found['high'])})"


def by_seed(found: Mapping[str, Any] | None) -> str:
    """The difference of each seed."""
    return "" if found is None else ", ".join(signed(value) for value in found["seeds"])


def _short(name: str) -> str:
    row = BY_NAME[name]
    text = (
        row.label.replace(" with shared bottom", " +")
        .replace(" Cross Layer", " cross")
        .replace(" Dot", " dot")
        .replace(" (Single ATC Task)", " single")
    )
    return f"{text} without semantic score" if row.table == 3 else text
