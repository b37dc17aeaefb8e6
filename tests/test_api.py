"""The steps from Python: what is loaded, what they take, return and refuse, and that they are the command line's."""

import builtins
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

import shelfrank as sr
from shelfrank.bundle.golden import load_requests
from shelfrank.bundle.store import BundleStore
from shelfrank.logs.search_log import SearchLog as FinishedLog
from small_log import IMPRESSION_TYPES, small_tables, write_small_log

ROOT = Path(__file__).resolve().parents[1]
FAST = {"n_resamples": 50, "n_resamples_auc": 10}
TREES = {"lambdamart": {"n_rounds": 4, "min_rows_per_leaf": 5}, "train": {"threads": 1}}
ROLES = {
    "search_id": "page",
    "timestamp": "shown_at",
    "customer_id": "user",
    "session_id": "visit",
    "query": "words",
    "product_id": "sku",
    "position": "rank",
    "click": "clicked",
}
FEATURES: dict[str, Any] = {
    "device": {"side": "context", "kind": "categorical"},
    "brand": {"side": "product", "kind": "categorical"},
    "price": {"name": "price_usd", "side": "product", "kind": "numerical", "log1p": True},
    "age_band": {"side": "customer", "kind": "categorical"},
}


class Steps:
    """Every step run once on a small log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = write_small_log(folder / "log", small_tables(200))
        self.data = sr.prepare(self.log, out=folder / "prepared", engine={"threads": 1})
        self.runs = {
            name: sr.train(self.data, ranker=name, out=folder / name, seed=0, **TREES)
            for name in ("shown_order", "lambdamart")
        }
        self.evaluations = {
            name: sr.evaluate(run, out=folder / "evaluations" / name, **FAST) for name, run in self.runs.items()
        }
        self.comparison = sr.compare(list(self.evaluations.values()), out=folder / "comparison")
        self.bundle = sr.export(self.runs["lambdamart"], out=folder / "bundle", int8=False, replayed=0, compared=0)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return Steps(tmp_path_factory.mktemp("api"))


def in_a_new_process(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("torch", "duckdb", "pandas", "pyarrow", "pydantic", "shelfrank.api")
    loaded = in_a_new_process(f"import sys, shelfrank; print([name for name in {heavy} if name in sys.modules])")
    assert loaded == "[]"


def test_the_steps_load_neither_torch_nor_duckdb_before_they_run() -> None:
    heavy = ("torch", "duckdb", "pandas")
    code = f"import sys, shelfrank; shelfrank.train; print([name for name in {heavy} if name in sys.modules])"
    assert in_a_new_process(code) == "[]"


def test_a_step_stays_a_function_when_the_subpackage_of_its_name_is_loaded() -> None:
    code = (
        "import shelfrank, shelfrank.train.losses, shelfrank.prepare.split; from shelfrank.train import losses; "
        "print(callable(shelfrank.train), callable(shelfrank.prepare), losses.__name__)"
    )
    assert in_a_new_process(code) == "True True shelfrank.train.losses"


def test_every_public_name_is_listed_and_there() -> None:
    assert set(sr.__all__) <= set(dir(sr))
    assert all(getattr(sr, name).__doc__ for name in sr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = sr.trian  # type: ignore[attr-defined]


def test_a_log_is_simulated_once(tmp_path: Path) -> None:
    made = [sr.simulate(out=tmp_path / "log", searches=30, products=100, customers=10, days=3) for _ in range(2)]
    assert [log.changed for log in made] == [True, False]
    assert made[0].path == tmp_path / "log"
    assert made[0].info["rows"]["impressions"] > 0
    assert not [each for each in sr.validate(made[0]) if each.severity == "error"]


def test_every_step_takes_paths_and_results_and_is_done_once(steps: Steps) -> None:
    folder = steps.folder
    assert steps.data.changed
    assert all(step.changed for step in (*steps.runs.values(), *steps.evaluations.values(), steps.comparison))
    assert steps.bundle.changed
    log = sr.SearchLog.open(steps.log)
    run, evaluation = steps.runs["lambdamart"], steps.evaluations["lambdamart"]
    again: list[Any] = [
        sr.prepare(log, out=folder / "prepared", engine={"threads": 1}),
        sr.train(str(folder / "prepared"), ranker="lambdamart", out=str(folder / "lambdamart"), seed=0, **TREES),
        sr.evaluate(folder / "lambdamart", out=evaluation, **FAST),
        sr.compare([str(each.path) for each in steps.evaluations.values()], out=folder / "comparison"),
        sr.compare(list(steps.evaluations.values()), out=folder / "comparison", baseline="shown_order"),
        sr.export(str(run.path), out=folder / "bundle", int8=False, replayed=0, compared=0),
    ]
    assert [step.changed for step in again] == [False] * len(again)
    assert (again[2].path, again[2].info) == (evaluation.path, evaluation.info)


@pytest.mark.parametrize("kind", ["SearchLog", "PreparedData", "Run", "Evaluation", "Comparison"])
def test_a_result_opens_as_what_it_is_alone(kind: str, steps: Steps) -> None:
    folders = {
        "SearchLog": steps.log,
        "PreparedData": steps.data,
        "Run": steps.runs["lambdamart"],
        "Evaluation": steps.evaluations["lambdamart"],
        "Comparison": steps.comparison,
    }
    opened = getattr(sr, kind).open(folders[kind])
    assert (opened.path, opened.changed) == (Path(folders[kind]), False)
    for other in set(folders) - {kind}:
        with pytest.raises(sr.UserError, match="must be a"):
            getattr(sr, kind).open(folders[other])


def test_a_step_equals_the_command_line(steps: Steps) -> None:
    """The same inputs: the command of the same settings finds the step finished."""
    from typer.testing import CliRunner

    from shelfrank.cli import app

    trees = ["lambdamart.n_rounds=4", "lambdamart.min_rows_per_leaf=5", "train.threads=1", "seed=0"]
    commands = [
        ["prepare", str(steps.log), "--out", str(steps.data.path), "--set", "engine.threads=1"],
        [
            *("train", str(steps.data.path), "--ranker", "lambdamart", "--out", str(steps.runs["lambdamart"].path)),
            *(part for setting in trees for part in ("--set", setting)),
        ],
    ]
    for command in commands:
        done = CliRunner().invoke(app, [*command, "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["changed"] is False


def test_settings_come_over_a_preset_and_a_file(tmp_path: Path, small_prepared: Path) -> None:
    (tmp_path / "config.yaml").write_text("lambdamart: {n_rounds: 9, min_rows_per_leaf: 7}\n")
    run = sr.train(
        small_prepared,
        ranker="lambdamart",
        out=tmp_path / "run",
        config=tmp_path / "config.yaml",
        lambdamart={"n_rounds": 3},
    )
    written = yaml.safe_load((run.path / "config.yaml").read_text())
    assert (written["lambdamart"]["n_rounds"], written["lambdamart"]["min_rows_per_leaf"]) == (3, 7)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda out: sr.simulate(out=out, serches=3), "config: serches: unknown key"),
        (lambda out: sr.simulate(out=out, searches=0), "config: searches: .*greater than 0"),
        (
            lambda out: sr.prepare("log", out=out, history={"window_days": [1]}),
            "config: history.window_days: unknown key",
        ),
        (lambda out: sr.train("data", ranker="mmoe", out=out, train={"epoch": 3}), "config: train.epoch: unknown key"),
        (lambda out: sr.train("data", ranker="mmoe", out=out, train={"epochs": "x"}), "config: train.epochs: "),
        (lambda out: sr.train("data", ranker="mmo", out=out), "unknown ranker 'mmo'.*did you mean"),
        (lambda out: sr.evaluate("run", out=out, k=[1]), "config: k: unknown key"),
        (lambda out: sr.evaluate("run", out=out, split="tset"), "unknown split 'tset'.*did you mean 'test'"),
        (lambda out: sr.compare("one", out=out), "must be given a list of evaluations"),
        (lambda out: sr.import_log("custm", "mapping.yaml", out=out), "unknown source 'custm'"),
        (lambda out: sr.export("run", out=out, require_better_than="older"), "unknown reference 'older'"),
        (lambda out: sr.export("run", out=out, margin=0.1), "needs require_better_than"),
        (lambda out: sr.export("run", out=out, replayed=-1), "replayed must be 0 or more"),
        (lambda out: sr.explain("run", search="s", top=0), "top must be 1 or more"),
    ],
)
def test_a_wrong_setting_is_named(step: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(sr.UserError, match=said):
        step(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_search_is_explained(steps: Steps) -> None:
    table = steps.evaluations["lambdamart"].per_search()
    found = sr.explain(steps.runs["lambdamart"], search=table["search_id"][0], top=3)
    assert found.query == table["query"][0]
    assert [product.rank for product in found.products] == [1, 2, 3]


# Figures


def test_the_table_holds_every_figure_of_the_report(steps: Steps) -> None:
    evaluation = steps.evaluations["lambdamart"]
    table = evaluation.table()
    figure = table[(table["metric"] == "ndcg") & (table["k"] == 5) & (table["task"] == "purchase")].iloc[0]
    expected = evaluation.report["ndcg"]["5"]["purchase"]
    assert figure[["value", "low", "high", "n"]].tolist() == [expected[name] for name in ("value", "low", "high", "n")]
    assert table.groupby("metric").size().to_dict() == {"auc": 3, "mrr": 9, "ndcg": 9, "pd": 1}
    assert (table["k"].dtype, table["n"].dtype, table["low"].dtype) == ("Int64", "Int64", "float64")


def test_the_means_over_searches_are_the_figures(steps: Steps) -> None:
    evaluation = steps.evaluations["lambdamart"]
    table, searches = evaluation.table(), evaluation.per_search()
    assert searches["search_id"].is_unique
    assert (searches["n_products"] > 0).all()
    pooled = table[table["metric"] != "auc"]
    assert len(pooled) == 19
    for row in pooled.itertuples():
        name = f"{row.metric}@{row.k}" + ("" if pd.isna(row.task) else f"_{row.task}")
        assert searches[name].mean() == pytest.approx(row.value)
        assert searches[name].count() == row.n


def test_a_comparison_holds_all_rankers_and_their_paired_differences(steps: Steps) -> None:
    table, searches = steps.comparison.table(), steps.comparison.per_search()
    assert searches.groupby("ranker").size().nunique() == 1
    figure = table[(table["metric"] == "mrr") & (table["k"] == 10) & (table["task"] == "click")].set_index("ranker")
    means = searches.groupby("ranker")["mrr@10_click"].mean()
    assert means.to_dict() == pytest.approx(figure["value"].to_dict())
    own = figure.loc["lambdamart"]
    assert own["difference"] == pytest.approx(means["lambdamart"] - means["shown_order"])
    assert own["difference_low"] <= own["difference"] <= own["difference_high"]
    assert np.isnan(figure.loc["shown_order", "difference"])


def test_a_notebook_shows_figures_as_a_table(steps: Steps) -> None:
    shown = steps.comparison._repr_html_()
    assert shown.startswith("<table>")
    assert all(text in shown for text in ("lambdamart", "add_to_cart", "MRR@10", "MRR@10 difference", "AUC"))
    assert "difference" not in steps.evaluations["lambdamart"]._repr_html_()


def test_an_evaluation_that_changed_after_the_comparison_is_refused(steps: Steps, tmp_path: Path) -> None:
    evaluations = [sr.evaluate(run, out=tmp_path / name, **FAST) for name, run in steps.runs.items()]
    comparison = sr.compare(evaluations, out=tmp_path / "comparison")
    sr.evaluate(steps.runs["lambdamart"], out=tmp_path / "lambdamart", **FAST, ks=[1])
    with pytest.raises(sr.UserError, match="lambdamart must be the evaluation that was compared"):
        comparison.per_search()


def test_a_table_without_pandas_says_what_to_install(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pandas(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    for table in (steps.comparison.table, steps.comparison.per_search, steps.evaluations["lambdamart"].table):
        with pytest.raises(sr.UserError, match="pip install pandas"):
            table()
    assert steps.comparison._repr_html_()


# Tables in memory


def frames() -> dict[str, pa.Table]:
    """A shop's tables whose columns are called otherwise than the roles."""
    tables = small_tables(40)
    impressions = pa.Table.from_pylist(tables["impressions"], schema=IMPRESSION_TYPES)
    products, customers, events = (pa.Table.from_pylist(tables[name]) for name in ("products", "customers", "events"))
    renamed = [ROLES.get(name, name) for name in impressions.column_names]
    return {
        "impressions": impressions.rename_columns(renamed),
        "products": products,
        "customers": customers,
        "events": events,
    }


