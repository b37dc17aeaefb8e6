from typing import Any

import pytest
from comparison_example import TASKS, with_difference

from shelfrank.report.comparison import Comparison, read_comparison
from shelfrank.report.sections.data import data_line
from shelfrank.report.sections.result import Conclusion, judge, lead, n_tests

OTHERS = ("popularity", "text_match", "lambdamart", "mmoe_dcn_v2", "mmoe_ft_transformer_text")


def _all_at(
    comparison: dict[str, Any], low: float | None, high: float | None, tasks: tuple[str, ...] = TASKS
) -> dict[str, Any]:
    for name in OTHERS:
        for task in tasks:
            comparison = with_difference(comparison, name, task, low, high)
    return comparison


def _lead(comparison: dict[str, Any]) -> str:
    known = read_comparison(comparison)
    return lead(known, [judge(known, task) for task in known.tasks])


def _judged(comparison: dict[str, Any], task: str = "click") -> tuple[Conclusion, str, str]:
    verdict = judge(read_comparison(comparison), task)
    return verdict.conclusion, verdict.ranker.name if verdict.ranker else "", " ".join(verdict.sentences)


def test_a_ranker_wins_where_its_whole_interval_lies_above_zero(full: dict[str, Any]) -> None:
    one_wins = with_difference(_all_at(full, -0.02, -0.01), "lambdamart", "click", 0.010, 0.030)
    conclusion, name, words = _judged(one_wins)
    assert (conclusion, name) == (Conclusion.ABOVE, "lambdamart")
    base = one_wins["rankers"][0]["mrr"]["10"]["click"]["value"]
    assert f"MRR@10 {base + 0.02:.3f} against {base:.3f} for the baseline (Shown order)." in words
    assert "95 % interval of the difference: 0.010 to 0.030, 1,000 searches." in words
    assert "rankers beat" not in words


def test_the_highest_of_several_winners_wins_and_the_others_are_counted(full: dict[str, Any]) -> None:
    two_win = with_difference(_all_at(full, -0.02, -0.01), "lambdamart", "click", 0.010, 0.030)
    two_win = with_difference(two_win, "popularity", "click", 0.015, 0.035)
    conclusion, name, words = _judged(two_win)
    assert (conclusion, name) == (Conclusion.ABOVE, "popularity")
    assert "2 of 5 rankers beat the baseline." in words
    assert "Overlapping intervals: LambdaMART" in words


def test_an_interval_that_includes_zero_is_no_win(full: dict[str, Any]) -> None:
    tie = with_difference(_all_at(full, -0.02, -0.01), "mmoe_dcn_v2", "click", -0.002, 0.008)
    conclusion, name, words = _judged(tie)
    assert (conclusion, name) == (Conclusion.LEVEL, "mmoe_dcn_v2")
    assert "Inconclusive: the difference is +0.003, and its interval includes 0." in words
    assert "95 % interval of the difference: −0.002 to 0.008, 1,000 searches." in words


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.01), (-0.01, 0.0)], ids=["from_zero", "to_zero"])
def test_an_interval_that_touches_zero_includes_it(full: dict[str, Any], low: float, high: float) -> None:
    assert _judged(_all_at(full, low, high))[0] is Conclusion.LEVEL


def test_a_higher_value_without_proof_does_not_win_but_is_named(full: dict[str, Any]) -> None:
    wide = with_difference(_all_at(full, -0.02, -0.01), "lambdamart", "click", 0.010, 0.030)
    wide = with_difference(wide, "mmoe_dcn_v2", "click", -0.010, 0.090)
    conclusion, name, words = _judged(wide)
    assert (conclusion, name) == (Conclusion.ABOVE, "lambdamart")
    assert "Higher, but inconclusive: MMoE + DCN-V2" in words


def test_when_all_lie_below_the_nearest_is_named(full: dict[str, Any]) -> None:
    loss = with_difference(_all_at(full, -0.09, -0.07), "text_match", "click", -0.02, -0.01)
    conclusion, name, words = _judged(loss)
    assert (conclusion, name) == (Conclusion.BELOW, "text_match")
    assert words.startswith("Nearest to the baseline: MRR@10")
    assert "95 % interval of the difference: −0.020 to −0.010, 1,000 searches." in words


def test_without_paired_differences_nothing_is_shown(full: dict[str, Any]) -> None:
    conclusion, name, words = _judged(_all_at(full, None, None))
    assert conclusion is Conclusion.UNTESTED
    assert name == "mmoe_ft_transformer_text"
    assert "no paired difference to a baseline is known" in words


def test_the_baseline_alone_is_no_comparison(full: dict[str, Any]) -> None:
    full["rankers"] = full["rankers"][:1]
    assert _judged(full)[:2] == (Conclusion.ALONE, "shown_order")
    assert _lead(full) == "Only the baseline (Shown order) was evaluated on click, add to cart and purchase."


