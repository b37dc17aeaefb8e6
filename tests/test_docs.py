"""The picture of the architecture shows the folders that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {path.parent.name for path in (ROOT / "src" / "shelfrank").glob("*/__init__.py")}


@pytest.mark.parametrize(
    ("page", "named"), [("images/architecture.svg", r">(\w+)/</text>"), ("architecture.md", r"^\| `(\w+)/`")]
)
def test_every_folder_is_shown(page: str, named: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    shown = re.findall(named, text, flags=re.MULTILINE)
    assert len(shown) == len(set(shown))
    assert set(shown) >= FOLDERS, f"not on {page}: {sorted(FOLDERS - set(shown))}"
