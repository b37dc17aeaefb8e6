"""The page of relevance labels measured against true grades."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shelfrank import __version__
from shelfrank.evaluate.agreement import MEASURES
from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.report.blocks import (
    Block,
    Card,
    Cards,
    Cell,
    Code,
    Definitions,
    Figure,
    Figures,
    Missing,
    Row,
    Section,
    Table,
    Text,
)
from shelfrank.report.charts import Sweep, sweep_chart
from shelfrank.report.estimates import Estimate
from shelfrank.report.formats import between, count, number, signed
from shelfrank.report.page import render_page
from shelfrank.report.sections.provenance import as_yaml

MEASURE_TITLES: Mapping[str, str] = {
    "kappa": "Kappa",
    "spearman_within": "Spearman within queries",
    "kendall_within": "Kendall within queries",
    "spearman": "Spearman, pooled",
    "kendall": "Kendall, pooled",
}
CHARTED = ("kappa", "spearman_within", "spearman")
FORMS: Mapping[str, tuple[str, str]] = {
    "decay": ("decay: falls with the position", "up"),
    "as_printed": ("as printed: grows with the position", "down"),
    "none": ("no position weight", "plain"),
}
TONES = {1: "up", -1: "down"}
DEFINITIONS = (
    ("Kappa", "Cohen's kappa with quadratic weights, of classes and grades over all pairs: 1 is agreement, 0 chance."),
    (
        "Within queries",
        "Mean over queries of the rank correlation of scores and grades. A query whose pairs all have one grade is "
        "left out; a score that is the same for all pairs of a query counts as 0 there.",
    ),
    ("Pooled", "The rank correlation over all pairs at once: also compares products of different queries."),
    (
        "Intervals",
        "Bootstrap percentiles over whole queries; differences are paired, on the same draws. Fewer than "
        f"{MIN_SEARCHES} queries have none.",
    ),
    ("Grades", "The simulator's own, 0 to 3. No step that computes labels or features reads them."),
)


def write_agreement(result: Mapping[str, Any], path: Path) -> None:
    """Writes the page of an agreement.

    Args:
        result: What `agreement.json` holds, with the log's name as `title`.
        path: The HTML file.
    """
    page = render_agreement(result, f"{result['title']}: relevance labels against true grades")
    path.write_text(page, encoding="utf-8")


def render_agreement(result: Mapping[str, Any], title: str) -> str:
    """The page of an agreement: the labels against raw clicks first, then every voter and every alpha.

    Args:
        result: What `agreement.json` holds.
        title: The page's heading.

    Returns:
        The HTML.
    """
    scores = {score["name"]: score for score in result["scores"]}
    baseline = result["scores"][0]
    sections = [
        Section(
            "result", "Result", [_cards(scores["labels"], baseline)], "The labels as prepared, against raw clicks."
        ),
        Section("alpha", "Alpha and the position weight", _charts(result["scores"], "all")),
        Section("voters", "Voters", [_voters(result["scores"], "all queries")], "Each voter alone."),
        Section("head", "Queries with many clicks", _head(result["head"])),
        Section("provenance", "Provenance", _provenance(result)),
    ]
    data_line = (
        f"{count(result['pairs'])} pairs of {count(result['queries'])} queries; true grades 0 to 3: "
        f"{', '.join(count(n) for n in result['pairs_by_grade'])}; {count(result['pairs_without_a_grade'])} pairs "
        f"without a grade; {count(result['pairs_of_several_grades'])} with an ambiguous query"
    )
    return render_page(
        title,
        "agreement of relevance labels with true grades",
        sections,
        conclusion=_conclusion(scores["labels"], baseline),
        data_line=data_line,
        version=__version__,
    )


def _conclusion(labels: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    measure = _headline(labels)
    difference = _interval(labels["difference"], measure)
    phrases = {
        1: "The relevance labels agree better with the true grades than raw click rates do",
        -1: "The relevance labels agree worse with the true grades than raw click rates do",
        0: "Inconclusive whether the relevance labels agree better with the true grades than raw click rates do",
    }
    return (
        f"{phrases[difference.sign or 0]}: {MEASURE_TITLES[measure].lower()} "
        f"{number(_interval(labels, measure).value)} against {number(_interval(baseline, measure).value)}."
    )


def _cards(labels: Mapping[str, Any], baseline: Mapping[str, Any]) -> Cards:
    cards = []
    for measure in (name for name in CHARTED if name in labels):
        difference = _interval(labels["difference"], measure)
        cards.append(
            Card(
                heading=MEASURE_TITLES[measure],
                figure=number(_interval(labels, measure).value),
                caption=f"raw clicks: {number(_interval(baseline, measure).value)}",
                subject="",
                sentences=[f"Difference {signed(difference.value)}, interval {between(difference)}."],
                tone=TONES.get(difference.sign or 0, ""),
            )
        )
    return Cards(cards)


def _head(head: Mapping[str, Any]) -> list[Block]:
    if not head["scores"]:
        return [Missing(f"No query has {count(head['clicks'])} clicks or more.")]
    words = (
        f"{count(head['queries'])} queries with at least {count(head['clicks'])} clicks each, {count(head['pairs'])} "
        "pairs. Rare queries dominate the figures over all queries, and their click rates are noisy."
    )
    return [Text(words), *_charts(head["scores"], "head"), _voters(head["scores"], "queries with many clicks")]


def _charts(scores: Sequence[Mapping[str, Any]], part: str) -> list[Block]:
    baseline = scores[0]
    combined = [score for score in scores if "alpha" in score]
    if not combined:
        return [Missing("There is no semantic score, so there is nothing to combine clicks with.")]
    figures = []
    for measure in (name for name in CHARTED if name in baseline):
        sweeps = [
            Sweep(label, tone, [(s["alpha"], _interval(s, measure)) for s in combined if s["position_weight"] == form])
            for form, (label, tone) in FORMS.items()
        ]
        level = _interval(baseline, measure).value
        title = MEASURE_TITLES[measure]
        chart = sweep_chart(
            f"sweep-{part}-{measure}",
            f"{title} over alpha",
            sweeps,
            "alpha: share of the click voter",
            None if level is None else ("raw click rate", level),
        )
        figures.append(Figure(title, chart))
    return [Figures(figures, "Alpha 0: semantic score only. Alpha 1: weighted click rate only.")]


def _voters(scores: Sequence[Mapping[str, Any]], part: str) -> Table:
    names = {"raw_ctr": "Raw click rate", "labels": "The labels as prepared", "semantic": "Semantic score"}
    alone = [score for score in scores if "alpha" not in score]
    measures = [measure for measure in MEASURES if measure in scores[0]]
    best = {m: max((_interval(score, m).value or 0.0) for score in alone) for m in measures}
    rows = [
        Row(
            names[score["name"]] if score["name"] in names else score["name"],
            [
                *(_cell(_interval(score, measure), best[measure]) for measure in measures),
                Cell(count(score["pairs"])),
            ],
        )
        for score in alone
    ]
    columns = [*(MEASURE_TITLES[measure] for measure in measures), "Pairs"]
    return Table(f"Agreement with the true grades over {part}, with intervals", "Score", columns, rows)


def _cell(interval: Estimate, best: float) -> Cell:
    return Cell(number(interval.value), [(between(interval), "")], best=interval.value == best)


def _provenance(result: Mapping[str, Any]) -> list[Block]:
    about = result["labels"]
    facts = [("Confidence", f"{result['confidence'] * 100:g} %")]
    facts += [(reason.capitalize(), count(n)) for reason, n in about["counts"].items()]
    facts += [("Note", note) for note in about["notes"]]
    return [Definitions(facts), Code(as_yaml(about["config"])), Definitions(DEFINITIONS)]


def _headline(score: Mapping[str, Any]) -> str:
    return next(measure for measure in MEASURES if measure in score)


def _interval(figures: Mapping[str, Any], measure: str) -> Estimate:
    return Estimate.model_validate(figures[measure])
