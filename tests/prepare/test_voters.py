import math
import sys
from collections import Counter
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfrank.core.errors import UserError
from shelfrank.prepare import voters
from shelfrank.prepare.pairs import POSITION_WEIGHTS, PairTable, min_max, pair_counts
from shelfrank.prepare.voters import CTRVoter, FunctionVoter, PairTexts, SemanticVoter, load_voters

Row = tuple[int, int, int, int | None, int | None]
"""Query, product, position, click, purchase."""

ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 4),
        st.integers(1, 30),
        st.sampled_from([0, 0, 1, 1, None]),
        st.sampled_from([0, 1, None]),
    ),
    min_size=1,
    max_size=40,
)
NAMES = ("query_idx", "product_idx", "position", "click", "purchase")
TYPES = pa.schema([*((name, pa.int32()) for name in NAMES[:3]), *((name, pa.int8()) for name in NAMES[3:])])


def table(rows: list[Row]) -> pa.Table:
    return pa.table([list(values) for values in zip(*rows, strict=True)], schema=TYPES)


def count(rows: list[Row], shuffle: int = 0) -> PairTable:
    counts: dict[tuple[int, int], list[int]] = {}
    clicked: Counter[tuple[int, int, int]] = Counter()
    for query, product, position, click, purchase in rows:
        pair = counts.setdefault((query, product), [0, 0, 0])
        if click is not None:
            pair[0] += 1
            pair[1] += click
            pair[2] += purchase or 0
            if click:
                clicked[query, product, position] += 1
    rng = np.random.default_rng(shuffle)
    pairs = [[*key, *values] for key, values in counts.items()]
    places = [[*key, n] for key, n in clicked.items()]
    names = ("query_idx", "product_idx", "impressions", "clicks", "transactions")
    left = np.array(pairs, dtype=np.int64).reshape(-1, 5)[rng.permutation(len(pairs))]
    right = np.array(places, dtype=np.int64).reshape(-1, 4)[rng.permutation(len(places))]
    return PairTable.from_arrow(
        pa.table(dict(zip(names, left.T, strict=True))),
        pa.table(dict(zip(("query_idx", "product_idx", "position", "clicks"), right.T, strict=True))),
    )


def position_weight(form: str, position: int) -> float:
    if form == "as_printed":
        return math.log(position + 1) ** 1.5
    if form == "decay":
        return (1 / math.log(position + 1) ** 1.5) / (1 / math.log(2) ** 1.5)
    return 1.0


def paper_ctr(rows: list[Row], form: str) -> dict[tuple[int, int], float]:
    """Steps 1 to 5 and 7 of section 3.5, one pair after the other."""
    rates: dict[tuple[int, int], float] = {}
    for pair in sorted({(query, product) for query, product, *_ in rows}):
        seen = [(position, click, purchase or 0) for q, p, position, click, purchase in rows if (q, p) == pair]
        seen = [row for row in seen if row[1] is not None]
        clicks = sum(click for _, click, _ in seen)
        transactions = sum(purchase for _, _, purchase in seen)
        weighted = 0.0
        if clicks:
            by_position = sum(position_weight(form, position) for position, click, _ in seen if click)
            weighted = by_position * (1 + transactions / clicks)
        rates[pair] = weighted / len(seen) if seen else math.nan
    normalised = {}
    for (query, product), rate in rates.items():
        own = [other for (q, _), other in rates.items() if q == query and not math.isnan(other)]
        if math.isnan(rate):
            normalised[query, product] = math.nan
        elif math.isclose(max(own), min(own), rel_tol=1e-11):
            normalised[query, product] = 0.5
        else:
            normalised[query, product] = (rate - min(own)) / (max(own) - min(own))
    return normalised


