"""The rankers: quality by task with intervals, charts of values and differences, and what each ranker is."""

from collections.abc import Callable, Iterable

from markupsafe import Markup

from shelfrank.evaluate.truth import EXPECTED_FIGURES
from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.report.blocks import Block, Cell, Details, Figure, Figures, Listing, Missing, Row, Section, Table, Tabs
from shelfrank.report.charts import Dot, Reference, interval_chart, share_bar
from shelfrank.report.comparison import Comparison, Ranker
from shelfrank.report.estimates import Estimate, Measure
from shelfrank.report.formats import brief, compact, duration, listed, memory, number, percent, signed, task_title

NOTE_TONES = {1: "up", -1: "down"}
DOT_TONES = {1: "up", -1: "down", 0: "level", None: "plain"}
MARKS = {1: "▲ ", -1: "▼ "}
HOW_TO_READ = (
    "Below each value: its interval, and the paired difference to the baseline. ▲ or ▼: the interval of the difference "
    f"excludes 0 and at least {MIN_SEARCHES} searches count; without a mark it is inconclusive. Shaded: the highest "
    "value of the column, which is not a test."
)
"""Legend of a table of `figure_cell`."""
HOW_TO_READ_DIFFERENCES = (
    "Blue: better than the baseline. Orange: worse. Hollow: inconclusive, since the interval includes 0 or fewer than "
    f"{MIN_SEARCHES} searches count."
)
"""Caption of charts of `difference_dot`."""

_Draw = Callable[[str, Comparison, Measure, str], Markup | None]
"""Draws the chart of an id, a comparison, a measure and a task; None where nothing is known."""


def rankers_section(comparison: Comparison) -> Section:
    """The table of rankers, the charts of their values and differences, and what each ranker is and took."""
    if not comparison.rankers:
        return Section("rankers", "Rankers", [Missing("No ranker was evaluated.")])
    blocks: list[Block] = [
        _quality(comparison),
        _value_charts(comparison),
        _difference_charts(comparison),
        _possible(comparison),
        _profile(comparison),
        *_gates(comparison),
    ]
    choices = [Listing(ranker.title, facts) for ranker in comparison.rankers if (facts := _choices(ranker))]
    if choices:
        blocks.append(Details("Automatic choices and parameter counts", choices))
    return Section("rankers", "Rankers", blocks, "All rankers are evaluated on the same test searches.")


def _quality(comparison: Comparison) -> Table:
    columns = [(task, measure) for task in comparison.tasks for measure in comparison.measures]
    best = {
        (task, measure): best_of(ranker.get(measure, task) for ranker in comparison.rankers)
        for task, measure in columns
    }
    rows = [
        Row(
            ranker.title,
            [
                figure_cell(
                    ranker.get(measure, task), comparison.difference(ranker, measure, task), best[task, measure]
                )
                for task, measure in columns
            ],
            ranker_role(comparison, ranker),
        )
        for ranker in comparison.rankers
    ]
    groups = [(task_title(task), len(comparison.measures)) for task in comparison.tasks]
    legend = " ".join([HOW_TO_READ, *_expected_legend(comparison)])
    return Table("Ranking quality by task", "Ranker", [m.label for _, m in columns], rows, groups, legend)


def _expected_legend(comparison: Comparison) -> list[str]:
    return [
        f"{measure.label}: {text}."
        for measure in comparison.expected_measures
        for figure, text in EXPECTED_FIGURES.items()
        if figure == measure.family
    ]


def _value_charts(comparison: Comparison) -> Block:
    """Each ranker's value with its interval, by task, for every measure to choose from."""
    caption = "Blue: the highest value. Hollow, and the thin line: the baseline."
    if comparison.bounds.best.mrr or comparison.bounds.non_personalized.mrr:
        caption += (
            " Best possible: each page ordered by the customer's true probabilities, position aside, which only a "
            "simulation knows. Best without personalization: ordered by those of the average customer."
        )
    return _choice("values", "Values, with intervals", comparison, _draw_values, caption) or Missing(
        "No values are part of this comparison."
    )


def _difference_charts(comparison: Comparison) -> Block:
    """Each ranker's paired difference to the baseline with its interval, by task, for every measure."""
    legend = "Paired differences to the baseline"
    return _choice("differences", legend, comparison, _draw_differences, HOW_TO_READ_DIFFERENCES) or Missing(
        "Paired differences to a baseline are not part of this comparison."
    )


