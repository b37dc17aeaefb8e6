"""A folder is complete or absent, whatever happens while it is written."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shelfrank.core.artifact import (
    MANIFEST,
    fingerprint,
    is_current,
    publish,
    read_manifest,
    refuse_foreign,
    verify_files,
    write_atomic,
)
from shelfrank.core.errors import UserError


def write(out: Path, text: str = "one", inputs: dict[str, Any] | None = None, kind: str = "search_log") -> Path:
    with publish(out, kind, inputs or {}) as draft:
        (draft.path / "a").mkdir()
        (draft.path / "a" / "deep.txt").write_text(text)
        (draft.path / "top.txt").write_text(text)
        draft.info["text"] = text
    return out


def read(out: Path) -> str:
    verify_files(out, read_manifest(out, "search_log"))
    texts = {(out / name).read_text() for name in ("top.txt", "a/deep.txt")}
    assert len(texts) == 1, "files of two versions are mixed"
    return texts.pop()


def test_a_finished_folder_says_what_it_is(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path / "out", inputs={"seed": 3}), "search_log")
    assert (manifest.kind, manifest.inputs, manifest.info) == ("search_log", {"seed": 3}, {"text": "one"})
    assert {name: entry["bytes"] for name, entry in manifest.files.items()} == {"a/deep.txt": 3, "top.txt": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_fingerprint_follows_content_and_inputs_not_facts(tmp_path: Path) -> None:
    def of(name: str, *arguments: Any, **settings: Any) -> str:
        return read_manifest(write(tmp_path / name, *arguments, **settings), "search_log").fingerprint

    first = of("a")
    with publish(tmp_path / "b", "search_log", {}) as draft:
        (draft.path / "a").mkdir()
        for name in ("a/deep.txt", "top.txt"):
            (draft.path / name).write_text("one")
        draft.info["cost"] = 7
    assert read_manifest(tmp_path / "b", "search_log").fingerprint == first
    assert len({first, of("c", "two"), of("d", inputs={"seed": 1})}) == 3
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})


def test_a_stand_in_enters_the_fingerprint_and_the_file_itself_is_verified(tmp_path: Path) -> None:
    first = read_manifest(write(tmp_path / "a"), "search_log").fingerprint
    with publish(tmp_path / "b", "search_log", {}) as draft:
        (draft.path / "a").mkdir()
        (draft.path / "a/deep.txt").write_text("one")
        (draft.path / "top.txt").write_text("another form")
        draft.stand_ins["top.txt"] = b"one"
    manifest = read_manifest(tmp_path / "b", "search_log")
    assert manifest.fingerprint == first
    verify_files(tmp_path / "b", manifest)
    (tmp_path / "b/top.txt").write_text("ANOTHER FORM")
    with pytest.raises(UserError, match="its bytes have changed"):
        verify_files(tmp_path / "b", manifest)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_error_leaves_the_older_folder_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    out = write(tmp_path / "out")

    def fail() -> None:
        with publish(out, "search_log", {}) as draft:
            (draft.path / "top.txt").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert read(out) == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_newer_folder_replaces_the_older_one_whole(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    with publish(out, "search_log", {}) as draft:
        (draft.path / "new.txt").write_text("two")
        assert read(out) == "one"
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, "new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_system_that_cannot_swap_falls_back_to_two_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfrank.core.artifact._exchange", lambda one, other: False)
    assert read(write(write(tmp_path / "out"), "two")) == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_crash_between_two_renames_is_mended_by_the_next_writer(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    out.rename(tmp_path / ".out.old-77")
    with pytest.raises(RuntimeError), publish(out, "search_log", {}):
        raise RuntimeError
    assert read(out) == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


WRITER = """
import sys
from pathlib import Path
from shelfrank.core.artifact import publish
version = 0
while True:
    version += 1
    with publish(Path(sys.argv[1]), "search_log", {}) as draft:
        (draft.path / "a").mkdir()
        for name in ("a/deep.txt", "top.txt"):
            (draft.path / name).write_text(f"version {version} " * 2000)
    if version == 1:
        print("ready", flush=True)
