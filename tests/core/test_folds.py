"""Folders of folds: gathered without a copy, fingerprinted by content, and what an interrupted step leaves."""

from pathlib import Path

import pytest

from shelfrank.core.artifact import publish, read_manifest
from shelfrank.core.errors import UserError
from shelfrank.core.folds import clear_other_folds, fold_name, folds_in_progress, gather_folds, refuse_folds


def write_fold(folder: Path, content: str, cost: float) -> None:
    with publish(folder, "run", {"content": content}) as draft:
        (draft.path / "model").write_text(content)
        draft.info["cost"] = cost


def write_folds(out: Path, contents: list[str], cost: float) -> str:
    names = [fold_name(number) for number in range(1, len(contents) + 1)]
    folder = folds_in_progress(out, {"seed": 0})
    with publish(out, "run", {"seed": 0}) as draft:
        for name, content in zip(names, contents, strict=True):
            write_fold(folder / name, content, cost)
        gather_folds(folder, names, "run", draft)
        draft.info["folds"] = names
    return read_manifest(out, "run").fingerprint


def test_the_fingerprint_is_of_what_the_folds_hold_and_not_of_what_they_took(tmp_path: Path) -> None:
    first = write_folds(tmp_path / "first", ["a", "b"], cost=1.5)
    assert write_folds(tmp_path / "second", ["a", "b"], cost=2.5) == first
    assert write_folds(tmp_path / "third", ["a", "c"], cost=1.5) != first
    assert read_manifest(tmp_path / "first" / "fold-2", "run").info == {"cost": 1.5}


def test_gathered_folds_outlive_the_folder_that_they_come_from(tmp_path: Path) -> None:
    write_folds(tmp_path / "out", ["a", "b"], cost=1.0)
    source = folds_in_progress(tmp_path / "out", {"seed": 0}) / "fold-1" / "model"
    assert source.samefile(tmp_path / "out" / "fold-1" / "model")
    source.unlink()
    assert (tmp_path / "out" / "fold-1" / "model").read_text() == "a"


def test_what_a_step_of_other_inputs_left_is_removed(tmp_path: Path) -> None:
    ours, other = (folds_in_progress(tmp_path / "out", {"seed": seed}) for seed in (0, 1))
    for folder in (ours, other):
        write_fold(folder / "fold-1", "a", cost=1.0)
    clear_other_folds(ours)
    assert read_manifest(ours / "fold-1", "run").info == {"cost": 1.0}
    assert not other.exists()


def test_a_folder_of_folds_is_refused_where_one_is_needed(tmp_path: Path) -> None:
    write_folds(tmp_path / "out", ["a", "b", "c"], cost=1.0)
    with pytest.raises(UserError, match=r"out holds 3; name one of them: .*out/fold-3, .* or .*out/fold-1 to choose"):
        refuse_folds(tmp_path / "out", read_manifest(tmp_path / "out", "run"))
    refuse_folds(tmp_path / "out" / "fold-1", read_manifest(tmp_path / "out" / "fold-1", "run"))
