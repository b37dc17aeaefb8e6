"""The official files are read as they are, and anything else is refused in one sentence."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from census_files import ADULT, line, random_people, write_part

from shelfrank.core.errors import UserError
from shelfrank.paper.census.columns import COLUMNS, FEATURES, IS_HEAVY_TAILED
from shelfrank.paper.census.read import census_file, read_people


def test_the_columns_are_40_features_the_weight_and_the_income() -> None:
    assert len(COLUMNS) == 42
    assert len(FEATURES) == 40
    assert COLUMNS.index("instance_weight") == 24
    assert COLUMNS[-1] == "income"
    assert len(IS_HEAVY_TAILED) == 7


@pytest.mark.parametrize("zipped", [True, False])
def test_values_are_stripped_and_otherwise_kept(zipped: bool, tmp_path: Path) -> None:
    write_part(tmp_path, "data", [{}, {"hispanic_origin": "Mexican (Mexicano)"}], zipped)
    people = read_people(census_file(tmp_path, "data"))
    assert people.to_pylist() == [ADULT, {**ADULT, "hispanic_origin": "Mexican (Mexicano)"}]
    assert {"?", "Not in universe"} <= set(people.to_pylist()[0].values())


def test_a_folder_without_the_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"must hold census-income\.test or census-income\.test\.gz, but it holds neith"
    ):
        census_file(tmp_path, "test")


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "must hold rows, but the file is empty"),
    "a column short": (lambda: f"{line()}\n{line().removeprefix('58, ')}\n".encode(), "42 columns.*got 41"),
    "a column too many": (lambda: f"{line()}, x\n".encode(), "42 columns.*got 43"),
    "another label": (
        lambda: f"{line()}\n{line(income='>50K')}\n".encode(),
        "as income, column 42, but row 2 has '>50K'",
    ),
    "another marital status": (
        lambda: line(marital_status="Single").encode(),
        "one of 'Divorced', .* as marital_status, column 8, but row 1 has 'Single'",
    ),
    "another level of education": (lambda: line(education="College").encode(), "column 5, but row 1 has 'College'"),
    "a word for a number": (
        lambda: line(capital_gains="nan").encode(),
        "must have a number as capital_gains, column 17, but row 1 has 'nan'",
    ),
    "no number": (lambda: line(age="").encode(), "a number as age, column 1, but row 1 has ''"),
    "no text": (lambda: b"\xff" + line().encode(), "must be a CSV file in UTF-8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    content, sentence = REFUSED[name]
    (tmp_path / "census-income.data").write_bytes(content())
    with pytest.raises(UserError, match=sentence) as refused:
        read_people(census_file(tmp_path, "data"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-40], id="truncated"),
        pytest.param(lambda content: content[:200] + b"\0" * 40 + content[240:], id="overwritten"),
        pytest.param(gzip.decompress, id="not zipped"),
    ],
)
def test_a_damaged_archive_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = write_part(tmp_path, "data", random_people(200))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match="it cannot be read"):
        read_people(file)