"""


def test_kill_at_any_moment_leaves_a_whole_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    left_behind = 0
    for moment in range(12):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(out)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(0.003 * moment)
            writer.kill()
        assert read(out).startswith("version ")
        left_behind += len(list(tmp_path.iterdir())) > 1
    assert left_behind, "no kill met a half-written folder"
    assert read(write(out, "after")) == "after"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("manifest", [None, '{"name": "my app", "version": 2}', "[]", "// no JSON", b"\xff\xfe"])
def test_a_folder_of_somebody_else_is_never_replaced(manifest: str | bytes | None, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.txt").write_text("years of work")
    if manifest is not None:
        (out / MANIFEST).write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
    with pytest.raises(UserError, match=r"thesis must be new or a folder that shelfrank wrote, but it holds something"):
        write(out)
    assert (out / "chapter.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


@pytest.mark.parametrize("name", ["notes.txt", "a/notes.txt", "mine/notes.txt", "link"])
def test_a_folder_with_a_file_that_its_manifest_does_not_list_is_not_replaced(name: str, tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    (out / name).parent.mkdir(exist_ok=True)
    if name == "link":
        (out / name).symlink_to(tmp_path)
    else:
        (out / name).write_text("mine")
    with pytest.raises(UserError, match=rf"only files that shelfrank wrote, .* but .*out/{name} is not among those"):
        write(out, "two")
    assert read(out) == "one"
    assert (out / name).exists()
    (out / name).unlink()
    assert read(write(out, "two")) == "two"


def test_a_file_that_comes_while_the_folder_is_replaced_is_kept(tmp_path: Path) -> None:
    out = write(tmp_path / "out")
    with publish(out, "search_log", {}) as draft:
        (draft.path / "new.txt").write_text("two")
        (out / "a" / "notes.txt").write_text("mine")
    assert sorted(file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()) == [
        "a/notes.txt",
        MANIFEST,
        "new.txt",
    ]
    assert (out / "a" / "notes.txt").read_text() == "mine"


def test_a_file_is_never_replaced_and_an_empty_folder_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="write to another folder"):
        refuse_foreign(tmp_path / "file", "run")
    (tmp_path / "empty").mkdir()
    assert read(write(tmp_path / "empty")) == "one"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "top.txt").unlink(), "top.txt must have 3 bytes .*, but it is missing; write .*out again"),
        (lambda out: (out / "top.txt").write_text("longer"), "but it has 6 bytes"),
        (lambda out: (out / MANIFEST).unlink(), "but it is not a finished folder of shelfrank; run the step"),
        (lambda out: (out / MANIFEST).write_text('{"kind": "sea'), "cannot be read; remove .*out and write it again"),
        (lambda out: (out / MANIFEST).write_text("[1]"), "must be a manifest of shelfrank, but it cannot be read"),
        (lambda out: (out / MANIFEST).write_text('{"kind": "search_log"}'), "must be a manifest of shelfrank"),
    ],
    ids=["missing", "size", "no_manifest", "cut_manifest", "list", "keys"],
)
def test_damage_is_told(damage: Any, message: str, tmp_path: Path) -> None:
    damage(write(tmp_path / "out"))
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "out", "search_log")
    assert not is_current(tmp_path / "out", "search_log", {})


def test_a_damaged_bundle_is_to_be_exported_again(tmp_path: Path) -> None:
    out = write(tmp_path / "000001", kind="bundle")
    manifest = read_manifest(out, "bundle")
    (out / "top.txt").write_text("two")
    with pytest.raises(UserError, match=r"its bytes have changed; export the run again$"):
        verify_files(out, manifest)
    (out / "top.txt").unlink()
    with pytest.raises(UserError, match=r"but it is missing; export the run again$"):
        read_manifest(out, "bundle")
    (out / MANIFEST).write_text("{")
    with pytest.raises(UserError, match=r"remove .*000001 and export the run again$"):
        read_manifest(out, "bundle")


def test_changed_bytes_of_the_same_size_are_found_by_their_hash(tmp_path: Path) -> None:
    (write(tmp_path / "out") / "top.txt").write_text("two")
    manifest = read_manifest(tmp_path / "out", "search_log")
    with pytest.raises(UserError, match=r"top.txt must have the sha256 its manifest says, but its bytes have changed"):
        verify_files(tmp_path / "out", manifest)


def test_another_kind_is_named_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out must be prepared data, but it is a search log$"):
        read_manifest(write(tmp_path / "out"), "prepared_data")
    with pytest.raises(UserError, match=r"nowhere must be a finished search log, but it does not exist; run the step"):
        read_manifest(tmp_path / "nowhere", "search_log")


def test_only_one_writer_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with publish(out, "search_log", {}) as draft:
        with pytest.raises(UserError, match=r"only one process may write .*out, but another is writing it; wait"):
            write(out, "two")
        (draft.path / "a").mkdir()
        for name in ("a/deep.txt", "top.txt"):
            (draft.path / name).write_text("first")
    assert read(out) == "first"
    assert read(write(out, "later")) == "later"


def test_a_lock_file_that_the_last_writer_removed_holds_nobody_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that opened the lock file just before it was removed must not believe that it holds the lock."""

    def removed_meanwhile(file: Any, how: int) -> None:
        (tmp_path / ".out.lock").unlink()

    monkeypatch.setattr("fcntl.flock", removed_meanwhile)
    with pytest.raises(UserError, match="only one process may write"):
        write(tmp_path / "out")


