"""The examples run, and the notebook is made from the script."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


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
