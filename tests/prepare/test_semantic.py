"""The semantic score of a small shop: which pairs it learns from, what it writes, killed runs, the commands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("sentence_transformers", reason="the extra `text` is not installed")

from shelfrank.cli.semantic import semantic_app
from shelfrank.config import EngineConfig, PrepareConfig, RelevanceConfig, SplitConfig
from shelfrank.config.semantic import SemanticConfig, SemanticTrainConfig
from shelfrank.core.artifact import read_manifest
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData
from shelfrank.logs.engine import open_engine
from shelfrank.logs.search_log import SearchLog
from shelfrank.logs.writer import write_search_log
from shelfrank.prepare import semantic
from shelfrank.prepare.pipeline import prepare
from shelfrank.prepare.relevance import PAIRS_FILE, RelevanceLabels
from shelfrank.prepare.semantic import MODEL_KIND, score_semantic, train_semantic
from shelfrank.prepare.split import assign_splits
from shelfrank.text import contrastive, shards
from shelfrank.text.documents import read_documents
from shelfrank.text.encoder import load_encoder
from shelfrank.text.graded import GradedPairs
from shelfrank.text.pairs import Pairs
from shelfrank.text.scores import KIND, SemanticScores
from small_log import IMPRESSION_TYPES, SMALL_SCHEMA, small_tables, write_small_log
from tiny_encoder import save_tiny_encoder

TRAINING = {"batch_size": 8, "learning_rate": 1e-3, "precision": "fp32", "checkpoint_every_s": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_encoder(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_log(tmp_path_factory.mktemp("log") / "log", small_tables(120))


def learnt_pairs(log: Path, config: SemanticTrainConfig) -> Pairs:
    return semantic._training_pairs(SearchLog.open(log), config, None)[0]


def test_pairs_come_from_the_choices_of_the_training_split_only(log: Path) -> None:
    tables = small_tables(120)
    titles = {row["product_id"]: f"{row['title']} {row['brand']}" for row in tables["products"]}
    moments = sorted({row["search_id"]: row["timestamp"] for row in tables["impressions"]}.items(), key=lambda s: s[1])
    first_valid = moments[int(120 * 0.8)][1]
    expected = {
        (row["query"], titles[row["product_id"]])
        for row in tables["impressions"]
        if row["timestamp"] < first_valid and row["click"]
    }
    pairs = learnt_pairs(log, SemanticTrainConfig())
    found = {(pairs.queries[q], pairs.documents[d]) for q, d in zip(pairs.query_idx, pairs.document_idx, strict=True)}
    assert found == expected
    assert pairs.counts.sum() == sum(row["click"] for row in tables["impressions"] if row["timestamp"] < first_valid)


def test_what_happens_after_the_training_split_changes_no_pair(
    make_log: Callable[..., Path], log: Path, tmp_path: Path
) -> None:
    tables = small_tables(120)
    last = {row["search_id"] for row in tables["impressions"]} & {f"s{i:05d}" for i in range(100, 120)}
    for row in tables["impressions"]:
        if row["search_id"] in last:
            row.update(click=1 - row["click"], add_to_cart=0, purchase=0)
    other = write_small_log(tmp_path / "other", tables)
    one, two = learnt_pairs(log, SemanticTrainConfig()), learnt_pairs(other, SemanticTrainConfig())
    assert one.documents == two.documents
    assert one.counts.tolist() == two.counts.tolist()


def test_grades_of_a_judged_log_stand_for_clicks(tmp_path: Path) -> None:
    tables = small_tables(60)
    grades = []
    for i, row in enumerate(tables["impressions"]):
        row.update(click=None, add_to_cart=None, purchase=None)
        grades.append({"search_id": row["search_id"], "product_id": row["product_id"], "grade": 1 + i % 3})
    with write_search_log(tmp_path / "judged", SMALL_SCHEMA, {}) as writer:
        writer.write("impressions", pa.Table.from_pylist(tables["impressions"], schema=IMPRESSION_TYPES))
        for name in ("products", "customers"):
            writer.write(name, pa.Table.from_pylist(tables[name]))
        writer.write("truth/impressions", pa.Table.from_pylist(grades))
    by_id = SplitConfig(by="search_id")
    assert SemanticTrainConfig(positive_grade=3).search_split() == by_id
    high = learnt_pairs(tmp_path / "judged", SemanticTrainConfig(positive_grade=3))
    every = learnt_pairs(tmp_path / "judged", SemanticTrainConfig(positive_grade=1))
    assert 0 < high.counts.sum() < 0.5 * every.counts.sum() < len(grades)
    with pytest.raises(UserError, match="set positive_grade"):
        learnt_pairs(tmp_path / "judged", SemanticTrainConfig())
    log, config = SearchLog.open(tmp_path / "judged"), SemanticTrainConfig(positive_grade=3, graded_weight=1.0)
    _, graded, facts = semantic._training_pairs(log, config, None)
    assert graded is not None
    assert set(graded.grades.tolist()) >= {0.0, 0.5, 1.0}
    assert facts["graded_pairs"] == len(graded)
    assert 0 < facts["graded_queries"] == len(graded.queries)


@pytest.fixture(scope="module")
def labelled(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data with relevance labels from clicks alone."""
    out = tmp_path_factory.mktemp("labelled") / "prepared"
    relevance = RelevanceConfig(weights={"ctr": 1.0}, min_products=1)
    prepare(log, out, PrepareConfig(relevance=relevance, engine=EngineConfig(threads=1)))
    return out