COLUMNS = {"impressions": {name: role for role, name in ROLES.items()}}


def custom_log(folder: Path, suffix: str) -> sr.SearchLog:
    """The custom import of the same tables as files."""
    columns: dict[str, Any] = {
        "impressions": {
            **COLUMNS["impressions"],
            "add_to_cart": "add_to_cart",
            "purchase": "purchase",
            "device": FEATURES["device"],
        },
        "products": {
            "product_id": "product_id",
            "title": "title",
            "brand": FEATURES["brand"],
            "price": FEATURES["price"],
        },
        "customers": {"customer_id": "customer_id", "age_band": FEATURES["age_band"]},
        "events": {name: name for name in ("timestamp", "customer_id", "session_id", "product_id", "action")},
    }
    for name, rows in frames().items():
        if suffix == "parquet":
            pq.write_table(rows, folder / f"{name}.parquet")
        else:
            pyarrow.csv.write_csv(rows, folder / f"{name}.csv")
    files = {name: f"{name}.{suffix}" for name in columns}
    mapping = {"name": "log", "tables": files, "columns": columns}
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    return sr.import_log("custom", folder / "mapping.yaml", out=folder / "custom")


def contents(log: sr.SearchLog) -> dict[str, Any]:
    opened = FinishedLog.open(log.path)
    tables = {
        table: pa.concat_tables(pq.read_table(file) for file in opened.files(table)).to_pylist() for table in frames()
    }
    return {"schema": opened.schema, **tables}


