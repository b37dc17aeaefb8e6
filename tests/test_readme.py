import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from shelfrank.cli import app
from shelfrank.logs.mapping import SourceMapping
from shelfrank.rankers import RANKERS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"(?:`|^ *)shelfrank ([a-z]+)", README, flags=re.MULTILINE))
    known = set(getattr(get_command(app), "commands", {}))
    assert {"import", "prepare", "train", "evaluate", "compare", "demo"} <= named
    assert named <= known, f"unknown: {sorted(named - known)}"


def test_every_ranker_of_the_readme_exists() -> None:
    named = set(re.findall(r"--ranker (\w+)", README)) | set(
        " ".join(re.findall(r"^for ranker in (.*);", README, flags=re.MULTILINE)).split()
    )
    assert len(named) > 3
    assert named <= set(RANKERS)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert "searches=3000" in code
    code = code.replace("searches=3000", "searches=150, products=300, customers=60")
    code += "print(*sorted(set(figures['ranker'])), *sorted(result.id for result in page))"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
        "OMP_NUM_THREADS": "1",  # spinning threads of two libraries slow each other down
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["lambdamart", "mmoe", "shown_order", "p0000001", "p0000002"]


def test_the_mapping_of_the_readme_is_valid() -> None:
    blocks = [textwrap.dedent(block) for block in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)]
    assert blocks
    for block in blocks:
        assert SourceMapping.model_validate(yaml.safe_load(block)).name == "myshop"


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_target_of_make_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make (\w+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