def test_no_values_are_unknown(full: dict[str, Any]) -> None:
    for ranker in full["rankers"]:
        ranker["mrr"] = {}
    assert _judged(full) == (Conclusion.UNKNOWN, "", "No MRR@10 is known.")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (
            -0.03,
            -0.01,
            "Every ranker is worse than the baseline (Shown order) on {} (95 % intervals below 0).",
        ),
        (-0.01, 0.01, "Inconclusive on {}: no ranker is shown to beat the baseline (Shown order)."),
        (0.01, 0.03, "Popularity beats the baseline (Shown order) on {} (95 % intervals above 0)."),
    ],
    ids=["loss", "tie", "win"],
)
def test_the_lead_follows_the_numbers(full: dict[str, Any], low: float, high: float, words: str) -> None:
    assert _lead(_all_at(full, low, high)) == words.format("click, add to cart and purchase")


def test_the_lead_tells_tasks_apart(full: dict[str, Any]) -> None:
    mixed = _all_at(full, -0.03, -0.01, ("click",))
    mixed = _all_at(mixed, -0.01, 0.02, ("purchase",))
    mixed = with_difference(_all_at(mixed, -0.03, -0.01, ("add_to_cart",)), "lambdamart", "add_to_cart", 0.01, 0.02)
    assert _lead(mixed) == (
        "Every ranker is worse than the baseline (Shown order) on click (95 % interval below 0). "
        "LambdaMART beats the baseline on add to cart (95 % interval above 0). "
        "Inconclusive on purchase: no ranker is shown to beat the baseline."
    )


def test_braces_in_a_name_stay_as_they_are(click_only: dict[str, Any]) -> None:
    click_only["rankers"][1]["label"] = "{base} {0}"
    assert _lead(click_only).startswith("{base} {0} beats the baseline (shown_order)")


def test_the_headline_cutoff_is_ten_or_else_the_largest(full: dict[str, Any]) -> None:
    assert read_comparison(full).headline.label == "MRR@10"
    assert read_comparison(full | {"ks": [1, 5]}).headline.label == "MRR@5"
    assert read_comparison(full | {"ks": [10, 20]}).headline.label == "MRR@10"


def test_tests_are_counted_without_the_baseline_and_the_unknown(full: dict[str, Any]) -> None:
    assert n_tests(read_comparison(full)) == 15
    assert n_tests(read_comparison(with_difference(full, "popularity", "click", None, None))) == 14


def test_the_data_line_tells_the_sizes_that_are_known(full: dict[str, Any]) -> None:
    assert data_line(read_comparison(full)) == (
        "6 rankers on storefront, evaluated on 40,210 searches of 16,052 customers and trained on "
        "6,432,000 impressions; test searches from 2025-11-09 to 2025-11-30."
    )
    assert data_line(Comparison()) == ""


@pytest.mark.parametrize("n", [2, 29])
def test_too_few_searches_name_no_winner(full: dict[str, Any], n: int) -> None:
    few = _all_at(full, 0.01, 0.03)
    for name in OTHERS:
        few["differences"][name]["mrr"]["10"]["click"]["n"] = n
    conclusion, _, words = _judged(few)
    assert conclusion is Conclusion.FEW
    assert f"Inconclusive: {n} searches count, at least 30 are needed." in words
    assert "includes 0" not in words
    assert _lead(few) == (
        "Inconclusive on click: too few searches count to compare with the baseline (Shown order). Popularity beats "
        "the baseline on add to cart and purchase (95 % intervals above 0)."
    )


def test_runs_of_one_ranker_are_told_apart_in_every_sentence(full: dict[str, Any]) -> None:
    full["rankers"][0]["label"] = "LambdaMART"
    one_wins = with_difference(_all_at(full, -0.02, -0.01), "lambdamart", "click", 0.010, 0.030)
    assert _lead(one_wins).startswith(
        "LambdaMART (lambdamart) beats the baseline (LambdaMART (shown_order)) on click (95 %"
    )


def _against_lambdamart(comparison: dict[str, Any], ends: dict[str, tuple[float, float]], **more: Any) -> str:
    differences = {
        task: {"value": round((low + high) / 2, 6), "low": low, "high": high, "n": 1000}
        for task, (low, high) in ends.items()
    }
    named = {"network": "mmoe_dcn_v2", "lambdamart": "lambdamart", "mrr": {"10": differences}} | more
    return _lead(comparison | {"network_against_lambdamart": named}).removeprefix(_lead(comparison)).strip()


def test_the_lead_says_how_the_network_did_against_lambdamart(full: dict[str, Any]) -> None:
    ends = {"click": (0.002, 0.012), "add_to_cart": (-0.004, 0.01), "purchase": (-0.03, -0.01)}
    assert _against_lambdamart(full, ends) == (
        "Against LambdaMART, MMoE + DCN-V2 is above on click: +0.007 (0.002 to 0.012); inconclusive on add to cart: "
        "+0.003 (−0.004 to 0.010); below on purchase: −0.020 (−0.030 to −0.010); paired differences in MRR@10 with "
        "95 % intervals."
    )
    assert "MMoE + DCN-V2, the highest of 2 networks, is above" in _against_lambdamart(full, ends, n_networks=2)


def test_the_lead_says_nothing_of_lambdamart_twice_or_without_a_figure(full: dict[str, Any]) -> None:
    ends = {"click": (0.002, 0.012)}
    assert "Against LambdaMART" in _against_lambdamart(full, ends)
    assert _against_lambdamart(full, {}) == ""
    assert _against_lambdamart(full, ends, network="gone") == ""
    assert _against_lambdamart(full, ends, lambdamart="shown_order") == ""
