"""The paper's tables with our figures beside its own, as plain cells that every format can print."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shelfrank.data.prepared import SPLITS
from shelfrank.paper.reproduce.measure import RowPair
from shelfrank.paper.reproduce.rows import ROWS, TableRow
from shelfrank.rankers.paper import PAPER_ROWS
from shelfrank.report.formats import compact, count, number, signed

Summary = Mapping[str, Any]
"""What `summary.json` holds."""

SHORT = {"click": "Click", "add_to_cart": "ATC", "purchase": "TRX"}
"""The paper's names of the tasks."""


@dataclass(frozen=True)
class TableFigure:
    """A cell.

    Attributes:
        ours: Our figure; empty if not measured, a dash if no search counts.
        interval: Its ends.
        paper: The paper's.
        notes: Further facts about our figure, such as a change in percent.
    """

    ours: str = ""
    interval: str = ""
    paper: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A row of a table: its label, its cells."""

    label: str
    figures: tuple[TableFigure, ...]


@dataclass(frozen=True)
class PaperTable:
    """A table.

    Attributes:
        number: The paper's number.
        caption: The paper's caption.
        groups: Headings over several columns, with how many each spans.
        columns: Headings of the columns.
        lines: Its rows.
        notes: How to read it, and missing rows.
    """

    number: int
    caption: str
    groups: tuple[tuple[str, int], ...]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return f"table{self.number}"


def table_1(summary: Summary) -> PaperTable:
    """Dataset statistics."""
    splits = summary["data"]["splits"]
    columns = ("queries", "products", "customers", "impressions")
    titles = ("Queries", "Products", "Users", "Impressions")
    printed = (7_181_959, 3_619_723, 18_054_693, 59_153_886)
    paper = Line("the paper's sampled data", tuple(TableFigure(paper=count(value)) for value in printed))
    ours = [
        Line(
            f"{name}, sampled" if name == "train" and summary["data"]["sampled"] else name,
            tuple(TableFigure(count(splits[name][column])) for column in columns),
        )
        for name in SPLITS
    ]
    notes = tuple(summary["data"]["notes"])
    return PaperTable(1, "Dataset statistics", (), titles, (paper, *ours), notes)


def table_2(summary: Summary) -> PaperTable:
    """Performance and model characteristics."""
    tasks = [task for task in SHORT if task in summary["tasks"]]
    names = tuple(SHORT[task] for task in tasks)
    lines = [
        _line_2(row, summary["rows"][row.name], tasks)
        for row in ROWS
        if row.table in (0, 2) and row.name in summary["rows"]
    ]
    groups = (("AUC-ROC", len(tasks)), ("MRR@1", len(tasks)), ("Task weights", len(tasks)), ("", 1), ("Parameters", 2))
    columns = (*names, *names, *names, "PD@10", "Trainable", "Total")
    notes = [*_left_out(summary, 2)]
    if any("purchase" in (row.printed.weights or {}) and row.printed.weights.get("purchase") == 0 for row in ROWS):
        notes.append("A task of weight 0 is not learned, so it has no AUC here; the paper prints one for FT-T.")
    return PaperTable(2, "Performance metrics and model characteristics", groups, columns, tuple(lines), tuple(notes))


def ablation(summary: Summary, table: int, caption: str, with_base: bool) -> PaperTable:
    """One of Tables 3 to 5: MRR@1 and its change against the row that differs in one thing."""
    tasks = [task for task in SHORT if task in summary["tasks"]]
    names = tuple(SHORT[task] for task in tasks)
    lines = []
    for row in ROWS:
        if row.table != table or row.name not in summary["rows"]:
            continue
        if with_base and row.base in summary["rows"]:
            base = next(each for each in ROWS if each.name == row.base)
            lines.append(_line_3(base, summary, tasks, with_change=False))
        lines.append(_line_3(row, summary, tasks, with_change=True))
    groups = (("MRR@1", len(tasks)), ("Task weights", len(tasks)))
    return PaperTable(table, caption, groups, (*names, *names), tuple(lines), tuple(_left_out(summary, table)))


def tables(summary: Summary, names: Sequence[str]) -> list[PaperTable]:
    """The requested tables, in order (Paper: Tables 1-5).

    Args:
        summary: What `summary.json` holds.
        names: Their names, `table1` to `table5`.

    Returns:
        The tables.
    """
    made = [
        table_1(summary),
        table_2(summary),
        ablation(summary, 3, "Without the semantic score feature, with the change against Table 2", with_base=False),
        ablation(summary, 4, "Cross against dot product in the TinyBERT matching layer", with_base=True),
        ablation(summary, 5, "With the relevance label task", with_base=True),
    ]
    return [table for table in made if table.name in names]


def _line_2(row: TableRow, figures: Mapping[str, Any], tasks: Sequence[str]) -> Line:
    printed, of_paper = row.printed, PAPER_ROWS.get(row.ranker)
    counts = figures["parameters"] or {}
    return Line(
        row.label,
        (
            *(_figure(figures["auc"].get(task), printed.auc.get(task)) for task in tasks),
            *(_figure(figures["mrr"][task], printed.mrr.get(task)) for task in tasks),
            *_weights(row, figures, tasks),
            _figure(figures["pd"], printed.pd, digits=2),
            TableFigure(
                compact(counts.get("trainable")) if counts else "",
                paper=compact(of_paper.trainable) if of_paper and of_paper.trainable else "",
            ),
            TableFigure(
                compact(counts.get("total")) if counts else "",
                paper=compact(of_paper.total) if of_paper and of_paper.total else "",
            ),
        ),
    )


def _line_3(row: TableRow, summary: Summary, tasks: Sequence[str], with_change: bool) -> Line:
    figures = summary["rows"][row.name]
    cells = []
    for task in tasks:
        cell = _figure(figures["mrr"][task], row.printed.mrr.get(task))
        if with_change and row.base is not None:
            found = summary["differences"].get(RowPair(row.name, row.base, "mrr", task).key)
            percent = row.printed.percent.get(task)
            if percent is None and row.printed.mrr:
                its = next(each for each in ROWS if each.name == row.base).printed.mrr[task]
                percent = 100 * (row.printed.mrr[task] / its - 1)
            paper = f"{cell.paper} ({signed(percent, 2)} %)" if percent else f"{cell.paper} (0.00 %)"
            cell = TableFigure(cell.ours, cell.interval, paper, _change(found))
        cells.append(cell)
    return Line(row.label, (*cells, *_weights(row, figures, tasks)))


def _change(found: Mapping[str, Any] | None) -> tuple[str, ...]:
    if found is None or found["percent"] is None:
        return ()
    percent = found["percent"]
    return (f"{signed(percent['value'], 2)} % ({signed(percent['low'], 2)} to {signed(percent['high'], 2)})",)


def _weights(row: TableRow, figures: Mapping[str, Any], tasks: Sequence[str]) -> list[TableFigure]:
    own = figures["weights"] if row.printed.weights or row.base else None
    return [
        TableFigure(
            number(own[task], 1) if own else "",
            paper=number(row.printed.weights[task], 1) if task in row.printed.weights else "",
        )
        for task in tasks
    ]


def _figure(found: Mapping[str, Any] | None, paper: float | None, digits: int = 3) -> TableFigure:
    printed = "" if paper is None else number(paper, digits)
    if found is None:
        return TableFigure(paper=printed)
    interval = "" if found["low"] is None else f"{number(found['low'], digits)}–{number(found['high'], digits)}"
    return TableFigure(number(found["value"], digits), interval, printed)


def _left_out(summary: Summary, table: int) -> list[str]:
    """Rows of a table that this data cannot have, with the reason."""
    of_table = {row.name: row.label for row in ROWS if row.table == table}
    return [f"{of_table[name]} is left out: {why}." for name, why in summary["left_out"].items() if name in of_table]
