"""The map of the paper: every row names the code whose own words name the same place of the paper, and a test of it."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = re.findall(
    r"^\| (.+?) \| `(shelfrank\.[\w.]+)` \| `(tests/[\w/]+\.py)` \|$",
    (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)
PLACE = re.compile(r"Sec\. [\d.]*\d|Eqs?\. \(\d+\)(?:-\(\d+\))?|Tables? \d(?:-\d)?|Fig\. \d")


def places(text: str) -> set[str]:
    """The sections, equations, tables and figures that a text names, ranges written out."""
    found = set()
    for place in PLACE.findall(text):
        kind, _, number = place.replace("Tables", "Table").replace("Eqs.", "Eq.").partition(" ")
        first, _, last = number.replace("(", "").replace(")", "").partition("-")
        numbers = range(int(first), int(last) + 1) if last else [first]
        found |= {f"{kind} {each}" for each in numbers}
    return found


def load(symbol: str) -> tuple[Any, Any]:
    """The module of a symbol, and what it names."""
    parts = symbol.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            module = found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return module, found
    pytest.fail(f"{symbol} does not import")


def own_words(symbol: str) -> str:
    """The docstring of a class or function; of a constant, the string under it."""
    module, found = load(symbol)
    if inspect.isclass(found) or callable(found):
        return inspect.getdoc(found) or ""
    source = inspect.getsource(module)
    name = symbol.rpartition(".")[2]
    under = re.search(rf'^{name}\b[^\n]*=(?:.|\n)*?^"""((?:.|\n)*?)"""', source, flags=re.MULTILINE)
    return under[1] if under else ""


@pytest.mark.parametrize(("what", "symbol"), [(what, symbol) for what, symbol, _ in ROWS])
def test_the_code_names_the_place_that_the_map_gives_it(what: str, symbol: str) -> None:
    missing = places(what) - places(own_words(symbol))
    assert not missing, f"the docstring of {symbol} does not name {', '.join(sorted(missing))}"


@pytest.mark.parametrize(("symbol", "test"), [(symbol, test) for _, symbol, test in ROWS])
def test_the_test_of_a_row_runs_the_symbol(symbol: str, test: str) -> None:
    module, _ = load(symbol)
    name = symbol.rpartition(".")[2]
    text = (ROOT / test).read_text(encoding="utf-8")
    # A test may reach the symbol through what its module offers.
    reached = {name, module.__name__.rpartition(".")[2]}
    assert reached & set(re.findall(r"\w+", text)), f"{test} does not name {symbol}"
    assert re.search(r"^(?:    )?(?:async )?def test_", text, flags=re.MULTILINE)


def test_the_map_covers_every_equation_and_table() -> None:
    covered = set().union(*(places(what) for what, _, _ in ROWS))
    assert {f"Eq. {number}" for number in range(1, 17)} <= covered
    assert {f"Table {number}" for number in range(1, 6)} <= covered
    assert {f"Sec. {section}" for section in ("3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "4.1", "4.2", "4.3")} <= covered
