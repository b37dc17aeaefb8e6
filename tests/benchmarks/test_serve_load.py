"""The load generator: its pages, its report, and one small load of a real bundle."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from shelfrank.bundle.store import BundleStore
from shelfrank.core.artifact import Draft
from shelfrank.features.store import STORE_FILE, STORE_VERSION

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "serve_load.py"


@pytest.fixture
def serve_load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("serve_load")


@pytest.fixture(scope="module")
def bundle(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from shelfrank.bundle.export import ExportSettings, export
    from shelfrank.rankers.run import train
    from tiny import tiny

    folder = tmp_path_factory.mktemp("load")
    train(small_prepared, "mmoe", tiny("mmoe"), folder / "run")
    export(folder / "run", folder / "bundle", ExportSettings(int8=False, golden_pages=3, replayed=20))
    return folder / "bundle"


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_small_load_is_measured(bundle: Path) -> None:
    options = ("--candidates", "3", "--candidates", "60", "--rate", "20", "--seconds", "0.4", "--soak", "10")
    done = run(bundle, *options, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(load["precision"], load["candidates"]) for load in report["loads"]] == [("fp32", 3), ("fp32", 60)]
    for load in report["loads"]:
        assert (load["requests"], load["errors"]) == (8, 0)
        assert 0 < load["p50_ms"] <= load["p95_ms"] <= load["p99_ms"] <= load["max_ms"]
    assert [n for n, _ in report["soak"]["fp32"]] == list(range(11))
    assert report["bundle"] == BundleStore(bundle).current()
    assert report["quality"]["fp32"]["searches"] == 20
    assert report["left_out"] == {}


def test_a_service_that_ends_gives_its_reason(bundle: Path, tmp_path: Path) -> None:
    def write(draft: Draft) -> None:
        ignored = shutil.ignore_patterns("manifest.json")
        shutil.copytree(BundleStore(bundle).open().path, draft.path, dirs_exist_ok=True, ignore=ignored)
        file = draft.path / "features" / STORE_FILE
        facts = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(facts | {"version": STORE_VERSION - 1}), encoding="utf-8")

    BundleStore(tmp_path / "aged").publish({}, write)
    done = run(tmp_path / "aged", "--seconds", "0.1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the service must start, but it ends: error: ")
    assert "must hold online features of version" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--candidates", "0"), "--candidates: must be a number of from 1 to 1000, not '0'"),
        (("--rate", "nan"), "--rate: must be a number of at least 0.1, not 'nan'"),
        (("--precision", "int4"), "--precision: invalid choice: 'int4'"),
        (("--precision", "int8"), "--precision must name one that the bundle has (fp32), not int8"),
    ],
    ids=lambda each: each[1] if isinstance(each, tuple) else "",
)
def test_a_wrong_option_is_named(bundle: Path, options: tuple[str, ...], said: str) -> None:
    done = run(bundle, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_every_query_is_new_and_pages_have_their_size(serve_load: ModuleType) -> None:
    samples = {"products": ["p1", "p2", "p3"], "queries": ["red sofa", "lamp"], "customers": ["c1"]}
    pages = serve_load.Pages(samples, seed=0)
    bodies = [json.loads(pages.body(5)) for _ in range(50)]
    queries = [body["query"] for body in bodies]
    assert len(set(queries)) == 50
    assert not set(queries) & set(samples["queries"])
    for body in bodies:
        ids = [candidate["id"] for candidate in body["candidates"]]
        assert sorted(ids) == ["p1", "p2", "p3", "unknown-0", "unknown-1"]
        assert [candidate["score"] for candidate in body["candidates"]] == [5, 4, 3, 2, 1]
    anonymous = serve_load.Pages({**samples, "customers": []}, seed=0)
    assert json.loads(anonymous.body(1))["customer_id"] is None


def test_a_report_has_the_loss_of_eight_bits(serve_load: ModuleType) -> None:
    quality = {
        precision: {"auc": {"click": auc}, "mrr@10": {"click": None}, "searches": 7}
        for precision, auc in (("fp32", 0.75), ("int8", 0.74))
    }
    load = serve_load.Load("int8", 200, 10, 1, 2, 3.0, 4.0, 5.0, 6.0, 7.0, 80.0)
    soak = {"int8": [(0, 80.0), (1000, 81.0)]}
    lines = serve_load.LoadReport(
        "000001-abc", "MMoE", 1, 20.0, [load], soak=soak, quality=quality, left_out={"fp32": "too slow"}
    ).lines()
    assert lines[2].split() == ["int8", "200", "4.0", "5.0", "6.0", "7.0", "3.0", "1", "2", "80"]
    assert lines[3].strip() == "int8 memory: 80 MB after 0, 81 MB after 1,000 requests"
    assert lines[4].strip() == "fp32 AUC click 0.7500 (7 test searches)"
    assert lines[5].strip() == "int8 AUC click 0.7400 (-0.0100) (7 test searches)"
    assert lines[6].strip() == "fp32 not measured: too slow"
