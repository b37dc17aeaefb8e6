"""The page of commands: it is up to date, and each example on it is a command line that parses."""

import json
import re
import shlex
from pathlib import Path

import pytest

from shelfrank.cli.reference import EXAMPLES, PAGE_COMMAND, commands, commands_page
from shelfrank.core import progress

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINES = [example.line for examples in EXAMPLES.values() for example in examples]


def test_the_page_is_up_to_date() -> None:
    assert commands_page() == (DOCS / "commands.md").read_text(encoding="utf-8"), f"run: {PAGE_COMMAND}"


def test_every_command_has_an_example() -> None:
    assert {name for name, _ in commands()} == {called(line)[0] for line in LINES}


@pytest.mark.parametrize("line", LINES)
def test_an_example_parses(line: str) -> None:
    name, command, arguments = called(line)
    context = command.make_context(name, arguments)
    assert not context.args


def test_every_guide_exists() -> None:
    guides = {example.guide for examples in EXAMPLES.values() for example in examples} - {None}
    assert guides <= {path.name for path in DOCS.glob("*.md")}


def test_options_carry_their_choices_and_defaults() -> None:
    page = commands_page()
    assert "| `--preset` `default\\|paper` | `default` |" in page
    assert "| `--int8` / `--no-int8` | on |" in page


def test_the_page_shows_progress_as_it_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = re.findall(r"```json\n(.*)\n```", commands_page())
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with progress.progress("Training 1/10", total=900, unit="rows") as advance:
        advance(410)
    (written, done) = map(json.loads, capsys.readouterr().err.splitlines())
    assert json.loads(shown) | {"per_s": 0, "seconds": 0} == written | {"per_s": 0, "seconds": 0}
    assert done["event"] == "done"


def called(line: str) -> tuple[str, object, list[str]]:
    """The command that a line calls, with the arguments after it."""
    words = shlex.split(line)
    words = words[words.index("shelfrank") + 1 :]
    known = dict(commands())
    for length in (2, 1):
        if (name := " ".join(words[:length])) in known:
            return name, known[name], words[length:]
    raise AssertionError(f"{line} calls no known command")
