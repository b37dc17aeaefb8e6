"""Every source refuses what is not there in the same way, and an unknown one names the known."""

from pathlib import Path

import pytest

from shelfrank.core.errors import UserError
from shelfrank.logs.sources import SOURCES, import_source


@pytest.mark.parametrize("name", SOURCES)
def test_a_missing_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file") as refused:
        import_source(name, tmp_path / "nowhere", tmp_path / "log")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_of_another_format_is_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "something"
    path.write_bytes(b"\x80\x81 no such format")
    with pytest.raises(UserError, match=r"must (be|have)") as refused:
        import_source(name, path, tmp_path / "log")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "log").exists()


def test_an_unknown_source_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown source 'trivag': choose one of .*did you mean 'trivago'\?"):
        import_source("trivag", tmp_path, tmp_path / "log")
