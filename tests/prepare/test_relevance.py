import math
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shelfrank.config.relevance import RelevanceConfig
from shelfrank.core.errors import UserError
from shelfrank.prepare.pairs import PairTable, pair_counts
from shelfrank.prepare.relevance import UNSEEN, RelevanceLabels, classes, combine, label, read_pairs
from shelfrank.prepare.voters import CTRVoter, SemanticVoter


class Fixed:
    """A voter whose votes are given."""

    def __init__(self, name: str, votes: list[float]) -> None:
        self.name = name
        self.votes = np.array(votes)

    def vote(self, pairs: PairTable) -> np.ndarray:
        return self.votes


def table(n_queries: int = 3, n_products: int = 5, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    n = 20 * n_queries
    return pa.table(
        {
            "query_idx": rng.integers(0, n_queries, n).astype(np.int32),
            "product_idx": rng.integers(0, n_products, n).astype(np.int32),
            "position": rng.integers(1, 20, n).astype(np.int32),
            "click": rng.integers(0, 2, n).astype(np.int8),
            "purchase": rng.integers(0, 2, n).astype(np.int8),
        }
    )


def pairs_of(rows: pa.Table) -> PairTable:
    return PairTable.from_arrow(
        *(each.to_pyarrow() for each in pair_counts(ibis.memtable(rows), ("click", "purchase")))
    )


def cosine(query: np.ndarray, product: np.ndarray) -> np.ndarray:
    return np.cos(query * 3.0 + product).astype(np.float32)


def paper_combination(votes: dict[str, list[float]], weights: dict[str, float]) -> list[float]:
    scores = []
    for pair in range(len(next(iter(votes.values())))):
        said = [(weights[name], values[pair]) for name, values in votes.items() if not math.isnan(values[pair])]
        total = sum(weight for weight, _ in said)
        scores.append(sum(weight * vote for weight, vote in said) / total if total else math.nan)
    return scores


VOTE = st.one_of(st.just(math.nan), st.integers(0, 8).map(lambda eighths: eighths / 8))


@given(st.lists(st.tuples(VOTE, VOTE, VOTE), min_size=1, max_size=12), st.tuples(*[st.integers(0, 4)] * 3))
@settings(max_examples=80, deadline=None)
def test_the_score_is_the_mean_of_those_who_vote(rows: list[tuple[float, ...]], weights: tuple[int, ...]) -> None:
    names = ("ctr", "semantic", "mine")
    votes = {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    by_name = {name: float(weight) for name, weight in zip(names, weights, strict=True)}
    arrays = {name: np.array(values) for name, values in votes.items()}
    np.testing.assert_allclose(combine(arrays, by_name), paper_combination(votes, by_name), atol=1e-12)


def test_the_papers_alpha() -> None:
    votes = {"ctr": np.array([1.0, 0.0]), "semantic": np.array([0.5, -0.5])}
    np.testing.assert_allclose(combine(votes, {"ctr": 0.3, "semantic": 0.7}), [0.65, -0.35])
    assert combine(votes, {"ctr": 0.0, "semantic": 1.0}).tolist() == [0.5, -0.5]


def plain_classes(score: list[float], query: list[int], config: RelevanceConfig) -> list[int]:
    decided = []
    every = [s for s in score if not math.isnan(s)]
    for own_query, own in zip(query, score, strict=True):
        if math.isnan(own):
            decided.append(UNSEEN)
            continue
        rivals = [s for s, q in zip(score, query, strict=True) if q == own_query and not math.isnan(s)]
        cuts = np.quantile(rivals if len(rivals) >= config.min_products else every, config.quantiles)
        decided.append(sum(own > cut for cut in cuts))
    return decided


@given(
    st.lists(st.tuples(st.integers(0, 3), VOTE), min_size=1, max_size=30),
    st.sampled_from([(0.25, 0.5, 0.75), (0.5,), (0.125, 0.25, 0.5, 0.75)]),
    st.integers(1, 6),
)
@settings(max_examples=120, deadline=None)
def test_classes_are_cut_query_by_query(
    rows: list[tuple[int, float]], quantiles: tuple[float, ...], min_products: int
) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    query, score = [q for q, _ in rows], [s for _, s in rows]
    config = RelevanceConfig(quantiles=quantiles, min_products=min_products)
    # Scores are eighths and quantiles too, so that a cut on a score is exactly that score.
    assert classes(np.array(score), np.array(query), config).tolist() == plain_classes(score, query, config)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        pytest.param([0.5] * 6, [0] * 6, id="all the same"),
        pytest.param([0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [0, 0, 0, 0, 0, 3], id="one stands out"),
        pytest.param([0.1, 0.2, 0.3, 0.4], [0, 1, 2, 3], id="one each"),
        pytest.param([0.1, 0.4, 0.4, 0.4], [0, 1, 1, 1], id="ties share a class"),
    ],
)
def test_classes_of_one_query(score: list[float], expected: list[int]) -> None:
    assert classes(np.array(score), np.zeros(len(score), int), RelevanceConfig()).tolist() == expected


def test_small_queries_use_the_cuts_of_all() -> None:
    score, query = np.array([0.1, 0.2, 0.3, 0.4, 0.9]), np.array([0, 0, 0, 0, 1])
    assert classes(score, query, RelevanceConfig()).tolist() == [0, 1, 2, 3, 3]
    assert classes(score, query, RelevanceConfig(min_products=1)).tolist() == [0, 1, 2, 3, 0]


def test_classes_of_nothing() -> None:
    assert len(classes(np.empty(0), np.empty(0, int), RelevanceConfig())) == 0
    assert classes(np.full(2, np.nan), np.zeros(2, int), RelevanceConfig()).tolist() == [UNSEEN, UNSEEN]


def test_labels_from_clicks_and_text() -> None:
    pairs = pairs_of(table())
    config = RelevanceConfig(weights={"ctr": 0.25, "semantic": 0.75})
    labels = label(pairs, [CTRVoter("decay"), SemanticVoter(cosine)], config)
    ctr = CTRVoter("decay").vote(pairs)
    text = cosine(pairs.query_idx, pairs.product_idx)
    np.testing.assert_allclose(labels.score, 0.25 * ctr + 0.75 * text, atol=1e-6)
    assert set(labels.votes) == {"ctr", "semantic"}
    assert set(labels.classes.tolist()) == {0, 1, 2, 3}
    assert labels.notes == []
    assert labels.counts["pairs"] == len(pairs)


def test_without_a_semantic_score_its_weight_is_dropped_and_told() -> None:
    pairs = pairs_of(table())
    labels = label(pairs, [CTRVoter("decay")], RelevanceConfig())
    np.testing.assert_array_equal(labels.score, CTRVoter("decay").vote(pairs))
    assert labels.notes == [
        "there is no semantic score: its weight (25% of all) went to the other voters",
        "there is no query understanding that learned from the log: its weight (50% of all) went to the other voters",
    ]
    with pytest.raises(UserError, match=r"those that have one \(semantic\) are switched off"):
        label(pairs, [CTRVoter("decay")], RelevanceConfig(weights={"ctr": 0.0, "semantic": 1.0}))


def test_abstentions_are_counted_and_a_pair_without_a_vote_has_no_class() -> None:
    rows = pa.table({"query_idx": [0] * 5, "product_idx": list(range(5)), "position": [1] * 5, "click": [0] * 5})
    pairs = PairTable.from_arrow(*(each.to_pyarrow() for each in pair_counts(ibis.memtable(rows), ("click",))))
    nan = math.nan
    asked = [Fixed("ctr", [nan, 0.2, 0.4, nan, 1.0]), Fixed("mine", [nan, 0.4, nan, 0.5, nan])]
    config = RelevanceConfig(weights={"ctr": 1.0, "mine": 3.0}, voters={"mine": "any:thing"})
    labels = label(pairs, asked, config)
    np.testing.assert_allclose(labels.score, [nan, 0.35, 0.4, 0.5, 1.0])
    assert labels.classes.tolist() == [UNSEEN, 0, 1, 2, 3]
    assert labels.counts == {
        "pairs": 5,
        "pairs without a vote": 1,
        "abstentions of ctr": 2,
        "abstentions of mine": 3,
        "pairs cut by the quantiles of all pairs": 0,
    }


def test_a_voter_of_no_weight_is_not_asked() -> None:
    class Silent:
        name = "mine"

        def vote(self, pairs: PairTable) -> np.ndarray:
            pytest.fail("asked")

    config = RelevanceConfig(weights={"ctr": 1.0, "mine": 0.0}, voters={"mine": "any:thing"})
    assert set(label(pairs_of(table()), [CTRVoter("decay"), Silent()], config).votes) == {"ctr"}


def test_a_weight_without_a_voter() -> None:
    with pytest.raises(
        UserError, match="unknown voter 'smantic': choose one of ctr, semantic, understanding; did you mean 'semantic'"
    ):
        label(pairs_of(table()), [CTRVoter("decay")], RelevanceConfig(weights={"ctr": 1.0, "smantic": 1.0}))


def test_lookup_finds_pairs_of_training_only() -> None:
    labels = label(pairs_of(table()), [CTRVoter("decay")], RelevanceConfig())
    np.testing.assert_array_equal(labels.lookup(labels.query_idx[::-1], labels.product_idx[::-1]), labels.classes[::-1])
    unseen = labels.lookup(np.array([0, 99, 0, 2**31 - 1]), np.array([99, 0, 2**31 - 1, 2**31 - 1]))
    assert unseen.tolist() == [UNSEEN] * 4
    assert unseen.dtype == np.int8
    nothing = label(pairs_of(table().slice(0, 0)), [CTRVoter("decay")], RelevanceConfig())
    assert nothing.lookup(np.array([0]), np.array([0])).tolist() == [UNSEEN]


def test_labels_change_with_training_rows_only() -> None:
    rows = table()
    is_train = np.arange(rows.num_rows) % 5 != 0
    changed = rows.set_column(3, "click", pa.array(np.where(is_train, rows["click"], 1 - rows["click"].to_numpy())))

    def trained(all_rows: pa.Table) -> RelevanceLabels:
        pairs = pairs_of(all_rows.filter(pa.array(is_train)))
        return label(pairs, [CTRVoter("decay"), SemanticVoter(cosine)], RelevanceConfig())

    before, after = trained(rows), trained(changed)
    np.testing.assert_array_equal(before.score, after.score)
    np.testing.assert_array_equal(before.classes, after.classes)
    other = label(pairs_of(changed), [CTRVoter("decay"), SemanticVoter(cosine)], RelevanceConfig())
    assert not np.array_equal(before.score, other.score[: len(before.score)])


def test_saved_labels_keep_everything_that_alpha_and_form_need(tmp_path: Path) -> None:
    pairs = pairs_of(table())
    config = RelevanceConfig(position_weight="as_printed")
    partly = SemanticVoter(lambda q, p: np.where(p == 0, np.float32(np.nan), cosine(q, p)))
    labels = label(pairs, [CTRVoter("as_printed"), partly], config)
    file = tmp_path / "pairs.parquet"
    labels.save(file, pairs, config)
    again = RelevanceLabels.load(file)
    for name in ("query_idx", "product_idx", "score", "classes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(labels, name))
    assert again.votes.keys() == labels.votes.keys()
    np.testing.assert_array_equal(again.votes["semantic"], labels.votes["semantic"])
    assert (again.counts, list(again.notes)) == (labels.counts, labels.notes)
    stored, about = read_pairs(file)
    assert RelevanceConfig.model_validate(about["config"]) == config
    assert stored["vote_semantic"].null_count == np.isnan(labels.votes["semantic"]).sum() > 0
    for form in ("decay", "as_printed", "none"):
        np.testing.assert_array_equal(stored[f"weighted_clicks_{form}"].to_numpy(), pairs.weighted_clicks(form))
    for name in ("impressions", "clicks", "transactions"):
        np.testing.assert_array_equal(stored[name].to_numpy(), getattr(pairs, name))


def test_a_file_that_is_not_ours(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    for name in ("other.parquet", "text.parquet", "missing.parquet"):
        with pytest.raises(UserError, match="must hold relevance labels, but it cannot be read"):
            read_pairs(tmp_path / name)


def test_the_table_for_people() -> None:
    rows = pa.table({"query_idx": [1, 1], "product_idx": [0, 2], "position": [1, 2], "click": [1, 0]})
    pairs = PairTable.from_arrow(*(each.to_pyarrow() for each in pair_counts(ibis.memtable(rows), ("click",))))
    labels = label(pairs, [Fixed("ctr", [1.0, math.nan])], RelevanceConfig(weights={"ctr": 1}, min_products=2))
    shown = labels.table(pa.chunked_array([["sofa", "red chair"]]), pa.chunked_array([["p0", "p1", "p2"]]))
    assert shown.to_pylist() == [
        {"query": "red chair", "product_id": "p0", "vote_ctr": 1.0, "score": 1.0, "class": 0},
        {"query": "red chair", "product_id": "p2", "vote_ctr": None, "score": None, "class": None},
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weights": {"ctr": -1}}, "greater than or equal to 0"),
        ({"weights": {"ctr": math.nan}}, "finite number"),
        ({"weights": {}}, "at least one above 0"),
        ({"voters": {"ctr": "a:b"}}, "must not be called ctr"),
        ({"voters": {"mine": "a:b"}}, "every voter must have a weight, but mine has none"),
        ({"quantiles": [0.5, 0.5]}, "must ascend strictly between 0 and 1"),
        ({"quantiles": [0.5, 1.0]}, "must ascend strictly between 0 and 1"),
        ({"quantiles": [math.nan]}, "finite number"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RelevanceConfig.model_validate(settings)
