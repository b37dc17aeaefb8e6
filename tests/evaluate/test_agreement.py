import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from html_checks import StrictPage, drawings
from shelfrank.config.relevance import AgreementConfig, RelevanceConfig
from shelfrank.core.artifact import publish
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Schema
from shelfrank.data.prepared import KIND, save_columns
from shelfrank.evaluate.agreement import MEASURES, agreement, relevance_agreement
from shelfrank.logs.search_log import KIND as LOG_KIND
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.pairs import PairTable
from shelfrank.prepare.relevance import PAIRS_FILE, label
from shelfrank.prepare.voters import CTRVoter, SemanticVoter
from shelfrank.report.agreement_page import render_agreement, write_agreement

N_QUERIES, N_PRODUCTS = 12, 8
GRADE = np.add.outer(np.arange(N_QUERIES), 3 * np.arange(N_PRODUCTS)) % 4
QUICK = AgreementConfig(alphas=(0.0, 0.5, 1.0), n_resamples=20)

Make = Callable[..., tuple[Path, Path]]


def pair_table(seed: int = 0) -> PairTable:
    """Each product shown ten times for each query; better grades get more clicks."""
    rng = np.random.default_rng(seed)
    query, product = (axis.ravel() for axis in np.indices((N_QUERIES, N_PRODUCTS)))
    clicks = rng.binomial(10, 0.1 + 0.15 * GRADE.ravel())
    counts = {"query_idx": query, "product_idx": product, "impressions": np.full(len(query), 10), "clicks": clicks}
    clicked = {"query_idx": query, "product_idx": product, "position": 1 + product, "clicks": clicks}
    return PairTable.from_arrow(
        pa.table(counts | {"transactions": clicks // 2}), pa.table(clicked).filter(pa.array(clicks > 0))
    )


def cosine(query: np.ndarray, product: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 0.3, len(query))
    return (0.3 + GRADE[query, product] / 6 + noise).astype(np.float32)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A log with truth and what was prepared from it, both by hand: `make(semantic=True, truth=True)`."""

    def build(semantic: bool = True, truth: bool = True, config: RelevanceConfig | None = None) -> tuple[Path, Path]:
        config = config or RelevanceConfig(position_weight="decay")
        rows = [(f"s{q}-{p}", f"q{q}", f"p{p}", int(GRADE[q, p])) for q in range(N_QUERIES) for p in range(N_PRODUCTS)]
        # Text q0 means something else twice for p0 and once for p1; p7 is never shown for q1.
        rows += [("s-a", "q0", "p0", 3), ("s-b", "q0", "p0", 3), ("s-c", "q0", "p1", 0)]
        rows = [row for row in rows if row[1:3] != ("q1", "p7")]
        search, query, product, grade = (list(values) for values in zip(*rows, strict=True))
        with publish(tmp_path / "log", LOG_KIND, {"truth": truth}) as draft:
            tables = {"impressions": pa.table({"search_id": search, "product_id": product, "query": query})}
            if truth:
                grades = {"search_id": search, "product_id": product, "grade": pa.array(grade, pa.int8())}
                tables["truth/impressions"] = pa.table(grades)
            for name, table in tables.items():
                (draft.path / name).mkdir(parents=True)
                pq.write_table(table, draft.path / name / "part-0.parquet")
            Schema(name="hand").save(draft.path / "schema.yaml")
        log = SearchLog.open(tmp_path / "log")
        with publish(tmp_path / "prepared", KIND, {"log": log.manifest.fingerprint}) as draft:
            save_columns(draft.path, ("click", "purchase"), [], [])
            (draft.path / "texts").mkdir()
            texts = {"queries": ("query", "q", N_QUERIES), "products": ("product_id", "p", N_PRODUCTS)}
            for file, (name, letter, n) in texts.items():
                pq.write_table(
                    pa.table({name: [f"{letter}{i}" for i in range(n)]}), draft.path / f"texts/{file}.parquet"
                )
            pairs = pair_table()
            voters = [CTRVoter(config.position_weight), *([SemanticVoter(cosine)] if semantic else [])]
            label(pairs, voters, config).save(draft.path / PAIRS_FILE, pairs, config)
        return tmp_path / "prepared", tmp_path / "log"

    return build


def read(out: Path) -> dict[str, Any]:
    return json.loads((out / "agreement.json").read_text())


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {score["name"]: score for score in result["scores"]}


def test_labels_are_measured_against_the_truth(make: Make, tmp_path: Path) -> None:
    prepared, log = make()
    out = tmp_path / "agreement"
    assert relevance_agreement(prepared, log, out, QUICK, write_agreement)
    assert not relevance_agreement(prepared, log, out, QUICK, write_agreement)
    result = read(out)
    # Of p0 most impressions say 3; of p1 one says 0 and one 3, and the lower counts.
    grades = GRADE.copy()
    grades[0, 0], grades[0, 1] = 3, min(grades[0, 1], 0)
    known = np.ones(grades.shape, dtype=bool)
    known[1, 7] = False
    assert (result["pairs"], result["queries"]) == (N_QUERIES * N_PRODUCTS, N_QUERIES)
    assert result["pairs_without_a_grade"] == 1
    assert result["pairs_of_several_grades"] == 2
    assert result["pairs_by_grade"] == np.bincount(grades[known], minlength=4).tolist()
    scores = by_name(result)
    pairs = pair_table()
    labels = label(pairs, [CTRVoter("decay"), SemanticVoter(cosine)], RelevanceConfig())
    found = scores["labels"]
    kappa = cohen_kappa_score(labels.classes[known.ravel()], grades[known], weights="quadratic")
    assert found["kappa"]["value"] == pytest.approx(kappa)
    raw = (pairs.clicks / pairs.impressions).reshape(grades.shape)
    pooled = spearmanr(raw[known], grades[known]).statistic
    assert scores["raw_ctr"]["spearman"]["value"] == pytest.approx(pooled)
    within = [spearmanr(raw[q][known[q]], grades[q][known[q]]).statistic for q in range(N_QUERIES)]
    assert scores["raw_ctr"]["spearman_within"]["value"] == pytest.approx(np.mean(within))
    for score in scores.values():
        assert score["pairs"] == N_QUERIES * N_PRODUCTS - 1
        for measure in MEASURES:
            # Fewer than 30 queries have no interval.
            assert score[measure]["low"] is score[measure]["high"] is None
            difference = score[measure]["value"] - scores["raw_ctr"][measure]["value"]
            assert score["difference"][measure]["value"] == pytest.approx(difference)


def test_every_alpha_and_form_stands_beside_its_ends(make: Make, tmp_path: Path) -> None:
    prepared, log = make()
    relevance_agreement(prepared, log, tmp_path / "agreement", QUICK, write_agreement)
    scores = by_name(read(tmp_path / "agreement"))
    for form in ("decay", "as_printed", "none"):
        assert scores[f"alpha 0, {form}"]["kappa"] == scores["semantic"]["kappa"]
        assert scores[f"alpha 1, {form}"]["kappa"] == scores[f"ctr, {form}"]["kappa"]
    assert scores["alpha 0.5, decay"]["spearman"] == scores["labels"]["spearman"]
    assert scores["ctr, decay"]["spearman"] != scores["ctr, as_printed"]["spearman"]


def test_queries_with_many_clicks_are_measured_apart(make: Make, tmp_path: Path) -> None:
    prepared, log = make()
    pairs = pair_table()
    clicks = np.bincount(pairs.query_idx, pairs.clicks)
    least = int(np.sort(clicks)[-2])
    relevance_agreement(
        prepared, log, tmp_path / "some", QUICK.model_copy(update={"head_clicks": least}), write_agreement
    )
    head = read(tmp_path / "some")["head"]
    n_queries = int((clicks >= least).sum())
    assert (head["clicks"], head["queries"]) == (least, n_queries)
    assert n_queries < N_QUERIES
    assert head["pairs"] == n_queries * N_PRODUCTS
    assert {score["pairs"] for score in head["scores"]} <= {head["pairs"], head["pairs"] - 1}
    relevance_agreement(
        prepared, log, tmp_path / "none", QUICK.model_copy(update={"head_clicks": 10_000}), write_agreement
    )
    assert read(tmp_path / "none")["head"] == {"clicks": 10_000, "queries": 0, "pairs": 0, "scores": []}
    page = StrictPage((tmp_path / "none" / "agreement.html").read_text())
    assert "No query has 10,000 clicks or more." in page.text


def test_without_a_semantic_score(make: Make, tmp_path: Path) -> None:
    prepared, log = make(semantic=False)
    relevance_agreement(prepared, log, tmp_path / "agreement", QUICK, write_agreement)
    scores = by_name(read(tmp_path / "agreement"))
    assert set(scores) == {"raw_ctr", "labels", "ctr, decay", "ctr, as_printed", "ctr, none"}
    page = StrictPage((tmp_path / "agreement" / "agreement.html").read_text())
    assert "There is no semantic score, so there is nothing to combine clicks with." in page.text
    assert "its weight (50% of all) went to the other voters" in page.text


def test_other_than_four_classes_have_no_kappa(make: Make, tmp_path: Path) -> None:
    prepared, log = make(config=RelevanceConfig(quantiles=(0.5,)))
    relevance_agreement(prepared, log, tmp_path / "agreement", QUICK, write_agreement)
    scores = by_name(read(tmp_path / "agreement"))
    assert "kappa" not in scores["labels"]
    assert scores["labels"]["spearman_within"]["value"] > 0
    StrictPage((tmp_path / "agreement" / "agreement.html").read_text())


def test_the_page(make: Make, tmp_path: Path) -> None:
    prepared, log = make()
    relevance_agreement(prepared, log, tmp_path / "agreement", QUICK, write_agreement)
    html = (tmp_path / "agreement" / "agreement.html").read_text()
    page = StrictPage(html)
    assert [section["id"] for section in page.all("section")] == ["result", "alpha", "voters", "head", "provenance"]
    assert len(drawings(html)) == 6
    assert len({attributes["id"] for _, attributes in page.elements if "id" in attributes}) == sum(
        "id" in attributes for _, attributes in page.elements
    )
    scores = by_name(read(tmp_path / "agreement"))
    labels, raw = scores["labels"]["kappa"]["value"], scores["raw_ctr"]["kappa"]["value"]
    assert f"kappa {labels:.3f} against {raw:.3f}" in page.text
    assert "agreement of relevance labels with true grades" in page.text


def test_the_page_says_where_labels_do_not_help(make: Make, tmp_path: Path) -> None:
    prepared, log = make()
    relevance_agreement(prepared, log, tmp_path / "agreement", QUICK, write_agreement)
    result = read(tmp_path / "agreement")
    difference = by_name(result)["labels"]["difference"]["kappa"]
    for low, high, says in (
        (0.1, 0.2, "The relevance labels agree better"),
        (-0.1, 0.2, "Inconclusive"),
        (-0.2, -0.1, "The relevance labels agree worse"),
    ):
        difference.update(low=low, high=high, n=40)
        assert f"{says} " in StrictPage(render_agreement(result, "t")).text


def test_another_log_or_one_without_truth(make: Make, tmp_path: Path) -> None:
    prepared, log = make(truth=False)
    with pytest.raises(UserError, match="must hold true grades under truth/impressions"):
        relevance_agreement(prepared, log, tmp_path / "agreement", QUICK, write_agreement)
    with publish(tmp_path / "prepared", KIND, {"log": "another"}) as draft:
        save_columns(draft.path, ("click",), [], [])
    with pytest.raises(UserError, match=r"must be the log that .* was prepared from"):
        relevance_agreement(prepared, log, tmp_path / "agreement", QUICK, write_agreement)


def test_prepared_data_without_labels(make: Make, tmp_path: Path) -> None:
    prepared, log = make()
    fingerprint = SearchLog.open(log).manifest.fingerprint
    with publish(prepared, KIND, {"log": fingerprint}) as draft:
        save_columns(draft.path, ("click",), [], [])
    with pytest.raises(UserError, match="must hold relevance labels"):
        relevance_agreement(prepared, log, tmp_path / "agreement", QUICK, write_agreement)
    assert not (tmp_path / "agreement").exists()


def test_what_abstains_is_left_out_and_counted() -> None:
    query, grades = np.repeat([0, 1, 5], 4), np.array([0, 1, 2, 3] * 3, dtype=np.int8)
    better, worse = grades.astype(float), -grades.astype(float)
    better[:2] = np.nan
    config = AgreementConfig(n_resamples=50)
    found = agreement([("worse", worse), ("better", better)], query, grades, RelevanceConfig(), config)
    assert (found["worse"]["pairs"], found["better"]["pairs"]) == (12, 10)
    assert found["better"]["spearman_within"]["value"] == pytest.approx(1.0)
    assert found["better"]["difference"]["spearman_within"]["value"] == pytest.approx(2.0)
    assert found["worse"]["difference"]["kappa"]["value"] == 0.0


def test_a_query_of_one_grade_is_left_out_and_a_constant_score_counts_as_nothing() -> None:
    query, grades = np.repeat([0, 1, 2], 4), np.array([0, 1, 2, 3, 0, 1, 2, 3, 2, 2, 2, 2], dtype=np.int8)
    score = np.array([0.0, 1, 2, 3, 5, 5, 5, 5, 0, 1, 2, 3])
    found = agreement([("score", score)], query, grades, RelevanceConfig(), AgreementConfig(n_resamples=10))["score"]
    assert found["spearman_within"]["value"] == pytest.approx(0.5)
    assert found["spearman_within"]["n"] == 2


@pytest.mark.parametrize(
    ("alphas", "says"),
    [
        ([0.5, 0.2], "alphas must ascend within 0 to 1"),
        ([0.1, 0.1], "alphas must ascend within 0 to 1"),
        ([-0.1, 1.0], "greater than or equal to 0"),
        ([0.0, 1.1], "less than or equal to 1"),
    ],
)
def test_alphas_that_make_no_sense(alphas: list[float], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        AgreementConfig.model_validate({"alphas": alphas})