@pytest.mark.parametrize(
    ("inputs", "current"),
    [
        ({"ks": (1, 5), "seed": 0}, True),
        ({"seed": 0, "ks": [1, 5]}, True),
        ({"ks": [1, 5], "seed": 0.0}, True),
        ({"ks": [5, 1], "seed": 0}, False),
        ({"ks": (1, 5), "seed": 1}, False),
        ({"ks": (1, 5)}, False),
    ],
    ids=str,
)
def test_the_same_inputs_are_recognised(inputs: dict[str, Any], current: bool, tmp_path: Path) -> None:
    write(tmp_path / "out", inputs={"ks": (1, 5), "seed": 0})
    assert is_current(tmp_path / "out", "search_log", inputs) is current
    assert not is_current(tmp_path / "out", "run", inputs)


def test_keys_that_are_numbers_are_recognised(tmp_path: Path) -> None:
    write(tmp_path / "out", inputs={"grades": {1: 2.5, 2: None}})
    assert is_current(tmp_path / "out", "search_log", {"grades": {1: 2.5, 2: None}})


def test_an_atomic_write_that_fails_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.json"
    write_atomic(file, b"one")

    def full(descriptor: int) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            write_atomic(file, b"two")
    assert file.read_bytes() == b"one"
    write_atomic(file, json.dumps([2]).encode())
    assert file.read_bytes() == b"[2]"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_finished_folder_of_another_kind_is_never_replaced(tmp_path: Path) -> None:
    with publish(tmp_path / "a", "search_log", {"n": 1}) as draft:
        (draft.path / "rows").write_text("1")
    with (
        pytest.raises(UserError, match="must be new or an older run, but it is a search log; write to another folder"),
        publish(tmp_path / "a", "run", {}),
    ):
        pass
    assert (tmp_path / "a" / "rows").read_text() == "1"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("evaluation", "must be an evaluation, but it is a search log"),
        ("run", "must be a run, but it is a search log"),
        ("prepared_data", "must be prepared data, but it is a search log"),
        ("semantic_scores", "must be semantic scores, but it is a search log"),
    ],
)
def test_kinds_have_their_articles(kind: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{said}$"):
        read_manifest(write(tmp_path / "out"), kind)


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(UserError, match=r"x must be in a folder, but .*file is a file; write to another folder"),
        publish(tmp_path / "file" / "sub" / "x", "run", {}),
    ):
        pass


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "out")
    for text in ("one", "two"):
        assert read(write(link, text)) == text
        assert link.is_symlink()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["out"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    (tmp_path / "page").write_text("old")
    (tmp_path / "page_link").symlink_to(tmp_path / "page")
    write_atomic(tmp_path / "page_link", b"new")
    assert (tmp_path / "page").read_text() == "new"
    assert (tmp_path / "page_link").is_symlink()


def test_what_is_outside_of_the_working_folder_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = tmp_path / "here", tmp_path / "other.txt"
    write(here)
    other.write_text("mine")
    manifest = json.loads((here / MANIFEST).read_text())
    manifest["files"]["../other.txt"] = {"bytes": 4, "sha256": ""}
    (here / MANIFEST).write_text(json.dumps(manifest))
    monkeypatch.chdir(here)
    write(Path())
    assert other.read_text() == "mine"


@pytest.mark.parametrize("name", [".", "", "../here", "absolute"])
def test_the_working_folder_is_filled_and_stays_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    out = here if name == "absolute" else Path(name)
    before = here.stat().st_ino
    write(out)
    with publish(out, "search_log", {"n": 2}) as draft:
        (draft.path / "new.txt").write_text("two")
        (here / "notes.txt").write_text("mine")
    assert here.stat().st_ino == before
    assert sorted(path.name for path in Path().iterdir()) == [MANIFEST, "new.txt", "notes.txt"]
    assert read_manifest(here, "search_log").inputs == {"n": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize(
    "change",
    [
        {"files": [1]},
        {"files": {"top.txt": 3}},
        {"files": {"top.txt": {"bytes": "3", "sha256": ""}}},
        {"files": {"../other": {"bytes": 3, "sha256": ""}}},
        {"files": {"/etc/passwd": {"bytes": 3, "sha256": ""}}},
        {"files": {"a\0b": {"bytes": 3, "sha256": ""}}},
        {"kind": ["search_log"]},
        {"info": None},
        {"inputs": 7},
        {"fingerprint": 7},
    ],
    ids=str,
)
def test_an_odd_manifest_is_one_sentence(change: dict[str, Any], tmp_path: Path) -> None:
    file = write(tmp_path / "out") / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match="must be a manifest of shelfrank, but it cannot be read"):
        read_manifest(tmp_path / "out", "search_log")
    assert not is_current(tmp_path / "out", "search_log", {})


def test_a_file_name_that_no_system_has_is_missing(tmp_path: Path) -> None:
    file = write(tmp_path / "out") / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"files": {"n" * 5000: {"bytes": 3, "sha256": ""}}}))
    with pytest.raises(UserError, match="but it is missing"):
        read_manifest(tmp_path / "out", "search_log")
