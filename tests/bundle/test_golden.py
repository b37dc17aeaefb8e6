"""A bundle is checked in the precision that serves, and gives way to float32 where 8-bit graphs are off."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from damaged_graph import damage_scales
from shelfrank.bundle.export import ExportSettings, export
from shelfrank.bundle.golden import RUN_TOLERANCE, check_golden, load_requests, open_checked
from shelfrank.bundle.loaded import Bundle
from shelfrank.bundle.store import BundleStore
from shelfrank.core.errors import UserError
from shelfrank.rankers.run import train
from tiny import tiny

RANKER = "mmoe_dcn_v2_text_cross"


@pytest.fixture(scope="module")
def exported(small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version with 8-bit graphs, only to be read."""
    folder = tmp_path_factory.mktemp("golden")
    train(small_prepared, RANKER, tiny(RANKER), folder / "run")
    export(folder / "run", folder / "bundle", ExportSettings(golden_pages=3, replayed=0))
    return BundleStore(folder / "bundle").open().path


@pytest.fixture
def version(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "version"))


def damage_ranker(version: Path) -> None:
    damage_scales(version / "onnx" / "ranker.int8.onnx")


def damage_encoder(version: Path) -> None:
    damage_scales(version / "onnx" / "query.int8.onnx", factor=0.0)


def cut_off(version: Path) -> None:
    file = version / "onnx" / "ranker.int8.onnx"
    file.write_bytes(file.read_bytes()[:1000])


def make_infinite(version: Path) -> None:
    damage_scales(version / "onnx" / "ranker.int8.onnx", factor=float("nan"))


def remove_encoder(version: Path) -> None:
    (version / "onnx" / "query.int8.onnx").unlink()


def test_good_graphs_serve_in_the_precision_that_is_asked_for(exported: Path) -> None:
    for precision in ("fp32", "int8"):
        bundle, fallback = open_checked(exported, precision)
        assert (bundle.precision, fallback) == (precision, None)


@pytest.mark.parametrize("damage", [damage_ranker, damage_encoder, cut_off, make_infinite, remove_encoder])
def test_float32_serves_in_place_of_wrong_eight_bits(damage: Callable[[Path], None], version: Path) -> None:
    exact = Bundle.open(version)
    damage(version)
    bundle, fallback = open_checked(version, "int8")
    assert bundle.precision == "fp32"
    assert fallback
    asked = load_requests(version)[0].page
    np.testing.assert_array_equal(bundle.score(asked).scores, exact.score(asked).scores)
    assert open_checked(version, "fp32")[1] is None


def test_graphs_that_were_wrong_at_export_are_measured_against_the_run(version: Path) -> None:
    damage_ranker(version)
    wrong = Bundle.open(version, "int8")
    file = version / "golden" / "requests.json"
    plain = json.loads(file.read_text(encoding="utf-8"))
    for each, request in zip(plain, load_requests(version), strict=True):
        each["expected"]["int8"] = np.asarray(wrong.score(request.page).scores).tolist()
    file.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(UserError, match=rf"to {RUN_TOLERANCE['int8']:g} in int8, but rows of its run are off by"):
        check_golden(wrong, version)
    bundle, fallback = open_checked(version, "int8")
    assert bundle.precision == "fp32"
    assert "rows of its run" in str(fallback)


def test_wrong_float32_is_refused_whatever_is_asked_for(version: Path) -> None:
    damage_ranker(version)
    file = version / "golden" / "requests.json"
    plain = json.loads(file.read_text(encoding="utf-8"))
    plain[0]["expected"]["fp32"][0][0] += 0.01
    file.write_text(json.dumps(plain), encoding="utf-8")
    for precision in ("fp32", "int8"):
        with pytest.raises(UserError, match="in fp32, but request 0"):
            open_checked(version, precision)


def test_eight_bits_that_were_never_exported_are_an_error(version: Path) -> None:
    file = version / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"precisions": ["fp32"]}))
    with pytest.raises(UserError, match="must have graphs in int8, but it has fp32"):
        open_checked(version, "int8")


def test_export_says_that_eight_bits_are_off(
    small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shelfrank.bundle.export as module

    def quantize(graph: Path, out: Path) -> None:
        right(graph, out)
        damage_scales(out)

    right = module.quantize
    monkeypatch.setattr(module, "quantize", quantize)
    train(small_prepared, "mmoe", tiny("mmoe"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", ExportSettings(golden_pages=3, replayed=0))
    version = BundleStore(tmp_path / "bundle").open()
    assert set(version.manifest.info["missed"]) == {"int8"}
    assert open_checked(version.path, "int8")[0].precision == "fp32"
