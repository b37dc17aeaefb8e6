"""The result: for each task, whether a ranker is shown to beat the baseline, and by how much."""

from collections.abc import Sequence

from shelfrank.report.blocks import Block, Card, Cards, Missing, Section, Text
from shelfrank.report.comparison import Comparison
from shelfrank.report.formats import number, signed, task_title
from shelfrank.report.verdict import Outcome, Verdict, n_tests

TONES = {Outcome.ABOVE: "up", Outcome.BELOW: "down"}
CAPTIONS = {
    Outcome.ABOVE: "above the baseline",
    Outcome.LEVEL: "not shown to differ",
    Outcome.FEW: "too few searches",
    Outcome.BELOW: "below the baseline",
    Outcome.UNTESTED: "not tested",
    Outcome.ALONE: "baseline only",
    Outcome.UNKNOWN: "not known",
}


def result_section(comparison: Comparison, verdicts: Sequence[Verdict]) -> Section:
    """One card per task, and what to keep in mind when reading them."""
    blocks: list[Block] = []
    if verdicts:
        blocks.append(Cards([_card(verdict, comparison) for verdict in verdicts]))
    else:
        blocks.append(Missing("No task was evaluated, so there is nothing to conclude."))
    tests = n_tests(comparison)
    if tests > 1:
        blocks.append(
            Text(
                f"{tests} paired differences in {comparison.headline.label} stand behind these statements. "
                "Each interval holds for its own comparison, and the best of several is flattered by having "
                "been chosen.",
                "muted",
            )
        )
    return Section("result", "Result", blocks)


def _card(verdict: Verdict, comparison: Comparison) -> Card:
    measure = comparison.headline.label
    difference = verdict.difference
    if difference is not None and difference.sign is not None:
        figure = signed(difference.value)
    else:
        figure = number(verdict.value.value if verdict.value else None)
    who = verdict.ranker.title if verdict.ranker else ""
    return Card(
        heading=f"{task_title(verdict.task)}, {measure}",
        figure=figure,
        caption=CAPTIONS[verdict.outcome],
        subject=who,
        sentences=verdict.sentences,
        tone=TONES.get(verdict.outcome, ""),
    )
