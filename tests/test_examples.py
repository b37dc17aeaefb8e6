"""The examples run, and the notebook is made from the script."""

import importlib.util
import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_quickstart_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUICKSTART_SEARCHES", "300")
    monkeypatch.setenv("QUICKSTART_OUT", str(tmp_path / "quickstart"))
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("1 p")


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