class OnlyAStream:
    """A table that is known by the Arrow PyCapsule interface alone."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._rows.__arrow_c_stream__(requested_schema)


class OnlyToArrow:
    """A table that can only be turned into Arrow."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def to_arrow(self) -> pa.Table:
        return self._rows


def with_views(rows: pa.Table) -> OnlyAStream:
    """Texts as Polars exports them."""
    fields = [(each.name, pa.string_view() if pa.types.is_string(each.type) else each.type) for each in rows.schema]
    return OnlyAStream(rows.cast(pa.schema(fields)))


def with_an_index(rows: pa.Table) -> pd.DataFrame:
    """A pandas frame of which rows were left out, and whose texts are categories."""
    frame = rows.to_pandas()
    frame = pd.concat([frame.iloc[:1], frame]).iloc[1:]
    return frame.astype({name: "category" for name in ("brand", "device") if name in frame})


def as_polars(rows: pa.Table) -> Any:
    return pytest.importorskip("polars").from_arrow(rows)


@pytest.fixture(scope="module")
def custom_logs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return [contents(custom_log(tmp_path_factory.mktemp(suffix), suffix)) for suffix in ("parquet", "csv")]


@pytest.mark.parametrize(
    "library", [lambda rows: rows, pa.Table.to_pandas, as_polars, OnlyAStream, OnlyToArrow, with_views, with_an_index]
)
def test_tables_in_memory_give_the_log_of_the_same_files(
    library: Any, custom_logs: list[dict[str, Any]], tmp_path: Path
) -> None:
    given = {name: library(rows) for name, rows in frames().items()}
    log = sr.SearchLog.from_frames(**given, out=tmp_path / "log", columns=COLUMNS, features=FEATURES)
    assert log.changed
    assert [contents(log)] * 2 == custom_logs


