"""The reproduction as one page: the claims first, then the tables, then data and settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.paper.reproduce.claims import (
    CLAIMS,
    NO_DIFFERENCE_PERCENT,
    SIGNIFICANCE,
    Claim,
    Verdict,
    judge,
    judge_rows,
)
from shelfrank.paper.reproduce.formats import by_seed, check_title, our_figure, paper_figure
from shelfrank.paper.reproduce.rows import BY_NAME
from shelfrank.paper.reproduce.tables import PaperTable, Summary, TableFigure
from shelfrank.report.blocks import Card, Cards, Cell, Definitions, Details, Figure, Figures, Row, Section, Table, Text
from shelfrank.report.charts.intervals import Dot, Reference, interval_chart
from shelfrank.report.formats import count, listed, plural
from shelfrank.report.page import render_page

PREDICATES: dict[Verdict, tuple[str, str]] = {
    "holds": ("holds", "hold"),
    "does not hold": ("does not hold", "do not hold"),
    "no difference worth having": ("shows no difference worth having", "show no difference worth having"),
    "inconclusive": ("is inconclusive", "are inconclusive"),
}
"""The verdict on one claim and on several, in a sentence."""
TONES: dict[Verdict, str] = {
    "holds": "up",
    "does not hold": "down",
    "no difference worth having": "",
    "inconclusive": "",
}
MAX_CHART_ROWS = 9

HOW_JUDGED = (
    "A claim is a set of inequalities. One holds where the 95 % interval of the paired difference, averaged over the "
    "seeds and resampled over searches, is on the claimed side of 0 and every seed agrees; it does not hold where "
    f"the interval is on the other side, every seed agrees and p is below {SIGNIFICANCE:.0%} divided by the number "
    "of the claim's inequalities. Otherwise it shows no difference worth having where the whole interval lies within "
    f"{NO_DIFFERENCE_PERCENT:g} % of the baseline. A claim holds where all its inequalities hold, does not where one "
    "does not, and shows no difference worth having where each is decided and at least one is of that kind. All "
    f"else, and every check that fewer than {MIN_SEARCHES} searches would decide, is inconclusive."
)


def render_reproduction(summary: Summary, made: Sequence[PaperTable], with_claims: bool) -> str:
    """The page.

    Args:
        summary: What `summary.json` holds.
        made: The requested tables.
        with_claims: Whether the claims are judged.

    Returns:
        The HTML.
    """
    differences = summary["differences"]
    sections = [_claims_section(differences)] if with_claims else []
    sections += [_table_section(table) for table in made]
    sections.append(_basis_section(summary))
    data = summary["data"]
    test = data["splits"]["test"]
    rows = summary["rows"].values()
    line = (
        f"{data['name']}: {count(test['searches'])} test searches, {count(data['splits']['train']['impressions'])} "
        f"training rows, {plural(max((row['n_seeds'] for row in rows), default=0), 'seed', 'seeds')}, "
        f"budget {summary['budget']['name']}"
    )
    return render_page(
        "Personalized product search ranking, reproduced",
        "the paper's tables",
        sections,
        conclusion=conclusion(differences) if with_claims else "",
        data_line=line,
        version=summary["shelfrank"],
    )


def conclusion(differences: Mapping[str, Any], claims: Sequence[Claim] = CLAIMS) -> str:
    """How many claims hold, in a sentence."""
    by_verdict: dict[Verdict, list[str]] = {verdict: [] for verdict in TONES}
    for claim in claims:
        by_verdict[judge(claim, differences)[0]].append(claim.id)
    parts = []
    for verdict, ids in by_verdict.items():
        if ids:
            parts.append(f"{listed(ids)} {PREDICATES[verdict][len(ids) > 1]}")
    return "Of the paper's claims, " + "; ".join(parts) + "."


def _claims_section(differences: Mapping[str, Any]) -> Section:
    cards, details = [], []
    for claim in CLAIMS:
        verdict, each = judge(claim, differences)
        held = sum(one == "holds" for one in each)
        said = f"{held} of {plural(len(each), 'inequality holds', 'inequalities hold')}"
        against = sum(one == "does not hold" for one in each)
        if against:
            said += f", {against} {'does' if against == 1 else 'do'} not"
        cards.append(Card(claim.id, verdict, said, claim.statement, (claim.where,), TONES[verdict]))
        details.append(Details(f"{claim.id}: {claim.statement} — {verdict}", _evidence(claim, each, differences)))
    return Section("claims", "What holds", [Cards(cards), *details, Text(HOW_JUDGED)])


def _evidence(claim: Claim, each: Sequence[Verdict], differences: Mapping[str, Any]) -> list[Any]:
    rows = []
    for check, verdict in zip(claim.checks, each, strict=True):
        found = differences.get(check.pair.key)
        cells = (
            Cell(paper_figure(check)),
            Cell(our_figure(found)),
            Cell(by_seed(found)),
            Cell(verdict, [("", TONES[verdict])], numeric=False),
        )
        rows.append(Row(check_title(check), cells))
    table = Table(claim.statement, "Difference", ("Paper", "Ours", "By seed", "Verdict"), rows)
    dots = []
    for check, verdict in zip(claim.checks, each, strict=True):
        found = differences.get(check.pair.key)
        if found is not None and found["value"] is not None:
            tone = {"holds": "up", "does not hold": "down"}.get(verdict, "level")
            label = check_title(check)
            dots.append(Dot(label, f"{found['value']:+.3f}", found["value"], found["low"], found["high"], tone))
    rows_judged = [
        Row(BY_NAME[name].label, (Cell(verdict, [("", TONES[verdict])], numeric=False),))
        for name, verdict in judge_rows(claim, each).items()
    ]
    by_row = [Table(f"{claim.id} by row", "Row", ("Verdict",), rows_judged)] if rows_judged else []
    if not dots or len(dots) > MAX_CHART_ROWS:
        return [*by_row, table]
    zero = [Reference("", 0.0, "zero")]
    chart = interval_chart(f"claim-{claim.id}", f"{claim.id}: differences with intervals", dots, zero, "difference")
    return [Figures([Figure("Our differences", chart)]), *by_row, table]


def _table_section(table: PaperTable) -> Section:
    rows = [Row(line.label, tuple(_cell(figure) for figure in line.figures)) for line in table.lines]
    block = Table(
        table.caption,
        "",
        table.columns,
        rows,
        groups=table.groups,
        legend="Ours, its 95 % interval over searches, and the paper's figure." if table.number > 1 else "",
    )
    return Section(table.name, f"Table {table.number}", [block, *(Text(note) for note in table.notes)])


def _cell(figure: TableFigure) -> Cell:
    notes = [(figure.interval, ""), *((note, "") for note in figure.notes)]
    if figure.paper:
        notes.append((f"paper {figure.paper}", ""))
    return Cell(figure.ours, [note for note in notes if note[0]])


def _basis_section(summary: Summary) -> Section:
    budget, data = summary["budget"], summary["data"]
    items = [
        ("Data", f"{data['name']}, fingerprint {data['fingerprint'][:16]}"),
        ("Text encoder", str(budget["text_model"])),
        ("Task weights", str(budget["weights"])),
        ("Settings of every run", ", ".join(budget["settings"]) or "the defaults"),
        ("Of rows with FT-Transformer", ", ".join(budget["ft_transformer_settings"]) or "the defaults"),
        ("Of rows with text", ", ".join(budget["text_settings"]) or "the defaults"),
        ("Made with", f"shelfrank {summary['shelfrank']}, PyTorch {summary['torch']}"),
    ]
    missing = [f"{name}: {why}" for name, why in summary["left_out"].items()]
    if missing:
        items.append(("Left out", "; ".join(missing)))
    return Section("basis", "Data and settings", [Definitions(items)])