@pytest.mark.parametrize("form", ["decay", "as_printed", "none"])
@given(rows=ROWS, shuffle=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_click_voter_follows_the_papers_steps(form: str, rows: list[Row], shuffle: int) -> None:
    pairs = count(rows, shuffle)
    expected = paper_ctr(rows, form)
    assert list(zip(pairs.query_idx.tolist(), pairs.product_idx.tolist(), strict=True)) == list(expected)
    np.testing.assert_allclose(CTRVoter(form).vote(pairs), list(expected.values()), rtol=0, atol=1e-9)


@given(rows=ROWS)
@settings(max_examples=8, deadline=None)
def test_the_engine_counts_as_a_loop_does(rows: list[Row]) -> None:
    counts, clicked = pair_counts(ibis.memtable(table(rows)), ("click", "purchase"))
    counted = PairTable.from_arrow(counts.to_pyarrow(), clicked.to_pyarrow())
    for name, expected in vars(count(rows)).items():
        np.testing.assert_array_equal(getattr(counted, name), expected, err_msg=name)


def test_a_log_without_purchases_or_clicks() -> None:
    rows = table([(0, 0, 1, 1, 1), (0, 1, 2, 0, 0)])
    no_purchase = PairTable.from_arrow(
        *(t.to_pyarrow() for t in pair_counts(ibis.memtable(rows.drop("purchase")), ("click",)))
    )
    assert no_purchase.transactions.tolist() == [0, 0]
    assert CTRVoter("decay").vote(no_purchase).tolist() == [1.0, 0.0]
    no_click = PairTable.from_arrow(
        *(t.to_pyarrow() for t in pair_counts(ibis.memtable(rows.drop(["click", "purchase"])), ()))
    )
    assert len(no_click) == 2
    assert np.isnan(CTRVoter("decay").vote(no_click)).all()


def test_what_a_click_counts_by_its_position() -> None:
    positions = np.array([1.0, 2.0, 10.0])
    decay, printed = POSITION_WEIGHTS["decay"](positions), POSITION_WEIGHTS["as_printed"](positions)
    assert decay[0] == 1.0
    assert printed[0] == pytest.approx(math.log(2) ** 1.5)
    assert (np.diff(decay) < 0).all()
    assert (np.diff(printed) > 0).all()
    np.testing.assert_allclose(decay * printed, printed[0])


@pytest.mark.parametrize(("form", "votes"), [("decay", [1.0, 0.0]), ("as_printed", [0.0, 1.0]), ("none", [0.5, 0.5])])
def test_the_forms_order_a_high_and_a_low_click_apart(form: str, votes: list[float]) -> None:
    assert CTRVoter(form).vote(count([(0, 0, 1, 1, 0), (0, 1, 9, 1, 0)])).tolist() == votes


@pytest.mark.parametrize(
    ("rows", "votes"),
    [
        pytest.param([(0, 0, 1, 1, 1)], [0.5], id="one product"),
        pytest.param([(0, 0, 1, 0, 0), (0, 1, 2, 0, 0)], [0.5, 0.5], id="no clicks"),
        pytest.param([(0, 0, 1, 1, 1), (0, 1, 1, 1, 0), (0, 2, 1, 0, 0)], [1.0, 0.5, 0.0], id="a purchase doubles"),
        pytest.param([(0, 0, 1, 0, 1), (0, 1, 1, 1, 0)], [0.0, 1.0], id="bought without a click"),
        pytest.param([(0, 0, 1, None, None), (0, 1, 1, 1, 0)], [math.nan, 0.5], id="unknown click abstains"),
    ],
)
def test_click_votes(rows: list[Row], votes: list[float]) -> None:
    np.testing.assert_array_equal(CTRVoter("decay").vote(count(rows)), votes)


def test_no_pairs_at_all() -> None:
    nothing = PairTable.from_arrow(
        *(t.to_pyarrow() for t in pair_counts(ibis.memtable(TYPES.empty_table()), ("click",)))
    )
    assert len(CTRVoter("decay").vote(nothing)) == 0
    assert len(FunctionVoter("f", lambda rows: [], _texts()).vote(nothing)) == 0


def test_the_cosine_votes_as_it_is_or_stretched() -> None:
    pairs = count([(0, 0, 1, 0, 0), (0, 1, 2, 0, 0), (0, 2, 3, 0, 0), (1, 0, 1, 0, 0)])

    def cosine(query: np.ndarray, product: np.ndarray) -> np.ndarray:
        return np.array([-0.5, 0.25, np.nan, 0.5], dtype=np.float32)

    np.testing.assert_array_equal(SemanticVoter(cosine).vote(pairs), [-0.5, 0.25, np.nan, 0.5])
    np.testing.assert_array_equal(SemanticVoter(cosine, "min_max").vote(pairs), [0.0, 1.0, np.nan, 0.5])


def test_rates_that_differ_by_rounding_are_the_same() -> None:
    a = 0.1 + 0.2
    assert a != 0.3
    assert min_max(np.array([a, 0.3, math.nan]), np.zeros(3, int))[:2].tolist() == [0.5, 0.5]


def test_stretching_leaves_each_query_to_itself() -> None:
    values = np.array([1.0, 3.0, 100.0, 200.0])
    assert min_max(values, np.array([0, 0, 1, 1])).tolist() == [0.0, 1.0, 0.0, 1.0]


def _texts() -> PairTexts:
    products = pa.table({"product_id": ["p0", "p1", "p2", "p3", "p4"], "document": ["a", "b", "c", "d", "e"]})
    return PairTexts(pa.chunked_array([["q0", "q1", "q2", "q3"]]), products)


def test_a_function_reads_texts_and_counts_of_whole_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voters, "CALL_PAIRS", 2)
    pairs = count([(q, p, 1, 1, q % 2) for q in (0, 1, 3) for p in (0, 2, 4)][:-1])
    calls: list[pa.Table] = []

    def function(rows: pa.Table) -> list[float | None]:
        calls.append(rows)
        return [None if row["document"] == "c" else row["transactions"] / 2 for row in rows.to_pylist()]

    votes = FunctionVoter("mine", function, _texts()).vote(pairs)
    np.testing.assert_array_equal(votes, [0, np.nan, 0, 0.5, np.nan, 0.5, 0.5, np.nan])
    assert [call["query"].to_pylist() for call in calls] == [["q0"] * 3, ["q1"] * 3, ["q3"] * 2]
    assert calls[0].column_names == ["query", "product_id", "document", "impressions", "clicks", "transactions"]
    assert calls[0]["product_id"].to_pylist() == ["p0", "p2", "p4"]


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ([0.5], "one number for each of 2 rows"),
        ([[0.5, 0.5]], "one number for each of 2 rows"),
        ([0.5, 1.5], "1 of 2 lie outside, such as 1.5"),
        ([-0.1, math.inf], "2 of 2 lie outside"),
        (["high", "low"], "must return numbers"),
        (None, "one number for each of 2 rows"),
    ],
)
def test_a_function_that_breaks_its_word(returned: object, says: str) -> None:
    voter = FunctionVoter("mine", lambda rows: returned, _texts())
    with pytest.raises(UserError, match=says):
        voter.vote(count([(0, 0, 1, 1, 0), (0, 1, 1, 1, 0)]))


