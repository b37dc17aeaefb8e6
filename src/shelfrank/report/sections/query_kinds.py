"""The rankers by kind of query: what they gain where the words of a search are not those of the products."""

from collections.abc import Mapping

from shelfrank.report.blocks import Block, Cell, Figure, Figures, Missing, Row, Section, Table, Tabs
from shelfrank.report.charts import Reference, interval_chart
from shelfrank.report.comparison import Comparison, Segment, figure_of
from shelfrank.report.formats import UNKNOWN, count, percent, task_title
from shelfrank.report.measured import Measure
from shelfrank.report.sections.ranker_rows import (
    HOW_TO_READ,
    HOW_TO_READ_DIFFERENCES,
    best_of,
    difference_dot,
    figure_cell,
    ranker_role,
)

SEGMENTATION = "query_kind"
MEANINGS = {
    "plain": "At least half of the right products shown have its noun in their titles, or there is none to compare.",
    "synonym": "It names a type of product by a word that fewer than half of the right products shown have in "
    "their titles.",
    "typo": "A typing error left other words than were meant.",
}


def query_kinds_section(comparison: Comparison) -> Section:
    """How many searches there are of each kind, each ranker's quality on them, and its differences to the baseline."""
    title = "By kind of query"
    intro = "What the rankers gain where the words of a search are not those of the products it is for."
    segments = comparison.segments.get(SEGMENTATION)
    if not segments:
        words = "The kinds of queries are not known for this data; a simulated log tells them."
        return Section("query-kinds", title, [Missing(words)], intro)
    measure = Measure("mrr", max(comparison.ks, default=10))
    blocks: list[Block] = [_kinds(comparison, segments), _quality(comparison, segments, measure)]
    if differences := _differences(comparison, segments, measure):
        blocks.append(differences)
    return Section("query-kinds", title, blocks, intro)


def _kinds(comparison: Comparison, segments: Mapping[str, Segment]) -> Table:
    total = comparison.counts.searches
    rows = [
        Row(
            name.capitalize(),
            [
                Cell(MEANINGS.get(name, UNKNOWN), numeric=False),
                Cell(count(segment.searches)),
                Cell(percent(segment.searches / total if segment.searches is not None and total else None)),
                *(Cell(count(segment.with_positive.get(task))) for task in comparison.tasks),
            ],
        )
        for name, segment in segments.items()
    ]
    groups = [("", 1), ("Searches", 2), ("Searches with a positive", len(comparison.tasks))]
    columns = ["What it is", "All", "Share", *map(task_title, comparison.tasks)]
    legend = "Right products are those of the type that the query names. Words are compared without plural endings."
    return Table("Kinds of queries", "Kind", columns, rows, groups if comparison.tasks else groups[:-1], legend)


def _quality(comparison: Comparison, segments: Mapping[str, Segment], measure: Measure) -> Table:
    columns = [(task, segment) for task in comparison.tasks for segment in segments.values()]
    best = [
        best_of(figure_of(s.rankers, ranker, measure, task) for ranker in comparison.rankers) for task, s in columns
    ]
    rows = [
        Row(
            ranker.title,
            [
                figure_cell(
                    figure_of(segment.rankers, ranker, measure, task),
                    figure_of(segment.differences, ranker, measure, task),
                    highest,
                )
                for (task, segment), highest in zip(columns, best, strict=True)
            ],
            ranker_role(comparison, ranker),
        )
        for ranker in comparison.rankers
    ]
    groups = [(task_title(task), len(segments)) for task in comparison.tasks]
    heads = [name.capitalize() for _ in comparison.tasks for name in segments]
    return Table(f"{measure.label} by task and kind of query", "Ranker", heads, rows, groups, HOW_TO_READ)


def _differences(comparison: Comparison, segments: Mapping[str, Segment], measure: Measure) -> Tabs | None:
    items: list[tuple[str, list[Block]]] = []
    for number_of_task, task in enumerate(comparison.tasks):
        figures = []
        for number_of_ranker, ranker in enumerate(comparison.rankers):
            dots = [
                difference_dot(name.capitalize(), figure_of(segment.differences, ranker, measure, task))
                for name, segment in segments.items()
            ]
            if any(dot.known for dot in dots):
                axis = f"difference in {measure.label}"
                title = f"Difference in {measure.label} to the baseline by kind of query, {ranker.title}"
                chart_id = f"query-kinds-{number_of_task}-{number_of_ranker}"
                chart = interval_chart(chart_id, title, dots, [Reference("", 0.0, "zero")], axis)
                figures.append(Figure(ranker.title, chart))
        if figures:
            items.append((task_title(task), [Figures(figures, HOW_TO_READ_DIFFERENCES)]))
    return Tabs("query-kinds", "Paired differences to the baseline by kind of query", items) if items else None
