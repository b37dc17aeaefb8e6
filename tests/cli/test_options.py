"""What several commands share."""

import sys
from pathlib import Path

import pytest

from shelfrank.cli.options import called_as


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "my venv" / "bin" / "shelfrank"
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def test_a_command_on_the_path_goes_by_its_name(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(program), "demo"])
    monkeypatch.setenv("PATH", str(program.parent))
    assert called_as() == "shelfrank"


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_a_command_off_the_path_goes_by_the_path_it_was_called_with(
    path: str, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(sys, "argv", [str(program), "demo"])
    assert called_as() == f"'{program}'"
    monkeypatch.chdir(program.parents[1])
    monkeypatch.setattr(sys, "argv", ["bin/shelfrank", "demo"])
    assert called_as() == "bin/shelfrank"


def test_another_command_of_the_name_on_the_path_is_not_taken(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "shelfrank"
    other.write_bytes(program.read_bytes())
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program), "demo"])
    assert called_as() == f"'{program}'"


def test_a_module_is_called_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/shelfrank/__main__.py", "demo"])
    monkeypatch.setattr(sys, "executable", "/venv/bin/python")
    assert called_as() == "/venv/bin/python -m shelfrank"