def _choice(name: str, legend: str, comparison: Comparison, draw: _Draw, caption: str) -> Tabs | None:
    items: list[tuple[str, list[Block]]] = []
    chosen = 0
    for number_of_measure, measure in enumerate(comparison.measures):
        figures = []
        for number_of_task, task in enumerate(comparison.tasks):
            chart = draw(f"{name}-{number_of_measure}-{number_of_task}", comparison, measure, task)
            if chart is not None:
                figures.append(Figure(task_title(task), chart))
        if figures:
            if measure == comparison.headline:
                chosen = len(items)
            items.append((measure.label, [Figures(figures, caption)]))
    return Tabs(name, legend, items, chosen) if items else None


def _draw_values(chart_id: str, comparison: Comparison, measure: Measure, task: str) -> Markup | None:
    intervals = [(ranker, ranker.get(measure, task)) for ranker in comparison.rankers]
    values = [interval.value for _, interval in intervals if interval and interval.value is not None]
    if not values:
        return None
    dots = []
    for ranker, interval in intervals:
        value = interval.value if interval else None
        tone = "baseline" if ranker.name == comparison.baseline else "best" if value == max(values) else "plain"
        ends = (interval.low, interval.high) if interval else (None, None)
        dots.append(Dot(ranker.title, number(value), value, *ends, tone=tone))
    title = f"{measure.label}, {task_title(task)}"
    return interval_chart(chart_id, title, dots, _references(comparison, measure, task), measure.label)


def _references(comparison: Comparison, measure: Measure, task: str) -> list[Reference]:
    base = comparison.baseline_ranker
    interval = base.get(measure, task) if base else None
    references = [Reference("", interval.value, "baseline")] if interval and interval.value is not None else []
    for label, bound, tone in (
        ("best without personalization", comparison.bounds.non_personalized, "non-personalized"),
        ("best possible", comparison.bounds.best, "best"),
    ):
        value = bound.get(measure, task)
        if value is not None:
            references.append(Reference(f"{label}: {number(value)}", value, tone))
    return references


def _draw_differences(chart_id: str, comparison: Comparison, measure: Measure, task: str) -> Markup | None:
    dots = [
        difference_dot(ranker.title, comparison.difference(ranker, measure, task))
        for ranker in comparison.rankers
        if ranker.name != comparison.baseline
    ]
    if not any(item.known for item in dots):
        return None
    title = f"Difference in {measure.label} to the baseline, {task_title(task)}"
    return interval_chart(chart_id, title, dots, [Reference("", 0.0, "zero")], f"difference in {measure.label}")


def _possible(comparison: Comparison) -> Block:
    rankers = [ranker for ranker in comparison.rankers if ranker.share_of_possible]
    if not rankers:
        return Missing("The best possible order is not known for this data.")
    rows = [
        Row(
            ranker.title,
            [
                Cell(percent(share, 0), bar=share_bar(share))
                for share in map(ranker.share_of_possible.get, comparison.tasks)
            ],
        )
        for ranker in rankers
    ]
    legend = (
        f"(ranker − baseline) / (best possible − baseline) in {comparison.headline.label}: 0 % is the baseline, 100 % "
        "the best possible order; below 0 % is worse than the baseline."
    )
    columns = [task_title(task) for task in comparison.tasks]
    return Table("Share of the possible gain reached", "Ranker", columns, rows, legend=legend)


def _profile(comparison: Comparison) -> Table:
    cutoffs = sorted({k for ranker in comparison.rankers for k in ranker.pd}, key=lambda k: (len(k), k)) or ["10"]
    rows = []
    for ranker in comparison.rankers:
        trained, scored = ranker.cost.train, ranker.cost.score
        rate = scored.rows / scored.wall_s if scored.rows is not None and scored.wall_s else None
        rows.append(
            Row(
                ranker.title,
                [
                    *(_pd_cell(ranker.pd.get(k)) for k in cutoffs),
                    *(_weight_cell(ranker, task) for task in comparison.tasks),
                    Cell(compact(ranker.params.trainable if ranker.params else None)),
                    Cell(compact(ranker.params.total if ranker.params else None)),
                    Cell(duration(trained.wall_s)),
                    Cell(memory(trained.peak_rss_mb)),
                    Cell(compact(rate)),
                ],
                ranker.name if ranker.name != ranker.title else "",
            )
        )
    columns = [*(f"PD@{k}" for k in cutoffs), *map(task_title, comparison.tasks)]
    columns += ["Trainable", "Total", "Time", "Peak memory", "Rows/s"]
    groups = [
        ("Personalization", len(cutoffs)),
        ("Score weights", len(comparison.tasks)),
        ("Parameters", 2),
        ("Training", 2),
        ("Scoring", 1),
    ]
    legend = (
        "PD: share of the first products that are the same with and without personalization; lower is more "
        "personalized; a dash where the ranker reads no customer features or no customer is known. Score weights fuse "
        "the tasks' scores into the page's order, with the weight in the loss where it differs, and the trees' share "
        "in a blend; a dash where a single score orders the page."
    )
    return Table("Size, weights and cost of the rankers", "Ranker", columns, rows, groups, legend)


