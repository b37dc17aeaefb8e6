"""The paper's claims C1-C8: the inequalities that each consists of, and their verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shelfrank.metrics.interval import too_few
from shelfrank.paper.reproduce.measure import RowPair
from shelfrank.paper.reproduce.rows import BY_NAME, ROWS

Verdict = Literal["holds", "does not hold", "no difference worth having", "inconclusive"]

SIGNIFICANCE = 0.05
NOT_WORSE_PERCENT = 1.0
"""A figure that falls by no more than this, in percent, counts as kept (C5); fixed before anything was measured."""
NO_DIFFERENCE_PERCENT = 1.0
"""A difference whose whole interval lies within this of the baseline, in percent, is not worth having."""

TABLE_2 = [row.name for row in ROWS if row.table == 2]
CARTS_AND_PURCHASES = ("add_to_cart", "purchase")
ALL_TASKS = ("click", "add_to_cart", "purchase")


@dataclass(frozen=True)
class Check:
    """One inequality of a claim.

    Attributes:
        pair: The figure that is to be higher, and the lower one.
        paper: The paper's difference; None if not printed.
        margin_percent: How far below, in percent, still counts; 0 asks for more.
    """

    pair: RowPair
    paper: float | None
    margin_percent: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        id: C1 to C8.
        statement: The claim in words.
        where: Where the paper says it.
        checks: The inequalities that must all hold.
    """

    id: str
    statement: str
    where: str
    checks: tuple[Check, ...]

    def by_row(self) -> dict[str, list[int]]:
        """The checks by the row that they judge: the higher row, or the lower one where the higher is always the same.

        Returns:
            The indices of the checks by the row's name.
        """
        higher = {check.pair.more for check in self.checks if check.pair.more is not None}
        rows: dict[str, list[int]] = {}
        for index, check in enumerate(self.checks):
            name = check.pair.less if len(higher) < 2 or check.pair.more is None else check.pair.more
            rows.setdefault(name, []).append(index)
        return rows


def _above(more: str, less: str, tasks: Sequence[str]) -> tuple[Check, ...]:
    own, its = BY_NAME[more].printed.mrr, BY_NAME[less].printed.mrr
    return tuple(Check(RowPair(more, less, "mrr", task), round(own[task] - its[task], 3)) for task in tasks)


def _degree(more: str | None, less: str) -> Check:
    own, its = (1.0 if more is None else BY_NAME[more].printed.pd), BY_NAME[less].printed.pd
    return Check(RowPair(more, less, "pd"), None if own is None or its is None else round(own - its, 2))


_WITHOUT = "-no_semantic_score"
_CROSS = "mmoe_dcn_v2_tinybert_cross"
_BEST = "mmoe_ftt_tinybert_cross"
_NEURAL = [name for name in TABLE_2 if name not in ("xgboost", "mmoe")]
_WITH_DEGREE = [name for name in TABLE_2 if BY_NAME[name].printed.pd is not None]

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1",
        "Learning all tasks together beats learning carts alone, for the same backbone.",
        "Table 2, MRR@1 of carts and purchases",
        (
            *_above("mmoe_dcn_v2", "dcn_v2_single", CARTS_AND_PURCHASES),
            *_above("ftt", "ftt_single", CARTS_AND_PURCHASES),
        ),
    ),
    Claim(
        "C2",
        "MMoE alone is the weakest model.",
        "Table 2, MRR@1",
        tuple(check for name in TABLE_2 if name != "mmoe" for check in _above(name, "mmoe", ALL_TASKS)),
    ),
    Claim(
        "C3",
        "MMoE + FT-T + TinyBERT cross is the best model on carts and purchases.",
        "Table 2, MRR@1",
        tuple(check for name in TABLE_2 if name != _BEST for check in _above(_BEST, name, CARTS_AND_PURCHASES)),
    ),
    Claim(
        "C4",
        "XGBoost is below every network but MMoE alone on purchases.",
        "Table 2, MRR@1 of purchases",
        tuple(check for name in _NEURAL for check in _above(name, "xgboost", ("purchase",))),
    ),
    Claim(
        "C5",
        "Without the semantic score TabNet and MMoE + DCN-V2 lose clicks, the model with TinyBERT does not.",
        f"Table 3, MRR@1 of clicks; kept means no more than {NOT_WORSE_PERCENT:g} % lost",
        (
            *_above("tabnet", f"tabnet{_WITHOUT}", ("click",)),
            *_above("mmoe_dcn_v2", f"mmoe_dcn_v2{_WITHOUT}", ("click",)),
            *(
                Check(check.pair, check.paper, NOT_WORSE_PERCENT)
                for check in _above(f"{_CROSS}{_WITHOUT}", _CROSS, ("click",))
            ),
        ),
    ),
    Claim(
        "C6",
        "Cross matching beats dot.",
        "Table 4, MRR@1",
        _above(_CROSS, "mmoe_dcn_v2_tinybert_dot", ALL_TASKS),
    ),
    Claim(
        "C7",
        "The relevance task helps all three tasks.",
        "Table 5, MRR@1; the text of Sec. 5.2 quotes Table 4's figures and +1.22 / +0.57 / +0.86 % for this",
        _above("mmoe_dcn_v2-relevance", "mmoe_dcn_v2", ALL_TASKS),
    ),
    Claim(
        "C8",
        "PD@10 is below 1, and the models with text personalise more than MMoE + DCN-V2 alone.",
        "Table 2, PD@10",
        (
            *(_degree(None, name) for name in _WITH_DEGREE),
            _degree("mmoe_dcn_v2", _CROSS),
            _degree("mmoe_dcn_v2", _BEST),
        ),
    ),
)
"""The claims, each with the paper's direction (Paper: Sec. 5)."""


