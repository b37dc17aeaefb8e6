from typing import Any

import pytest

from shelfrank.paper.reproduce.claims import CLAIMS, Check, Claim, Verdict, judge, judge_check, judge_rows, pairs
from shelfrank.paper.reproduce.measure import RowPair
from shelfrank.paper.reproduce.rows import BY_NAME


def found(value: float, low: float, high: float, seeds: list[float], p: float = 0.001, n: int = 500) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "seeds": seeds, "p": p, "n": n, "base": 0.4, "percent": None}


CLEAR = found(0.02, 0.01, 0.03, [0.02, 0.02])
AGAINST = found(-0.02, -0.03, -0.01, [-0.02, -0.02])
UNDEFINED = {**dict.fromkeys(("value", "low", "high", "p", "base", "percent")), "seeds": [None, None], "n": 0}
CASES: dict[str, tuple[dict[str, Any] | None, float, int, Verdict]] = {
    "interval above 0": (CLEAR, 0, 1, "holds"),
    "interval holds 0": (found(0.01, -0.01, 0.03, [0.01, 0.01]), 0, 1, "inconclusive"),
    "interval touches 0": (found(0.01, 0.0, 0.03, [0.01, 0.01]), 0, 1, "inconclusive"),
    "a seed says otherwise": (found(0.02, 0.01, 0.03, [0.05, -0.01]), 0, 1, "inconclusive"),
    "interval below 0": (AGAINST, 0, 1, "does not hold"),
    "interval below 0 but a seed says otherwise": (
        found(-0.02, -0.03, -0.01, [-0.05, 0.01]),
        0,
        1,
        "inconclusive",
    ),
    "one of many, by chance": (found(-0.02, -0.03, -0.001, [-0.02], p=0.03), 0, 10, "inconclusive"),
    "one of many, beyond chance": (found(-0.02, -0.03, -0.001, [-0.02], p=0.004), 0, 10, "does not hold"),
    # 1 % of 0.4 is 0.004.
    "lost less than the margin": (found(-0.001, -0.0035, 0.002, [-0.001]), 1, 1, "holds"),
    "may have lost more than the margin": (found(-0.001, -0.0045, 0.002, [-0.001]), 1, 1, "inconclusive"),
    "lost more than the margin": (found(-0.02, -0.03, -0.01, [-0.02]), 1, 1, "does not hold"),
    # The baseline is 0.4, so that 1 % is 0.004.
    "within 1 % on both sides": (found(0.001, -0.0035, 0.0035, [0.001]), 0, 1, "no difference worth having"),
    "within 1 % but below 0 by chance": (
        found(-0.002, -0.0035, -0.0005, [-0.002], p=0.03),
        0,
        10,
        "no difference worth having",
    ),
    "within 1 % and above 0": (found(0.002, 0.0005, 0.0035, [0.002]), 0, 1, "holds"),
    "beyond 1 % below": (found(0.0, -0.0045, 0.0035, [0.0]), 0, 1, "inconclusive"),
    "beyond 1 % above": (found(0.0, -0.0035, 0.0045, [0.0]), 0, 1, "inconclusive"),
    "within 1 % but too few searches": (found(0.0, -0.003, 0.003, [0.0], n=29), 0, 1, "inconclusive"),
    "too few searches": (found(0.02, 0.01, 0.03, [0.02], n=29), 0, 1, "inconclusive"),
    "not measured": (None, 0, 1, "inconclusive"),
    "no search counts": (UNDEFINED, 1, 1, "inconclusive"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_check_is_judged_by_interval_and_seeds(case: str) -> None:
    difference, margin, n_checks, verdict = CASES[case]
    assert judge_check(Check(RowPair("a", "b"), 0.01, margin), difference, n_checks) == verdict


def test_a_claim_holds_where_all_of_it_does() -> None:
    first, second = RowPair("mmoe_ftt", "mmoe", "mrr", "click"), RowPair("mmoe_ftt", "mmoe", "mrr", "purchase")
    claim = Claim("C0", "", "", (Check(first, 0.1), Check(second, 0.1)))
    assert judge(claim, {first.key: CLEAR, second.key: CLEAR})[0] == "holds"
    assert judge(claim, {first.key: CLEAR})[0] == "inconclusive"
    assert judge(claim, {first.key: CLEAR, second.key: AGAINST}) == ("does not hold", ["holds", "does not hold"])


def test_one_level_check_keeps_a_claim_from_holding() -> None:
    pairs_of_claim = [RowPair("mmoe_ftt", "mmoe", "mrr", task) for task in ("click", "add_to_cart")]
    claim = Claim("C0", "", "", tuple(Check(pair, 0.1) for pair in pairs_of_claim))
    first, second = (pair.key for pair in pairs_of_claim)
    level = found(0.001, -0.0035, 0.0035, [0.001])
    assert judge(claim, {first: CLEAR, second: level})[0] == "no difference worth having"
    assert judge(claim, {first: level})[0] == "inconclusive"
    assert judge(claim, {first: AGAINST, second: level})[0] == "does not hold"


def test_a_claim_of_several_rows_is_judged_by_row() -> None:
    by_id = {claim.id: claim for claim in CLAIMS}
    c8 = by_id["C8"]
    cross, best = "mmoe_dcn_v2_tinybert_cross", "mmoe_ftt_tinybert_cross"
    each: list[Verdict] = [
        "does not hold" if (check.pair.more, check.pair.less) == ("mmoe_dcn_v2", cross) else "holds"
        for check in c8.checks
    ]
    assert each.count("does not hold") == 1
    assert judge_rows(c8, each) == {"ftt": "holds", "mmoe_dcn_v2": "holds", cross: "does not hold", best: "holds"}
    assert set(by_id["C1"].by_row()) == {"mmoe_dcn_v2", "ftt"}
    assert set(by_id["C3"].by_row()) == {name for name in TABLE_2 if name != best}
    assert judge_rows(by_id["C6"], ["holds"] * 3) == {}


def test_the_paper_agrees_with_its_own_claims() -> None:
    """Each check's direction is the paper's: its printed difference is not against it, its own slips aside."""
    for claim in CLAIMS:
        assert claim.checks
        for check in claim.checks:
            assert check.paper is None or check.paper >= 0, (claim.id, check)


CARTS, PURCHASES, CLICKS = "add_to_cart", "purchase", "click"
TABLE_2 = (
    *("xgboost", "tabnet", "ftt_single", "dcn_v2_single", "ftt", "mmoe", "mmoe_dcn_v2", "mmoe_dcn_v2_tinybert_cross"),
    *("mmoe_ftt", "mmoe_ftt_tinybert_cross"),
)
# The rows for which Table 2 prints a PD@10.
WITH_DEGREE = ("ftt", "mmoe_dcn_v2", "mmoe_dcn_v2_tinybert_cross", "mmoe_ftt_tinybert_cross")


def mrr(more: str, less: str, *tasks: str) -> set[tuple[str | None, str, str, str | None]]:
    return {(more, less, "mrr", task) for task in tasks}


SAID: dict[str, set[tuple[str | None, str, str, str | None]]] = {
    "C1": mrr("mmoe_dcn_v2", "dcn_v2_single", CARTS, PURCHASES) | mrr("ftt", "ftt_single", CARTS, PURCHASES),
    "C2": set().union(*(mrr(name, "mmoe", CLICKS, CARTS, PURCHASES) for name in TABLE_2 if name != "mmoe")),
    "C3": set().union(
        *(
            mrr("mmoe_ftt_tinybert_cross", name, CARTS, PURCHASES)
            for name in TABLE_2
            if name != "mmoe_ftt_tinybert_cross"
        )
    ),
    "C4": set().union(*(mrr(name, "xgboost", PURCHASES) for name in TABLE_2 if name not in ("xgboost", "mmoe"))),
    "C5": mrr("tabnet", "tabnet-no_semantic_score", CLICKS)
    | mrr("mmoe_dcn_v2", "mmoe_dcn_v2-no_semantic_score", CLICKS)
    | mrr("mmoe_dcn_v2_tinybert_cross-no_semantic_score", "mmoe_dcn_v2_tinybert_cross", CLICKS),
    "C6": mrr("mmoe_dcn_v2_tinybert_cross", "mmoe_dcn_v2_tinybert_dot", CLICKS, CARTS, PURCHASES),
    "C7": mrr("mmoe_dcn_v2-relevance", "mmoe_dcn_v2", CLICKS, CARTS, PURCHASES),
    "C8": {(None, name, "pd", None) for name in WITH_DEGREE}
    | {("mmoe_dcn_v2", name, "pd", None) for name in ("mmoe_dcn_v2_tinybert_cross", "mmoe_ftt_tinybert_cross")},
}
"""Each claim of the paper as inequalities, written down from its text and tables: (more, less, metric, task)."""


@pytest.mark.parametrize("claim", SAID)
def test_a_claim_compares_what_the_paper_does(claim: str) -> None:
    (one,) = [each for each in CLAIMS if each.id == claim]
    pairs_of_claim = [(each.pair.more, each.pair.less, each.pair.metric, each.pair.task) for each in one.checks]
    assert len(set(pairs_of_claim)) == len(pairs_of_claim)
    assert set(pairs_of_claim) == SAID[claim]


def test_only_the_kept_clicks_of_c5_have_a_margin() -> None:
    with_margin = {each.pair.more for claim in CLAIMS for each in claim.checks if each.margin_percent}
    assert with_margin == {"mmoe_dcn_v2_tinybert_cross-no_semantic_score"}


def test_every_pair_is_measured_once_and_names_rows() -> None:
    keys = [pair.key for pair in pairs()]
    assert len(set(keys)) == len(keys)
    assert {check.pair.key for claim in CLAIMS for check in claim.checks} <= set(keys)
    for pair in pairs():
        assert pair.less in BY_NAME
        assert pair.more is None or pair.more in BY_NAME