def test_the_same_tables_are_imported_once(tmp_path: Path) -> None:
    made = [
        sr.SearchLog.from_frames(**frames(), out=tmp_path / "log", columns=COLUMNS, features=FEATURES) for _ in range(2)
    ]
    assert [log.changed for log in made] == [True, False]
    assert sr.prepare(made[1], out=tmp_path / "prepared", engine={"threads": 1}).changed


def test_impressions_alone_are_enough(tmp_path: Path) -> None:
    wide = frames()["impressions"].rename_columns(dict(zip(ROLES.values(), ROLES, strict=True))).to_pandas()
    log = sr.SearchLog.from_frames(
        impressions=wide,
        out=tmp_path / "log",
        features={"position": {"name": "engine_rank", "side": "context", "kind": "numerical"}},
    )
    assert log.info["rows"]["impressions"] == len(wide)
    assert [feature.name for feature in FinishedLog.open(log.path).schema.features] == ["engine_rank"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"impressions": [1, 2]}, "impressions must be a table of pandas.*list"),
        ({"impressions": pd.Series([1])}, "impressions must "),
        ({"columns": {"impression": {}}}, "unknown table in `columns` 'impression'"),
        ({"columns": {"impressions": {"page": "serch_id"}}}, "unknown role of impressions 'serch_id'"),
        ({"columns": {"impressions": {"pge": "search_id"}}}, "unknown column of impressions.parquet 'pge'"),
        ({"features": {"colour": {"side": "product", "kind": "categorical"}}}, "unknown column in `features` 'colour'"),
        ({"features": {"brand": {"side": "product"}}}, "columns.products.brand.*`side` and `kind`"),
        ({"features": {"brand": {"side": "prduct", "kind": "categorical"}}}, "columns.products.brand.*'prduct'"),
        ({"timestamp_units": "s"}, "from_frames: timestamp_units: unknown key"),
        ({"tables": {}}, "tables must not be among the settings"),
    ],
)
def test_what_is_wrong_with_tables_in_memory_is_said(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {**frames(), "columns": COLUMNS, "features": FEATURES, **changes}
    with pytest.raises(sr.UserError, match=said) as error:
        sr.SearchLog.from_frames(**given, out=tmp_path / "log")
    assert "shelfrank-frames-" not in str(error.value)
    assert not (tmp_path / "log").exists()


# Ranking


def test_a_bundle_ranks_golden_pages_in_their_order(steps: Steps) -> None:
    bundle = sr.Bundle.open(steps.bundle)
    golden = load_requests(BundleStore(bundle.path).open().path)
    assert golden
    for request in golden:
        asked = request.asked
        page = bundle.rank(
            query=asked.query,
            candidates=list(asked.product_ids),
            customer=asked.customer_id,
            session=asked.session_id,
            timestamp=asked.ts_us / 1e6,
            context=asked.context,
            customer_features=asked.customer,
        )
        scores = np.array(request.expected["fp32"])[:, 0]
        by_golden = [asked.product_ids[row] for row in np.argsort(-scores, kind="stable")]
        assert [product.id for product in page.results] == by_golden
        np.testing.assert_allclose([product.score for product in page.results], -np.sort(-scores), atol=1e-4)


def test_a_bundle_answers_as_the_service_does(steps: Steps, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from shelfrank.serve.app import create_app
    from shelfrank.serve.journal import Journal
    from shelfrank.serve.service import Service

    body: dict[str, Any] = {
        "query": "sofa",
        "candidates": ["p001", {"id": "p006", "score": 2.0, "features": {"price": 3.0}}, "p011", "unknown", "p004"],
        "context": {"device": "phone"},
        "weight": 0.7,
        "task_weights": {"click": 1, "purchase": 3},
        "top_n": 4,
        "explain": 1,
    }
    customer = {"customer_id": "c03", "session_id": "v1", "timestamp": "2025-06-30T12:00:00Z"}
    service = Service(BundleStore(steps.bundle.path), Journal(tmp_path), deadline_s=30.0)
    with TestClient(create_app(service)) as client:
        deadline = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        expected = client.post("/v1/rank", json={**body, **customer}).json()
    service.close()
    found = steps.bundle.rank(
        **body, customer="c03", session="v1", timestamp=pd.Timestamp("2025-06-30T12:00:00Z")
    ).model_dump()
    for page in (found, expected):
        page.pop("took_ms")
    assert found["unknown_ids"] == ["unknown"]
    assert {name: found[name] for name in expected if name != "results"} == {
        name: expected[name] for name in expected if name != "results"
    }
    for own, theirs in zip(found["results"], expected["results"], strict=True):
        assert {name: own[name] for name in theirs} == theirs


@pytest.mark.parametrize("candidates", ["p001", {"id": "p001"}, pd.DataFrame({"id": ["p001"]})])
def test_what_is_no_list_of_products_is_refused(steps: Steps, candidates: Any) -> None:
    with pytest.raises(sr.UserError, match="candidates must be a list"):
        steps.bundle.rank(query="sofa", candidates=candidates)


def test_ids_of_arrays_are_candidates(steps: Steps) -> None:
    ids = pd.Series(["p001", "p002"])
    assert {each.id for each in steps.bundle.rank(query="sofa", candidates=ids.to_numpy()).results} == set(ids)
    assert steps.bundle.rank(query="sofa", candidates=np.arange(3)).unknown_ids == ["0", "1", "2"]
    assert steps.bundle.rank(query="sofa", candidates=[]).results == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weight": 2.0}, "rank: weight: "),
        ({"candidates": [None]}, "rank: candidates"),
        ({"task_weights": {"clicks": 1.0}}, "rank: task_weights.clicks"),
        ({"task_weights": {"click": 0.0}}, "weights must be 0 or more with at least one above 0"),
        ({"timestamp": "yesterday"}, "rank: timestamp: a time must be a date and time"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(wrong: dict[str, Any], said: str, steps: Steps) -> None:
    with pytest.raises(sr.UserError, match=said):
        steps.bundle.rank(**{"query": "sofa", "candidates": ["p001"], **wrong})


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sr.UserError, match="must hold a complete bundle"):
        sr.Bundle.open(tmp_path)


def test_a_wrong_choice_is_named(steps: Steps) -> None:
    """In a process without the tests' type checker, as callers have it."""
    calls = {
        f"sr.Bundle.open({str(steps.bundle.path)!r}, precision='fp64')": "unknown precision 'fp64'",
        "sr.train('data', ranker='mmoe', out='out', preset='papr')": "unknown preset 'papr'",
        "sr.explain('run', search='s', baseline='zero')": "unknown baseline 'zero'",
        "sr.export('run', out='out', vectors='fp8')": "unknown vectors 'fp8'",
    }
    tried = "".join(f"try: {call}\nexcept sr.UserError as error: print(error)\n" for call in calls)
    said = in_a_new_process(f"import shelfrank as sr\n{tried}").split("\n")
    assert [line[: len(start)] for line, start in zip(said, calls.values(), strict=True)] == list(calls.values())


# Examples


def test_the_quickstart_runs(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
        "QUICKSTART_SEARCHES": "300",
        "QUICKSTART_OUT": str(tmp_path / "quickstart"),
    }
    script = ROOT / "examples" / "quickstart.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 p")


def test_the_notebook_is_the_script() -> None:
    spec = importlib.util.spec_from_file_location("make_notebook", ROOT / "examples" / "make_notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    script = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    written = (ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8")
    assert written == module.notebook(script), "run `python examples/make_notebook.py`"
    code = ["".join(cell["source"]) for cell in json.loads(written)["cells"] if cell["cell_type"] == "code"]
    kept = [line for line in script.split("\n") if line and not line.startswith("#")]
    assert [line for line in "\n".join(code).split("\n") if line] == kept
