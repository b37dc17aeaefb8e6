import re
from pathlib import Path

import yaml
from typer.main import get_command

from shelfrank.cli import app
from shelfrank.logs.mapping import SourceMapping
from shelfrank.rankers import RANKERS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"`shelfrank ([a-z]+)", README))
    known = set(getattr(get_command(app), "commands", {}))
    assert {"simulate", "import", "prepare", "train", "evaluate", "compare"} <= named
    assert named <= known, f"unknown: {sorted(named - known)}"


def test_every_ranker_of_the_readme_exists() -> None:
    assert set(re.findall(r"--ranker (\w+)", README)) <= set(RANKERS)


def test_the_mapping_of_the_readme_is_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
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
