"""From a run to a bundle, and what the bundle then says."""

import json
import pickletools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import xgboost as xgb

from shelfrank.bundle.export import ExportSettings, export
from shelfrank.bundle.golden import check_golden, load_requests
from shelfrank.bundle.loaded import Bundle
from shelfrank.bundle.replay import logged_pages
from shelfrank.bundle.spec import KIND, Precision, Spec
from shelfrank.bundle.store import BundleStore
from shelfrank.config import PrepareConfig, SemanticConfig
from shelfrank.core.artifact import MANIFEST, read_manifest, verify_files
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Schema
from shelfrank.features.request import PageRequest
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.pipeline import prepare
from shelfrank.prepare.semantic import score_semantic
from shelfrank.rankers.run import Run, train
from small_log import SMALL_SCHEMA, small_tables, write_small_log
from tiny import tiny
from tiny_encoder import save_tiny_encoder

SMALL = ExportSettings(golden_pages=4, replayed=8)


@pytest.fixture(scope="module")
def trained(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a ranker once: `trained("mmoe", "seed=1")` is its run."""
    folder = tmp_path_factory.mktemp("trained")

    def run(ranker: str, *assignments: str) -> Path:
        out = folder / "-".join([ranker, *(each.translate({ord(c): "_" for c in "[]=,."}) for each in assignments)])
        train(small_prepared, ranker, tiny(ranker, *assignments), out)
        return out

    return run


@pytest.fixture(scope="module")
def exported(trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports a ranker once: the folder of its version, which tests must only read."""
    made: dict[tuple[str, ...], Path] = {}

    def folder(*ranker: str) -> Path:
        if ranker not in made:
            out = tmp_path_factory.mktemp("bundle")
            export(trained(*ranker), out, SMALL)
            made[ranker] = BundleStore(out).open().path
        return made[ranker]

    return folder


def replayed(run_path: Path, bundle: Bundle, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """The run's own scores of some test searches, and the bundle's of the same pages."""
    run = Run.open(run_path)
    prepared = run.prepared()
    rows = prepared.split("test")
    chosen = np.arange(min(n, rows.n_searches))
    some = rows.searches(chosen)
    pages = logged_pages(SearchLog.open(Path(prepared.manifest.info["log"])), prepared, "test", chosen)
    offline = run.ranker(prepared).score(run.select(some))
    return offline, np.concatenate([bundle.score(page).scores for page in pages])


@pytest.mark.parametrize(
    ("ranker", "assignments"),
    [
        ("shown_order", ()),
        ("popularity", ()),
        ("xgboost", ()),
        ("lambdamart", ()),
        ("lambdamart", ("lambdamart.per_task=false",)),
        ("xgboost_ranking", ()),
        ("xgboost_ranking", ("xgboost_ranking.per_task=false",)),
        ("catboost", ()),
        ("catboost", ("catboost.per_task=false",)),
        ("blend", ()),
        ("blend", ("blend.min_searches=1000000",)),
        ("dcn_v2_single", ()),
        ("mmoe", ("exclude_sides=[customer]", "exclude_features=[brand]")),
        ("network", ()),
        ("network", ("neural.n_networks=2", "neural.dropout=0")),
        ("mmoe_dcn_v2_text_cross", ()),
        ("mmoe_dcn_v2_text_dot", ("neural.text.trained_layers=2", "neural.text.normalise_vectors=true")),
    ],
)
def test_a_bundle_gives_the_scores_of_its_run(
    ranker: str, assignments: tuple[str, ...], trained: Callable[..., Path], exported: Callable[..., Path]
) -> None:
    folder = exported(ranker, *assignments)
    offline, online = replayed(trained(ranker, *assignments), Bundle.open(folder))
    assert np.abs(offline).max() > 0
    np.testing.assert_allclose(online, offline, rtol=1e-5, atol=1e-5)
    assert check_golden(Bundle.open(folder), folder) < 1e-5


def test_a_bundle_of_trees_may_have_features_of_any_name(tmp_path: Path) -> None:
    names = {"brand": "brand <maker>", "price": "price [EUR]"}
    tables = small_tables(120)
    tables["products"] = [{names.get(name, name): cell for name, cell in row.items()} for row in tables["products"]]
    declared = SMALL_SCHEMA.model_dump()
    for feature in declared["features"]:
        feature["name"] = names.get(feature["name"], feature["name"])
    log = write_small_log(tmp_path / "log", tables, Schema.model_validate(declared))
    prepare(log, tmp_path / "prepared", PrepareConfig())
    train(tmp_path / "prepared", "xgboost", tiny("xgboost"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", ExportSettings(golden_pages=2, replayed=0))
    offline, online = replayed(tmp_path / "run", Bundle.open(BundleStore(tmp_path / "bundle").open().path))
    np.testing.assert_allclose(online, offline, rtol=1e-5, atol=1e-5)


def test_trees_that_were_saved_with_the_features_names_are_still_served(
    exported: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported("xgboost"), tmp_path / "version"))
    booster = xgb.Booster(model_file=folder / "model.ubj")
    booster.feature_names = [name for name, _, _ in Spec.load(folder).columns]
    (folder / "model.ubj").write_bytes(booster.save_raw("ubj"))
    assert check_golden(Bundle.open(folder), folder) < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("ranker", ["mmoe_dcn_v2_text_cross", "xgboost", "lambdamart", "blend", "popularity"])
def test_products_that_a_bundle_does_not_know_have_one_score_on_any_page(
    ranker: str, precision: Precision, exported: Callable[..., Path]
) -> None:
    folder = exported(ranker)
    if precision not in Spec.load(folder).precisions:
        pytest.skip("trees have one precision")
    bundle = Bundle.open(folder, precision)
    known = load_requests(folder)[0].page.product_ids
    for n in range(2, 71):
        ids = [f"new {i}" for i in range(n)]
        for place, product in enumerate(known[: n % 4]):
            ids.insert(7 * place % n, product)
        scores = bundle.score(PageRequest("never seen", ids, ts_us=1_740_000_000_000_000)).scores
        unknown = [i for i, product in enumerate(ids) if product.startswith("new")]
        assert len(np.unique(scores[unknown], axis=0)) == 1


def test_a_bundle_lists_what_its_ranker_needs_of_requests(exported: Callable[..., Path]) -> None:
    def needed(*ranker: str) -> set[str]:
        return {each.name for each in Spec.load(exported(*ranker)).request_features}

    assert needed("mmoe", "exclude_sides=[customer]", "exclude_features=[brand]") == {"brand", "price", "device"}
    assert needed("lambdamart") == {"brand", "price", "age_band", "device"}
    assert needed("popularity") == needed("shown_order") == set()


def test_the_same_run_is_exported_once(trained: Callable[..., Path], tmp_path: Path) -> None:
    run, out = trained("mmoe"), tmp_path / "bundle"
    bare = ExportSettings(int8=False, golden_pages=2, replayed=0)
    first = export(run, out, bare)
    again = export(run, out, bare)
    assert (again.version, again.changed) == (first.version, False)
    other = export(run, out, ExportSettings(int8=False, golden_pages=3, replayed=0))
    assert other.changed
    assert other.version != first.version
    assert BundleStore(out).current() == other.version
    again = export(run, out, bare)
    assert (again.version, again.changed) == (first.version, False)
    assert BundleStore(out).current() == first.version


def test_a_bundle_is_one_folder_without_pickles(exported: Callable[..., Path]) -> None:
    folder = exported("mmoe_dcn_v2_text_cross")
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    wanted = {
        "bundle.json",
        "columns.json",
        "config.yaml",
        "encoder.json",
        "golden/pages.json",
        "golden/requests.json",
        "golden/rows.safetensors",
        "model_card.md",
        "onnx/query.fp32.onnx",
        "onnx/query.int8.onnx",
        "onnx/ranker.fp32.onnx",
        "onnx/ranker.int8.onnx",
        "quality.json",
        "schema.yaml",
        "text/product_vectors.npy",
        "text/tokenizer.json",
        "weights.safetensors",
    }
    assert wanted <= files
    manifest = read_manifest(folder, KIND)
    assert set(manifest.files) == files - {MANIFEST}
    verify_files(folder, manifest)
    for name in files:
        content = (folder / name).read_bytes()
        with pytest.raises(Exception):  # noqa: B017, PT011
            list(pickletools.genops(content))
        if name.endswith(".npy"):
            np.load(folder / name, allow_pickle=False)


def test_eight_bits_are_measured_beside_the_rest(exported: Callable[..., Path]) -> None:
    folder = exported("mmoe_dcn_v2_text_cross")
    quality = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    assert quality == read_manifest(folder, KIND).info["quality"]
    assert quality["fp32"]["largest_gap"] < 1e-5 < quality["int8"]["largest_gap"]
    assert set(quality["fp32"]["auc"]) == {"click", "add_to_cart", "purchase"}
    assert 0 < check_golden(Bundle.open(folder, "int8"), folder) < 0.02
    with pytest.raises(UserError, match="must have graphs in int8, but it has fp32"):
        Bundle.open(exported("lambdamart"), "int8")


def test_half_vectors_cost_little(trained: Callable[..., Path], tmp_path: Path) -> None:
    run = trained("mmoe_dcn_v2_text_cross")
    export(run, tmp_path / "bundle", ExportSettings(int8=False, vectors="fp16", golden_pages=2, replayed=0))
    bundle = Bundle.open(BundleStore(tmp_path / "bundle").open().path)
    assert bundle.product_vectors is not None
    assert bundle.product_vectors.dtype == np.float16
    offline, online = replayed(run, bundle)
    np.testing.assert_allclose(online, offline, atol=1e-3)


def test_a_changed_golden_score_is_refused(exported: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported("mmoe_dcn_v2_text_cross"), tmp_path / "version"))
    file = folder / "golden" / "requests.json"
    requests = json.loads(file.read_text(encoding="utf-8"))
    requests[1]["expected"]["fp32"][0][0] += 0.01
    file.write_text(json.dumps(requests), encoding="utf-8")
    with pytest.raises(UserError, match=r"golden pages to 0\.0001 in fp32, but request 1 are off by 0\.01"):
        check_golden(Bundle.open(folder), folder)


def test_cold_products_have_the_vector_of_no_text(exported: Callable[..., Path]) -> None:
    folder = exported("mmoe_dcn_v2_text_cross")
    bundle = Bundle.open(folder)
    assert bundle.matching is not None
    asked = load_requests(folder)[0].page
    strange = type(asked)(query="☃", product_ids=["nobody", asked.product_ids[0]], customer_id="x", ts_us=asked.ts_us)
    scored = bundle.score(strange)
    assert scored.rows.products is not None
    np.testing.assert_array_equal(scored.rows.products[0], bundle.matching.vector("")[0])
    assert np.isfinite(scored.scores).all()
    assert scored.page.unknown["products"] == 1


@pytest.fixture(scope="module")
def semantic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small log, an encoder, its scores, and what is prepared with them."""
    folder = tmp_path_factory.mktemp("semantic")
    log = write_small_log(folder / "log", small_tables(120))
    model = save_tiny_encoder(folder / "model")
    score_semantic(log, folder / "scores", SemanticConfig(model=str(model), threads=1))
    prepare(log, folder / "prepared", PrepareConfig(semantic_scores=str(folder / "scores")))
    return folder


@pytest.mark.parametrize(
    ("ranker", "encoder", "graphs"),
    [
        ("mmoe", "none", {"ranker", "semantic"}),
        ("mmoe_dcn_v2_text_cross", "same", {"ranker", "query"}),
        ("mmoe_dcn_v2_text_cross", "other", {"ranker", "query", "semantic"}),
    ],
)
def test_the_semantic_score_of_a_new_query_is_that_of_its_model(
    ranker: str, encoder: str, graphs: set[str], semantic: Path, tmp_path: Path
) -> None:
    scores, prepared = semantic / "scores", semantic / "prepared"
    assignments = (
        (f"neural.text.model={semantic / 'model'}", "neural.text.trained_layers=1") if encoder == "same" else ()
    )
    train(prepared, ranker, tiny(ranker, *assignments), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", ExportSettings(golden_pages=2, replayed=0))
    folder = BundleStore(tmp_path / "bundle").open().path
    assert {file.name.partition(".")[0] for file in (folder / "onnx").iterdir()} == graphs
    bundle = Bundle.open(folder)
    assert bundle.semantic is not None
    offline, online = replayed(tmp_path / "run", bundle)
    np.testing.assert_allclose(online, offline, atol=1e-5)
    assert bundle.semantic.misses == 0, "a query of the log has its embedding"
    stored = np.load(scores / "query_embeddings.npy")
    queries = pq.read_table(scores / "queries.parquet")["query"].to_pylist()
    for query, embedding in zip(queries, stored, strict=True):
        np.testing.assert_allclose(bundle.semantic.vector(query)[0], embedding.astype(np.float32), atol=1e-3)
        np.testing.assert_array_equal(bundle.semantic_vector(query), embedding.astype(np.float32))
    assert bundle.semantic_vector("  ") is None
    asked = replace(load_requests(folder)[0].page, query="small blue lamp")
    assert "small blue lamp" not in queries
    passes = [each.misses for each in (bundle.matching, bundle.semantic) if each is not None]
    bundle.score(asked)
    more = [each.misses for each in (bundle.matching, bundle.semantic) if each is not None]
    assert sum(more) - sum(passes) == len(graphs) - 1
    with pytest.raises(UserError, match="needs the semantic scores"):
        export(tmp_path / "run", tmp_path / "other", SMALL, scores_path=prepared)
