import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = re.findall(
    r"^\| (.+?) \| `(shelfrank\.[\w.]+)` \| `(tests/[\w/]+\.py)` \|$",
    (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


def test_the_map_has_rows() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize(("symbol", "test"), [(symbol, test) for _, symbol, test in ROWS])
def test_a_row_points_at_a_symbol_and_a_test(symbol: str, test: str) -> None:
    parts = symbol.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        break
    else:
        pytest.fail(f"{symbol} does not import")
    assert found is not None
    # A test may reach the symbol through the module's public face, so its file is named beside it.
    text = (ROOT / test).read_text(encoding="utf-8")
    assert {parts[-1], parts[-2]} & set(re.findall(r"\w+", text)), f"{test} does not name {symbol}"
