"""The rankers on segments of the searches: by query frequency, customer, product and query type."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shelfrank.report.blocks import Block, Cell, Details, Figure, Figures, Missing, Row, Section, Table, Tabs
from shelfrank.report.charts import Reference, interval_chart
from shelfrank.report.comparison import Comparison, Segment, figure_of
from shelfrank.report.estimates import Measure
from shelfrank.report.formats import UNKNOWN, count, percent, task_title
from shelfrank.report.sections.rankers import (
    HOW_TO_READ,
    HOW_TO_READ_DIFFERENCES,
    best_of,
    difference_dot,
    figure_cell,
    ranker_role,
)


@dataclass(frozen=True)
class Words:
    """What a segmentation is called, and what its segments are.

    Attributes:
        title: Its name.
        meanings: By segment, what it is.
        legend: What else to know.
        each: What any other segment is.
    """

    title: str
    meanings: Mapping[str, str] = field(default_factory=dict)
    legend: str = ""
    each: str = UNKNOWN


RANDOMISED_PAGES = (
    "The position on a randomised page is due to chance, so a ranker that imitates the shop's usual order gains "
    "nothing there; one that reads the shown position does, since customers still look at the top first."
)

SEGMENTATIONS: Mapping[str, Words] = {
    "randomised": Words(
        "Shown order",
        {
            "randomised": "The log marks the page as shown in random order.",
            "ranked": "The log marks the page as ranked.",
        },
        RANDOMISED_PAGES,
    ),
    "fold": Words(
        "Test window", each="A test window, ranked by the ranker that was trained on the searches before it."
    ),
    "query_frequency": Words(
        "Query frequency",
        {
            "head": "The most frequent queries, together at most a third of the training searches.",
            "torso": "The next most frequent, together with the head at most two thirds.",
            "tail": "The remaining queries of the training split.",
            "unseen": "Queries without a search in the training split.",
        },
        "Equally frequent queries stay together, so head and torso may hold less than a third each.",
    ),
    "customer": Words(
        "Customer",
        {
            "known": "Customers with a search in the training split.",
            "new": "Customers without a search in the training split.",
            "anonymous": "Anonymous visitors: the log has no customer id.",
        },
        "A new customer may have earlier searches within the evaluated split; history features include them.",
    ),
    "product_coldness": Words(
        "Product",
        {
            "warm": "At least one chosen product has an impression in the training split.",
            "cold": "No chosen product has an impression in the training split.",
        },
        "Chosen: with a positive label for any task. Searches without a chosen product are in neither segment.",
    ),
    "query_kind": Words(
        "Query type",
        {
            "plain": "At least half of the relevant products shown have the query's noun in their titles, or there is "
            "nothing to compare.",
            "synonym": "Names a product type by a word that fewer than half of the relevant products shown have in "
            "their titles.",
            "typo": "Has a typing error.",
        },
        "Relevant: of the product type that the query names. Words are compared without plural endings.",
    ),
}
"""The segmentations in the order in which they are shown, as `evaluate/segmentations.py` makes them."""


def segments_section(comparison: Comparison) -> Section:
    """For each segmentation its segments and each ranker's quality on them, with the differences to the baseline."""
    title, intro = "By segment", "The rankers on segments of the evaluated searches."
    items = [
        (words.title, _blocks(comparison, name, words, segments))
        for name, words in SEGMENTATIONS.items()
        if (segments := comparison.segments.get(name))
    ]
    if not items:
        words = "Figures by query frequency, customer and product are not part of this comparison."
        return Section("segments", title, [Missing(words)], intro)
    return Section("segments", title, [Tabs("segments", "Searches by", items)], intro)


def _blocks(comparison: Comparison, name: str, words: Words, segments: Mapping[str, Segment]) -> list[Block]:
    measure = Measure("mrr", max(comparison.ks, default=10))
    blocks: list[Block] = [_sizes(comparison, words, segments)]
    # A segment without searches has no figures, and would only make the tables wider.
    filled = {name: segment for name, segment in segments.items() if segment.searches != 0}
    blocks.append(_quality(comparison, words, filled, measure))
    if charts := _differences(comparison, name, words, filled, measure):
        blocks.append(Details(f"Paired differences to the baseline by {words.title.lower()}, as charts", [charts]))
    return blocks


def _sizes(comparison: Comparison, words: Words, segments: Mapping[str, Segment]) -> Table:
    total = comparison.counts.searches
    rows = [
        Row(
            name.capitalize(),
            [
                Cell(words.meanings.get(name, words.each), numeric=False),
                Cell(count(segment.searches)),
                Cell(percent(segment.searches / total if segment.searches is not None and total else None)),
                *(Cell(count(segment.with_positive.get(task))) for task in comparison.tasks),
            ],
        )
        for name, segment in segments.items()
    ]
    groups = [("", 1), ("Searches", 2), ("Searches with a positive", len(comparison.tasks))]
    columns = ["Definition", "All", "Share", *map(task_title, comparison.tasks)]
    caption = f"Searches by {words.title.lower()}"
    return Table(caption, "Segment", columns, rows, groups if comparison.tasks else groups[:-1], words.legend)


def _quality(comparison: Comparison, words: Words, segments: Mapping[str, Segment], measure: Measure) -> Table:
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
    caption = f"{measure.label} by task and {words.title.lower()}"
    return Table(caption, "Ranker", heads, rows, groups if segments else (), HOW_TO_READ)


def _differences(
    comparison: Comparison, name: str, words: Words, segments: Mapping[str, Segment], measure: Measure
) -> Tabs | None:
    group = f"segments-{name.replace('_', '-')}"
    items: list[tuple[str, list[Block]]] = []
    for number_of_task, task in enumerate(comparison.tasks):
        figures = []
        for number_of_ranker, ranker in enumerate(comparison.rankers):
            dots = [
                difference_dot(segment_name.capitalize(), figure_of(segment.differences, ranker, measure, task))
                for segment_name, segment in segments.items()
            ]
            if any(dot.known for dot in dots):
                axis = f"difference in {measure.label}"
                title = f"Difference in {measure.label} to the baseline by {words.title.lower()}, {ranker.title}"
                chart_id = f"{group}-{number_of_task}-{number_of_ranker}"
                chart = interval_chart(chart_id, title, dots, [Reference("", 0.0, "zero")], axis)
                figures.append(Figure(ranker.title, chart))
        if figures:
            items.append((task_title(task), [Figures(figures, HOW_TO_READ_DIFFERENCES)]))
    return Tabs(group, "Task", items) if items else None