def test_relevance_labels_of_the_log_are_grades(log: Path, labelled: Path, model: str, tmp_path: Path) -> None:
    config = SemanticTrainConfig(model=model, graded_weight=1.0, grades=str(labelled), **TRAINING)  # pyright: ignore[reportArgumentType]
    _, graded, _ = semantic._training_pairs(SearchLog.open(log), config, PreparedData.open(labelled))
    labels = RelevanceLabels.load(labelled / PAIRS_FILE)
    assert graded is not None
    # Labels are of training searches alone, and queries whose products all have one score are left out.
    assert 0 < len(graded) <= np.isfinite(labels.score).sum()
    assert len(set(graded.queries)) == len(graded.queries)
    assert train_semantic(log, tmp_path / "tuned", config)
    assert not train_semantic(log, tmp_path / "tuned", config)
    info = read_manifest(tmp_path / "tuned", MODEL_KIND).info
    assert (info["graded_pairs"], info["graded_queries"]) == (len(graded), len(graded.queries))
    plain = config.model_copy(update={"graded_weight": 0.0, "grades": None})
    assert train_semantic(log, tmp_path / "plain", plain)
    assert "graded_pairs" not in read_manifest(tmp_path / "plain", MODEL_KIND).info
    weights = [load_encoder(str(tmp_path / name)).model.state_dict() for name in ("tuned", "plain")]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_grades_must_be_of_the_same_searches(log: Path, labelled: Path, model: str, tmp_path: Path) -> None:
    config = SemanticTrainConfig(
        model=model, graded_weight=1.0, grades=str(labelled), split=SplitConfig(by="search_id")
    )
    with pytest.raises(UserError, match="grades must be of the same training searches"):
        train_semantic(log, tmp_path / "out", config)
    other = write_small_log(tmp_path / "other", small_tables(40))
    with pytest.raises(UserError, match=r"grades must name data that was prepared from .* prepare this log with"):
        train_semantic(other, tmp_path / "out", config.model_copy(update={"split": None}))


def listed(graded: GradedPairs | None) -> list[tuple[str, str, float]]:
    assert graded is not None
    query_of = np.repeat(np.arange(len(graded.queries)), np.diff(graded.starts))
    return [
        (graded.queries[query], graded.documents[document], grade)
        for query, document, grade in zip(query_of, graded.document_idx, graded.grades.tolist(), strict=True)
    ]


def write_judged_log(out: Path, grade_of: Callable[[int], float], clicks: bool = False) -> SearchLog:
    tables = small_tables(60)
    grades = []
    for i, row in enumerate(tables["impressions"]):
        if not clicks:
            row.update(click=None, add_to_cart=None, purchase=None)
        grades.append({"search_id": row["search_id"], "product_id": row["product_id"], "grade": grade_of(i)})
    with write_search_log(out, SMALL_SCHEMA, {}) as writer:
        writer.write("impressions", pa.Table.from_pylist(tables["impressions"], schema=IMPRESSION_TYPES))
        for name in ("products", "customers"):
            writer.write(name, pa.Table.from_pylist(tables[name]))
        writer.write("truth/impressions", pa.Table.from_pylist(grades))
    return SearchLog.open(out)