@pytest.mark.parametrize(
    "returned", [np.array([0, 1]), pa.array([0.0, 1.0]), pa.chunked_array([[0.0], [1.0]]), (0, True)]
)
def test_what_a_function_may_return(returned: object) -> None:
    voter = FunctionVoter("mine", lambda rows: returned, _texts())
    assert voter.vote(count([(0, 0, 1, 1, 0), (0, 1, 1, 1, 0)])).tolist() == [0.0, 1.0]


def test_a_voter_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_voter.py").write_text("def vote(rows):\n    return [0.25] * rows.num_rows\nlevel = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    (voter,) = load_voters({"mine": "my_own_voter:vote"}, _texts())
    assert voter.name == "mine"
    assert voter.vote(count([(0, 0, 1, 1, 0)])).tolist() == [0.25]
    with pytest.raises(UserError, match="must name a callable, but 'my_own_voter:level' is a int"):
        load_voters({"mine": "my_own_voter:level"}, _texts())
    sys.modules.pop("my_own_voter")


@pytest.mark.parametrize("place", ["no_such_module:vote", "math:no_such_name", "math", ":sqrt", "math:"])
def test_a_voter_that_is_not_there(place: str) -> None:
    with pytest.raises(UserError, match=r"voters\.mine must be an importable package\.module:callable"):
        load_voters({"mine": place}, _texts())
