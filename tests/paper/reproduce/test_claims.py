from typing import Any

import pytest

from shelfrank.paper.reproduce.claims import CLAIMS, Check, Claim, Verdict, judge, judge_check, pairs
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


def test_the_paper_agrees_with_its_own_claims() -> None:
    """Each check's direction is the paper's: its printed difference is not against it, its own slips aside."""
    for claim in CLAIMS:
        assert claim.checks
        for check in claim.checks:
            assert check.paper is None or check.paper >= 0, (claim.id, check)


@pytest.mark.parametrize(
    ("claim", "n_checks"), {"C1": 4, "C2": 27, "C3": 18, "C4": 8, "C5": 3, "C6": 3, "C7": 3, "C8": 6}.items()
)
def test_claims_have_their_checks(claim: str, n_checks: int) -> None:
    (one,) = [each for each in CLAIMS if each.id == claim]
    assert len(one.checks) == n_checks


def test_every_pair_is_measured_once_and_names_rows() -> None:
    keys = [pair.key for pair in pairs()]
    assert len(set(keys)) == len(keys)
    assert {check.pair.key for claim in CLAIMS for check in claim.checks} <= set(keys)
    for pair in pairs():
        assert pair.less in BY_NAME
        assert pair.more is None or pair.more in BY_NAME
