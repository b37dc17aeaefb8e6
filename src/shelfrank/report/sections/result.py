"""The result: which ranker wins each task and whether that is conclusive, from the paired intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.report.blocks import Block, Card, Cards, Missing, Section, Text
from shelfrank.report.comparison import Comparison, Ranker
from shelfrank.report.estimates import Estimate
from shelfrank.report.formats import between, listed, number, plural, signed, task_name, task_title


class Conclusion(StrEnum):
    """What the paired differences say about a task."""

    ABOVE = "above"  # a ranker's whole interval lies above 0
    LEVEL = "level"  # none does, and at least one includes 0
    FEW = "few"  # fewer searches count than a statement takes
    BELOW = "below"  # every ranker's whole interval lies below 0
    UNTESTED = "untested"  # there are values, but no interval to judge by
    ALONE = "alone"  # nothing but the baseline was evaluated
    UNKNOWN = "unknown"  # there are no values


OUTCOMES = {1: "above", 0: "inconclusive", -1: "below", None: "not tested"}
"""By the sign of a paired difference, the outcome for the first of the two rankers."""
TONES = {Conclusion.ABOVE: "up", Conclusion.BELOW: "down"}
CAPTIONS = {
    Conclusion.ABOVE: "better than the baseline",
    Conclusion.LEVEL: "inconclusive",
    Conclusion.FEW: "inconclusive: too few searches",
    Conclusion.BELOW: "worse than the baseline",
    Conclusion.UNTESTED: "not tested",
    Conclusion.ALONE: "baseline only",
    Conclusion.UNKNOWN: "not known",
}


MAX_NAMES = 3
"""A card names so many other rankers; the table has all."""


@dataclass(frozen=True)
class Verdict:
    """What the comparison says about one task.

    Attributes:
        task: The task.
        conclusion: The conclusion.
        ranker: The ranker that the conclusion is about.
        value: The ranker's figure.
        baseline: The baseline's figure.
        difference: The ranker's paired difference to the baseline.
        sentences: The conclusion in words, with its numbers.
    """

    task: str
    conclusion: Conclusion
    ranker: Ranker | None
    value: Estimate | None
    baseline: Estimate | None
    difference: Estimate | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    ranker: Ranker
    value: Estimate
    difference: Estimate | None

    @property
    def sign(self) -> int | None:
        return None if self.difference is None else self.difference.sign

    @property
    def height(self) -> float:
        return self.value.value or 0.0


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
                f"{tests} paired differences in {comparison.headline.label} were computed. Each interval holds for its "
                "own comparison only, and the gain of the best of several rankers is optimistic.",
                "muted",
            )
        )
    return Section("result", "Result", blocks)


def judge(comparison: Comparison, task: str) -> Verdict:
    """Which ranker is best for a task, and whether that is shown against the baseline.

    A ranker wins only where the interval of its paired difference lies above 0; of several such, the one of
    the highest value does.

    Args:
        comparison: The comparison.
        task: The task.

    Returns:
        The verdict on the comparison's headline measure.
    """
    measure = comparison.headline
    base = comparison.baseline_ranker
    base_value = base.get(measure, task) if base else None
    candidates = [
        _Candidate(ranker, value, comparison.difference(ranker, measure, task))
        for ranker in comparison.rankers
        if ranker.name != comparison.baseline and (value := ranker.get(measure, task)) is not None
    ]
    conclusion, subject = _conclude(candidates, base_value)
    return Verdict(
        task=task,
        conclusion=conclusion,
        ranker=subject.ranker if subject else base if conclusion is Conclusion.ALONE else None,
        value=subject.value if subject else base_value,
        baseline=base_value,
        difference=subject.difference if subject else None,
        sentences=_sentences(comparison, conclusion, subject, candidates, base_value),
    )


def lead(comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """The whole comparison in as few sentences as there are kinds of conclusion.

    Args:
        comparison: The comparison.
        verdicts: Its verdicts, one per task.

    Returns:
        One or more sentences.
    """
    measure = comparison.headline.label
    groups: dict[tuple[Conclusion, str], list[str]] = {}
    for verdict in verdicts:
        subject = verdict.ranker.title if verdict.ranker else ""
        named = verdict.conclusion in (Conclusion.ABOVE, Conclusion.UNTESTED)
        groups.setdefault((verdict.conclusion, subject if named else ""), []).append(task_name(verdict.task))
    phrases = {
        Conclusion.ABOVE: "{ranker} beats {base} on {tasks} ({interval} above 0).",
        Conclusion.LEVEL: "Inconclusive on {tasks}: no ranker is shown to beat {base}.",
        Conclusion.FEW: "Inconclusive on {tasks}: too few searches count to compare with {base}.",
        Conclusion.BELOW: "Every ranker is worse than {base} on {tasks} ({interval} below 0).",
        Conclusion.UNTESTED: "{ranker} has the highest {measure} on {tasks}, not tested against a baseline.",
        Conclusion.ALONE: "Only {base} was evaluated on {tasks}.",
        Conclusion.UNKNOWN: "No {measure} is known on {tasks}.",
    }
    base = _baseline_name(comparison)
    sentences = []
    for (conclusion, ranker), tasks in groups.items():
        interval = f"{_confidence(comparison)}interval{'s' if len(tasks) > 1 else ''}"
        # str.format reads no braces in the values that it inserts, so names may hold any.
        phrase = phrases[conclusion]
        sentences.append(
            phrase.format(ranker=ranker, base=base, measure=measure, tasks=listed(tasks), interval=interval)
        )
        if "{base}" in phrase:
            base = "the baseline"
    return " ".join([*sentences, *_against_lambdamart(comparison)])


def _against_lambdamart(comparison: Comparison) -> list[str]:
    """How the network did against LambdaMART, in a sentence; none where LambdaMART is the baseline or missing."""
    duel, measure = comparison.network_against_lambdamart, comparison.headline
    network, trees = comparison.title_of(duel.network), comparison.title_of(duel.lambdamart)
    if network is None or trees is None or duel.lambdamart == comparison.baseline:
        return []
    known = {task: duel.get(measure, task) for task in comparison.tasks}
    parts = [
        f"{OUTCOMES[difference.sign]} on {task_name(task)}: {signed(difference.value)} ({between(difference)})"
        for task, difference in known.items()
        if difference is not None
    ]
    if not parts:
        return []
    chosen = f", the highest of {duel.n_networks} networks," if duel.n_networks > 1 else ""
    return [
        f"Against {trees}, {network}{chosen} is {'; '.join(parts)}; paired differences in {measure.label} with "
        f"{_confidence(comparison)}intervals."
    ]


def n_tests(comparison: Comparison) -> int:
    """How many paired differences the verdicts rest on."""
    measure = comparison.headline
    return sum(
        (difference := comparison.difference(ranker, measure, task)) is not None and difference.sign is not None
        for ranker in comparison.rankers
        for task in comparison.tasks
        if ranker.name != comparison.baseline
    )


def _conclude(candidates: list[_Candidate], base: Estimate | None) -> tuple[Conclusion, _Candidate | None]:
    def highest(sign: int | None) -> _Candidate | None:
        return max((c for c in candidates if c.sign == sign), key=lambda c: c.height, default=None)

    if not candidates:
        return (Conclusion.UNKNOWN if base is None else Conclusion.ALONE), None
    for sign, conclusion in (
        (1, Conclusion.ABOVE), (0, Conclusion.LEVEL), (None, Conclusion.UNTESTED), (-1, Conclusion.BELOW),
    ):  # fmt: skip
        if found := highest(sign):
            few = found.difference is not None and found.difference.too_few
            return Conclusion.FEW if few else conclusion, found
    raise AssertionError("every candidate has one of the four signs")


def _sentences(
    comparison: Comparison,
    conclusion: Conclusion,
    subject: _Candidate | None,
    candidates: list[_Candidate],
    base: Estimate | None,
) -> tuple[str, ...]:
    measure, base_name = comparison.headline.label, _baseline_name(comparison)
    base_text = number(base.value if base else None)
    if subject is None:
        known = f"Only {base_name} was evaluated: {measure} {base_text}."
        return (f"No {measure} is known.",) if base is None else (known,)
    difference = subject.difference
    values = f"{measure} {number(subject.value.value)} against {base_text} for {base_name}."
    ends = f"{_confidence(comparison)}interval of the difference: {between(difference)}{_searches(difference)}."
    if conclusion is Conclusion.ABOVE:
        return f"{values} {ends}", *_field(subject, candidates)
    if conclusion is Conclusion.LEVEL:
        return (
            values,
            f"Inconclusive: the difference is {signed(difference.value if difference else None)}, and its interval "
            "includes 0.",
            ends,
            *_field(subject, candidates),
        )
    if conclusion is Conclusion.FEW:
        return (f"Highest value of the other rankers: {values}", f"{_few(difference)}.")
    if conclusion is Conclusion.BELOW:
        return (f"Nearest to the baseline: {values} {ends}",)
    return (f"{measure} {number(subject.value.value)}; no paired difference to a baseline is known.",)


def _field(subject: _Candidate, candidates: list[_Candidate]) -> list[str]:
    """How many rankers win, which are higher in value but inconclusive, and which have overlapping intervals."""
    others = [c for c in candidates if c is not subject]
    sentences = []
    winners = sum(c.sign == 1 for c in candidates)
    if winners > 1:
        sentences.append(f"{winners} of {len(candidates)} rankers beat the baseline.")
    higher = [c for c in others if c.height > subject.height]
    if higher:
        sentences.append(f"Higher, but inconclusive: {_with_values(higher)}.")
    close = [c for c in others if c not in higher and c.sign == subject.sign and _overlap(c.value, subject.value)]
    if close:
        sentences.append(f"Overlapping intervals: {_with_values(close)}.")
    return sentences


def _with_values(candidates: list[_Candidate]) -> str:
    named = [f"{c.ranker.title} ({number(c.value.value)})" for c in candidates[:MAX_NAMES]]
    rest = len(candidates) - len(named)
    return listed([*named, *([plural(rest, "other", "others")] if rest else [])])


def _overlap(one: Estimate, other: Estimate) -> bool:
    ends = (one.low, one.high, other.low, other.high)
    if None in ends:
        return False
    return max(one.low or 0, other.low or 0) <= min(one.high or 0, other.high or 0)


def _few(difference: Estimate | None) -> str:
    n = difference.n if difference else None
    return f"Inconclusive: {plural(n or 0, 'search counts', 'searches count')}, at least {MIN_SEARCHES} are needed"


def _searches(difference: Estimate | None) -> str:
    n = difference.n if difference else None
    return "" if n is None else f", {plural(n, 'search', 'searches')}"


def _confidence(comparison: Comparison) -> str:
    return "" if comparison.confidence is None else f"{comparison.confidence * 100:g} % "


def _baseline_name(comparison: Comparison) -> str:
    base = comparison.baseline_ranker
    name = base.title if base else comparison.baseline
    return "the baseline" if name is None else f"the baseline ({name})"


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
        caption=CAPTIONS[verdict.conclusion],
        subject=who,
        sentences=verdict.sentences,
        tone=TONES.get(verdict.conclusion, ""),
    )
