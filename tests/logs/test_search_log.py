"""A log opens only if its ids follow the current version of the spelling."""

from pathlib import Path
from typing import Any

import pytest

from shelfrank.core.artifact import publish
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Schema, Spelling
from shelfrank.logs.search_log import KIND, SCHEMA_FILE, SearchLog


@pytest.mark.parametrize(("inputs", "version"), [({"spelling": 2}, "version 2"), ({}, "none")])
def test_a_log_whose_ids_were_spelled_by_older_rules_is_imported_again(
    tmp_path: Path, inputs: dict[str, Any], version: str
) -> None:
    _write_schema(tmp_path / "log", inputs, Spelling(null_words_of={"customer_id": ("guest",)}))
    with pytest.raises(UserError, match=rf"log must be a search log .*, but it is of {version}; import it again$"):
        SearchLog.open(tmp_path / "log")


def test_a_log_that_declares_no_spelling_keeps_its_meaning(tmp_path: Path) -> None:
    _write_schema(tmp_path / "log", {}, None)
    assert SearchLog.open(tmp_path / "log").schema.spelling is None


def _write_schema(folder: Path, inputs: dict[str, Any], spelling: Spelling | None) -> None:
    with publish(folder, KIND, inputs) as draft:
        Schema(name="shop", spelling=spelling).save(draft.path / SCHEMA_FILE)
