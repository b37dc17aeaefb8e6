"""The command line stands on the API."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = ("shelfrank", "shelfrank.api", "shelfrank.cli", "shelfrank.config", "shelfrank.core", "shelfrank.settings")
FILES = sorted((ROOT / "src" / "shelfrank" / "cli").glob("*.py"))


def imported(file: Path) -> set[str]:
    """The modules that a file imports, also within functions."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_command_imports_the_api_alone(file: Path) -> None:
    ours = {name for name in imported(file) if name.split(".")[0] == "shelfrank"}
    rooms = {".".join(name.split(".")[:2]) for name in ours}
    assert rooms <= {*ALLOWED}