def test_the_grades_of_a_judged_log_are_those_of_its_training_searches(tmp_path: Path) -> None:
    def grade_of(i: int) -> float:
        return 1 + i * 7 % 5 / 2

    config = SemanticTrainConfig(positive_grade=3, graded_weight=1)
    tables = small_tables(60)
    ids = sorted({row["search_id"] for row in tables["impressions"]})
    splits = assign_splits(np.zeros(60, np.int64), ids, config.search_split())
    train = {one for one, split in zip(ids, splits.tolist(), strict=True) if split == 0}
    titles = {row["product_id"]: f"{row['title']} {row['brand']}" for row in tables["products"]}
    given: dict[tuple[str, str], list[float]] = {}
    for i, row in enumerate(tables["impressions"]):
        if row["search_id"] in train:
            given.setdefault((row["query"], titles[row["product_id"]]), []).append((grade_of(i) - 1) / 2)
    assert 0 < len(train) < 60
    graded = semantic._training_pairs(write_judged_log(tmp_path / "judged", grade_of), config, None)[1]
    assert listed(graded) == [(*pair, pytest.approx(np.mean(values))) for pair, values in sorted(given.items())]
    # Grades of other searches are not read: these would change the scale.
    others = {i for i, row in enumerate(tables["impressions"]) if row["search_id"] not in train}
    changed = write_judged_log(tmp_path / "changed", lambda i: 1000.0 if i in others else grade_of(i))
    assert listed(semantic._training_pairs(changed, config, None)[1]) == listed(graded)


@pytest.mark.parametrize("by", ["time", "search_id"])
def test_what_happens_outside_of_the_training_split_changes_no_grade(log: Path, tmp_path: Path, by: Any) -> None:
    split = SplitConfig(by=by)
    tables = small_tables(120)
    moment = {row["search_id"]: row["timestamp"] for row in tables["impressions"]}
    ids = sorted(moment, key=lambda one: (moment[one], one))
    times_us = np.array([round(moment[one].timestamp() * 1e6) for one in ids])
    split_of = dict(zip(ids, assign_splits(times_us, ids, split).tolist(), strict=True))

    def grades_of(log: Path, name: str) -> list[tuple[str, str, float]]:
        # Clicks and query understanding vote.
        prepare(log, tmp_path / name, PrepareConfig(split=split, relevance=RelevanceConfig()))
        labelled = PreparedData.open(tmp_path / name)
        config = SemanticTrainConfig(graded_weight=1, grades=str(labelled.path), split=split)
        return listed(semantic._training_pairs(SearchLog.open(log), config, labelled)[1])

    def turn(own: Callable[[int], bool]) -> None:
        for row in tables["impressions"]:
            if own(split_of[row["search_id"]]):
                row.update(click=1 - row["click"], add_to_cart=0, purchase=0)

    before = grades_of(log, "before")
    turn(lambda of: of > 0)
    assert grades_of(write_small_log(tmp_path / "later", tables), "after_later") == before
    # The same within the training split is seen, so that the comparison could have failed.
    turn(lambda of: of == 0)
    assert grades_of(write_small_log(tmp_path / "all", tables), "after_all") != before


def test_the_truth_of_a_simulated_log_is_not_taken_for_judgments(tmp_path: Path, model: str) -> None:
    log = write_judged_log(tmp_path / "simulated", lambda i: i % 4, clicks=True)
    with pytest.raises(UserError, match="graded_weight needs grades, but neither grades nor positive_grade is set"):
        train_semantic(log.path, tmp_path / "out", SemanticTrainConfig(model=model, graded_weight=1))


def test_a_log_of_one_grade_has_no_order_to_learn(tmp_path: Path) -> None:
    log = write_judged_log(tmp_path / "judged", lambda _: 3)
    with pytest.raises(UserError, match="whose products have different grades, but there is none among"):
        semantic._training_pairs(log, SemanticTrainConfig(positive_grade=3, graded_weight=1), None)


def test_without_grades_the_inputs_are_those_of_earlier_versions(log: Path, model: str, tmp_path: Path) -> None:
    train_semantic(log, tmp_path / "tuned", SemanticTrainConfig(model=model, **TRAINING))  # pyright: ignore[reportArgumentType]
    inputs = read_manifest(tmp_path / "tuned", MODEL_KIND).inputs
    assert set(inputs) == {"log", "model", "config"}
    former = "document split positive_grade epochs batch_size learning_rate warmup weight_decay scale symmetric"
    assert set(inputs["config"]) == {*former.split(), "precision", "seed"}


def test_a_log_without_any_text_has_nothing_to_learn_from(tmp_path: Path) -> None:
    tables = small_tables(10)
    for row in tables["products"]:
        row.update(title=None, brand=None)
    log = write_small_log(tmp_path / "log", tables)
    with pytest.raises(UserError, match=r"must have products with texts \(title\), but none has any; import titles"):
        learnt_pairs(log, SemanticTrainConfig(document=("title",)))


