"""The rankers: quality by task with intervals, distance to what is possible, and what each of them is."""

from shelfrank.report.blocks import Block, Cell, Details, Listing, Missing, Row, Section, Table
from shelfrank.report.charts import share_bar
from shelfrank.report.comparison import Comparison, Ranker
from shelfrank.report.formats import brief, compact, duration, listed, memory, number, percent, task_title
from shelfrank.report.measured import Interval
from shelfrank.report.sections.ranker_charts import difference_charts, value_charts
from shelfrank.report.sections.ranker_rows import HOW_TO_READ, best_of, figure_cell, ranker_role


def rankers_section(comparison: Comparison) -> Section:
    """The table of rankers, the charts of their values and differences, and what each ranker is and took."""
    if not comparison.rankers:
        return Section("rankers", "Rankers", [Missing("No ranker was evaluated.")])
    blocks: list[Block] = [
        _quality(comparison),
        value_charts(comparison),
        difference_charts(comparison),
        _possible(comparison),
        _profile(comparison),
    ]
    choices = [Listing(ranker.title, facts) for ranker in comparison.rankers if (facts := _choices(ranker))]
    if choices:
        blocks.append(Details("What the rankers chose by themselves, and where their parameters are", choices))
    return Section("rankers", "Rankers", blocks, "All rankers order the same test searches.")


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
    return Table("Ranking quality by task", "Ranker", [m.label for _, m in columns], rows, groups, HOW_TO_READ)


def _possible(comparison: Comparison) -> Block:
    rankers = [ranker for ranker in comparison.rankers if ranker.share_of_possible]
    if not rankers:
        return Missing(
            "The best possible order is not known for this data, so neither is the share of its gain that was reached."
        )
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
        f"(ranker − baseline) / (best possible − baseline) in {comparison.headline.label}: "
        "0 % orders as well as the baseline, 100 % as well as anything can; "
        "below 0 % is worse than the baseline."
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
        ("Weights of the order", len(comparison.tasks)),
        ("Parameters", 2),
        ("Training", 2),
        ("Scoring", 1),
    ]
    legend = (
        "PD: share of the first products that stay among the first without knowledge of the customer; "
        "lower is more personalized; a dash where the ranker reads no features of the customer or no customer is "
        "known. Weights: what makes a page's order of the tasks' scores, with those of the loss where these are "
        "others; a dash where one score orders the page."
    )
    return Table("What the rankers are, and what they took", "Ranker", columns, rows, groups, legend)


def _choices(ranker: Ranker) -> list[str]:
    parts = ranker.params.parts if ranker.params else {}
    named = [f"{name.replace('_', ' ')} {compact(n)}" for name, n in parts.items()]
    return [*ranker.choices, *([f"parameters: {listed(named)}"] if named else [])]


def _weight_cell(ranker: Ranker, task: str) -> Cell:
    weight, in_loss = ranker.order_weights.get(task), ranker.task_weights.get(task)
    notes = [] if in_loss is None or in_loss == weight else [(f"loss {number(in_loss, 2)}", "")]
    return Cell(number(weight, 2), notes)


def _pd_cell(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell(number(None))
    return Cell(number(interval.value), [(brief(interval), "")] if interval.low is not None else [])