def _gates(comparison: Comparison) -> list[Block]:
    """How much each task uses each expert, for the rankers with a mixture of experts; nothing without any."""
    rankers = [ranker for ranker in comparison.rankers if ranker.gates]
    n_experts = max((len(shares) for ranker in rankers for shares in ranker.gates.values()), default=0)
    rows = [
        Row(
            f"{ranker.title}, {task_title(task)}",
            [Cell(percent(share, 0), bar=share_bar(share)) for share in [*shares, *[None] * (n_experts - len(shares))]],
        )
        for ranker in rankers
        for task, shares in ranker.gates.items()
    ]
    columns = [f"Expert {place + 1}" for place in range(n_experts)]
    legend = (
        "Mean weight of each expert in a task's gate over the validation rows; a row adds up to 100 %. An expert with "
        "about 0 % in every row is hardly used."
    )
    return [Table("Experts that each task uses", "Ranker and task", columns, rows, legend=legend)] if rows else []


def _choices(ranker: Ranker) -> list[str]:
    parts = ranker.params.parts if ranker.params else {}
    named = [f"{name.replace('_', ' ')} {compact(n)}" for name, n in parts.items()]
    return [*ranker.choices, *([f"parameters: {listed(named)}"] if named else [])]


def _weight_cell(ranker: Ranker, task: str) -> Cell:
    weight, in_loss = ranker.order_weights.get(task), ranker.task_weights.get(task)
    notes = [] if in_loss is None or in_loss == weight else [(f"loss {number(in_loss, 2)}", "")]
    # Of a blend, in which the other part is the network.
    trees = ranker.shares.get(task, {}).get("trees")
    if trees is not None:
        notes.append((f"trees {percent(trees)}", ""))
    return Cell(number(weight, 2), notes)


def _pd_cell(interval: Estimate | None) -> Cell:
    if interval is None:
        return Cell(number(None))
    return Cell(number(interval.value), [(brief(interval), "")] if interval.low is not None else [])


def ranker_role(comparison: Comparison, ranker: Ranker) -> str:
    """What to know of a ranker beside its name; empty for a learned one that is not the baseline."""
    if ranker.name == comparison.baseline:
        return "baseline"
    return "not learned" if ranker.learned is False else ""


def figure_cell(interval: Estimate | None, difference: Estimate | None, best: str | None) -> Cell:
    """A value with its interval and its paired difference to the baseline.

    Args:
        interval: The value.
        difference: The difference; None for the baseline itself.
        best: The highest value of the column, from `best_of`.

    Returns:
        The cell.
    """
    notes = [(brief(interval), "")] if interval and interval.low is not None else []
    if difference is not None:
        sign = difference.sign or 0
        notes.append((MARKS.get(sign, "") + signed(difference.value), NOTE_TONES.get(sign, "")))
    text = number(interval.value if interval else None)
    return Cell(text, notes, best=text == best)


def best_of(intervals: Iterable[Estimate | None]) -> str | None:
    """The highest of several values as printed, so that two that read alike are both marked; None for a single one."""
    values = [interval.value for interval in intervals if interval and interval.value is not None]
    return number(max(values)) if len(values) > 1 else None


def difference_dot(label: str, difference: Estimate | None) -> Dot:
    """A paired difference as a row of a chart, coloured where it is shown."""
    if difference is None:
        return Dot(label, number(None), None)
    tone = DOT_TONES[difference.sign]
    return Dot(label, signed(difference.value), difference.value, difference.low, difference.high, tone)
