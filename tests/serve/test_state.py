"""A state folder belongs to one service, which removes nothing that it did not write."""

from pathlib import Path

import pytest

from shelfrank.core.errors import UserError
from shelfrank.serve.worker import CLAIM, COUNTS, ServeSettings, _counts_folder, _state


def settings(state: Path | None) -> ServeSettings:
    return ServeSettings(store=Path("bundle"), state=state)


def test_a_second_service_on_a_state_folder_is_refused(tmp_path: Path) -> None:
    with _state(settings(tmp_path / "state")) as state:
        assert state == tmp_path / "state"
        refused = r"--state must be a folder that no other service uses, but a running service uses \S*/state; end that"
        with pytest.raises(UserError, match=refused), _state(settings(tmp_path / "state")):
            pass
        with _state(settings(tmp_path / "other")):
            pass
    with _state(settings(tmp_path / "state")):
        pass


def test_a_service_without_a_state_folder_leaves_none() -> None:
    with _state(settings(None)) as state:
        assert state.is_dir()
    assert not state.exists()


def test_counts_are_cleared_and_what_others_wrote_is_kept(tmp_path: Path) -> None:
    kept = ["metrics/mine.txt", "metrics/counter_7.db", "metrics-mine/counter_7.db", "metrics-file"]
    for name in kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    killed = tmp_path / f"{COUNTS}killed"
    killed.mkdir()
    for name in (CLAIM, "counter_7.db", "gauge_liveall_7.db"):
        (killed / name).touch()
    with _counts_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert not killed.exists()
        (folder / "counter_8.db").touch()
        (folder / "notes.txt").write_text("mine")
    kept.append(f"{folder.name}/notes.txt")
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()) == sorted(
        kept
    )