def test_grades_that_the_log_has_not_are_told(log: Path) -> None:
    with pytest.raises(UserError, match="leave positive_grade out"):
        learnt_pairs(log, SemanticTrainConfig(positive_grade=3))


def test_a_killed_training_goes_on_to_the_same_model(
    log: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SemanticTrainConfig(model=model, **TRAINING)
    assert train_semantic(log, tmp_path / "whole", config)
    with monkeypatch.context() as patched:
        save = contrastive.save_checkpoint

        def save_then_die(*args: Any) -> None:
            save(*args)
            raise KeyboardInterrupt

        patched.setattr(contrastive, "save_checkpoint", save_then_die)
        with pytest.raises(KeyboardInterrupt):
            train_semantic(log, tmp_path / "killed", config)
    assert not (tmp_path / "killed").exists()
    assert train_semantic(log, tmp_path / "killed", config)
    assert not train_semantic(log, tmp_path / "killed", config)
    whole, killed = (load_encoder(str(tmp_path / name)) for name in ("whole", "killed"))
    assert whole.fingerprint == killed.fingerprint != load_encoder(model).fingerprint
    assert not list(tmp_path.glob(".*"))


def test_scores_are_the_cosines_of_every_pair_shown(log: Path, model: str, tmp_path: Path) -> None:
    assert score_semantic(log, tmp_path / "scores", SemanticConfig(model=model))
    assert not score_semantic(log, tmp_path / "scores", SemanticConfig(model=model))
    tables = small_tables(120)
    texts = {row["product_id"]: f"{row['title']} {row['brand']}" for row in tables["products"]}
    pairs = pq.read_table(tmp_path / "scores" / "pairs.parquet").to_pylist()
    shown = {(row["query"], row["product_id"]) for row in tables["impressions"]}
    assert {(row["query"], row["product_id"]) for row in pairs} == shown
    assert len(pairs) == len(shown)
    encoder = load_encoder(model)
    one = encoder.encode([row["query"] for row in pairs]).embeddings
    other = encoder.encode([texts[row["product_id"]] for row in pairs]).embeddings
    written = np.array([row["semantic_score"] for row in pairs])
    np.testing.assert_allclose(written, np.einsum("nd,nd->n", one, other), atol=2e-3)
    queries, ids = sorted({q for q, _ in shown}), sorted(texts)
    aligned = SemanticScores.open(tmp_path / "scores").align(queries, ids)
    query_idx = np.array([queries.index(row["query"]) for row in pairs], dtype=np.int32)
    product_idx = np.array([ids.index(row["product_id"]) for row in pairs], dtype=np.int32)
    np.testing.assert_array_equal(aligned.cosine(query_idx, product_idx), written.astype(np.float32))
    info = read_manifest(tmp_path / "scores", KIND).info
    assert info["rows"] == {"queries": 5, "products": 30, "pairs": len(shown)}
    assert info["missing_columns"] == ["color", "age_group"]
    assert info["model_fingerprint"] == encoder.fingerprint


def test_averaged_attributes_are_the_mean_of_their_embeddings(log: Path, model: str, tmp_path: Path) -> None:
    score_semantic(log, tmp_path / "scores", SemanticConfig(model=model, per_attribute="mean"))
    stored = np.load(tmp_path / "scores" / "product_embeddings.npy").astype(np.float32)
    with open_engine() as engine:
        documents = read_documents(SearchLog.open(log), engine, ("title", "brand"))
    title, brand = load_encoder(model).encode(documents.attributes[7]).embeddings
    mean = (title + brand) / np.linalg.norm(title + brand)
    np.testing.assert_allclose(stored[7], mean, atol=2e-3)


def test_blank_texts_are_counted_and_have_no_score(model: str, tmp_path: Path) -> None:
    tables = small_tables(40)
    for row in tables["products"]:
        row["brand"] = None
        if row["product_id"] in ("p003", "p004"):
            row["title"] = " "
    for row in tables["impressions"]:
        if row["query"] == "lamp":
            row["query"] = ""
    log = write_small_log(tmp_path / "log", tables)
    score_semantic(log, tmp_path / "scores", SemanticConfig(model=model))
    pairs = pq.read_table(tmp_path / "scores" / "pairs.parquet").to_pylist()
    missing = [row for row in pairs if np.isnan(row["semantic_score"])]
    assert all((row["query"] == "") or row["product_id"] in ("p003", "p004") for row in missing)
    expected = [row for row in pairs if row["query"] == "" or row["product_id"] in ("p003", "p004")]
    assert len(missing) == len(expected) > 0
    info = read_manifest(tmp_path / "scores", KIND).info
    assert info["without_text"] == {"queries": 1, "products": 2, "pairs": len(missing)}
    facts = semantic._training_pairs(SearchLog.open(log), SemanticTrainConfig(), None)[2]
    assert facts["left_out_pairs"]["without a query"] > 0
    relevance = RelevanceConfig(weights={"ctr": 1.0}, min_products=1)
    prepare(log, tmp_path / "prepared", PrepareConfig(relevance=relevance, engine=EngineConfig(threads=1)))
    prepared = PreparedData.open(tmp_path / "prepared")
    config = SemanticTrainConfig(graded_weight=1.0, grades=str(prepared.path))
    _, graded, facts = semantic._training_pairs(SearchLog.open(log), config, prepared)
    labels = RelevanceLabels.load(prepared.path / PAIRS_FILE)
    labelled = labels.table(prepared.queries()["query"], prepared.products()["product_id"]).to_pylist()
    without = [
        row
        for row in labelled
        if row["score"] is None or not row["query"].strip() or row["product_id"] in ("p003", "p004")
    ]
    assert graded is not None
    assert facts["left_out_pairs"]["without a grade, a query or text"] == len(without) > 0


def test_a_log_without_any_text_is_all_nan(model: str, tmp_path: Path) -> None:
    tables = small_tables(10)
    for row in tables["products"]:
        row.update(title="", brand=None)
    log = write_small_log(tmp_path / "log", tables)
    score_semantic(log, tmp_path / "scores", SemanticConfig(model=model, document=("title",)))
    scores = pq.read_table(tmp_path / "scores" / "pairs.parquet")["semantic_score"].to_numpy()
    assert np.isnan(scores).all()


def test_a_killed_scoring_goes_on_to_the_same_bytes(
    log: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_TEXTS", 8)
    config = SemanticConfig(model=model)
    score_semantic(log, tmp_path / "whole", config)
    with monkeypatch.context() as patched:
        write, written = shards.write_shard, []

        def write_then_die(*args: Any) -> None:
            write(*args)
            written.append(1)
            if len(written) == 3:
                raise KeyboardInterrupt

        patched.setattr(shards, "write_shard", write_then_die)
        with pytest.raises(KeyboardInterrupt):
            score_semantic(log, tmp_path / "killed", config)
    score_semantic(log, tmp_path / "killed", config)
    whole, killed = (SemanticScores.open(tmp_path / name) for name in ("whole", "killed"))
    assert whole.fingerprint == killed.fingerprint
    assert killed.manifest.info["texts_embedded"] == whole.manifest.info["texts_embedded"] - (5 + 8 + 8)
    assert not list(tmp_path.glob(".*"))


def test_a_given_cache_is_kept_and_used(log: Path, model: str, tmp_path: Path) -> None:
    config = SemanticConfig(model=model)
    score_semantic(log, tmp_path / "one", config, tmp_path / "cache")
    shutil.rmtree(tmp_path / "one")
    score_semantic(log, tmp_path / "one", config, tmp_path / "cache")
    assert read_manifest(tmp_path / "one", KIND).info["texts_embedded"] == 0


def test_columns_that_the_products_have_not_are_told(log: Path, model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="they have product_id, title, brand, price"):
        score_semantic(log, tmp_path / "scores", SemanticConfig(model=model, document=("colour",)))


def test_the_commands_train_then_score_with_what_was_trained(log: Path, model: str, tmp_path: Path) -> None:
    run = CliRunner().invoke
    tuned, scores = tmp_path / "tuned", tmp_path / "scores"
    settings = [part for key, value in TRAINING.items() for part in ("--set", f"{key}={value}")]
    trained = run(
        semantic_app, ["train", str(log), "--out", str(tuned), "--set", f"model={model}", *settings, "--json"]
    )
    assert trained.exit_code == 0, trained.output
    assert read_manifest(tuned, MODEL_KIND).info["pairs"] > 0
    scored = run(semantic_app, ["score", str(log), "--out", str(scores), "--set", f"model={tuned}", "--json"])
    assert scored.exit_code == 0, scored.output
    facts = json.loads(scored.stdout.splitlines()[-1])
    assert facts["changed"]
    assert facts["model_fingerprint"] == load_encoder(str(tuned)).fingerprint
    for arguments in (["score", str(log), "--out", str(scores), "--set", f"model={tuned}"],):
        again = run(semantic_app, arguments)
        assert "unchanged" in again.output