def pairs() -> list[RowPair]:
    """Every difference that a claim or a table needs, once."""
    of_claims = [check.pair for claim in CLAIMS for check in claim.checks]
    of_tables = [RowPair(row.name, row.base, "mrr", task) for row in ROWS if row.base is not None for task in ALL_TASKS]
    return list({pair.key: pair for pair in [*of_claims, *of_tables]}.values())


def judge_check(check: Check, found: Mapping[str, Any] | None, n_checks: int) -> Verdict:
    """The verdict on one inequality.

    It holds where the interval is above 0, or above the margin, and no seed contradicts. It does not hold where
    the interval is below, no seed contradicts, and `p` stays below 5 % divided by the claim's number of checks: of
    many true inequalities one may look false by chance. Where neither is so and the whole interval lies within 1 % of
    the baseline, there is no difference worth having.

    Args:
        check: The inequality.
        found: The difference with its interval, `p` and seeds; None, or without an interval, where it could not be
            measured.
        n_checks: Checks of the claim.

    Returns:
        The verdict.
    """
    if found is None or found["low"] is None or too_few(found["n"]):
        return "inconclusive"
    margin = check.margin_percent / 100 * found["base"]
    if found["low"] > -margin and (margin or found["low"] > 0) and all(seed > -margin for seed in found["seeds"]):
        return "holds"
    unlikely = found["p"] < SIGNIFICANCE / n_checks
    if found["high"] < -margin and unlikely and all(seed < -margin for seed in found["seeds"]):
        return "does not hold"
    level = NO_DIFFERENCE_PERCENT / 100 * found["base"]
    if -level < found["low"] and found["high"] < level:
        return "no difference worth having"
    return "inconclusive"


def judge(claim: Claim, differences: Mapping[str, Mapping[str, Any] | None]) -> tuple[Verdict, list[Verdict]]:
    """The verdict on a claim and on each of its checks.

    Args:
        claim: The claim.
        differences: The paired differences by `RowPair.key`.

    Returns:
        The claim's verdict, and each check's.
    """
    each: list[Verdict] = [
        judge_check(check, differences.get(check.pair.key), len(claim.checks)) for check in claim.checks
    ]
    return combine(each), each


def combine(each: Sequence[Verdict]) -> Verdict:
    """The verdict on several checks together.

    They hold where all do, and do not hold where one does not. Where each one is decided, but one has no difference
    worth having, neither has all of them.

    Args:
        each: The checks' verdicts.

    Returns:
        The verdict.
    """
    weakest_first: tuple[Verdict, ...] = ("does not hold", "inconclusive", "no difference worth having")
    for verdict in weakest_first:
        if verdict in each:
            return verdict
    return "holds"


def judge_rows(claim: Claim, each: Sequence[Verdict]) -> dict[str, Verdict]:
    """The verdict on each row that a claim names.

    Args:
        claim: The claim.
        each: Its checks' verdicts, from `judge`.

    Returns:
        The verdicts by the row's name; empty where the claim names one row.
    """
    rows = claim.by_row()
    return {name: combine([each[index] for index in own]) for name, own in rows.items()} if len(rows) > 1 else {}
