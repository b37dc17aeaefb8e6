"""Versions side by side: published whole or not at all, rolled back by a name."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shelfrank.bundle.store import CURRENT, VERSIONS, BundleStore
from shelfrank.core.artifact import Draft
from shelfrank.core.errors import UserError

KILLS = 8
PUBLISHER = """
import sys
from pathlib import Path
from shelfrank.bundle.store import BundleStore

def write(draft):
    for part in range(40):
        (draft.path / f"part-{part}").write_bytes(bytes([part]) * 20_000)

store = BundleStore(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    print("publishing", flush=True)
    store.publish({"number": number}, write)
    print("published", number, flush=True)
    number += 1
"""


def writing(content: str) -> Callable[[Draft], None]:
    def write(draft: Draft) -> None:
        (draft.path / "weights").write_text(content, encoding="utf-8")

    return write


def damage(store: BundleStore, name: str) -> None:
    """Changes a byte but no size, as a bad disk does."""
    (store.path / VERSIONS / name / "weights").write_text("x", encoding="utf-8")


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """Three versions: a, b, c."""
    made = BundleStore(tmp_path / "bundle")
    for content in "abc":
        made.publish({"content": content}, writing(content))
    return made


def content(store: BundleStore) -> str:
    return (store.open().path / "weights").read_text(encoding="utf-8")


def test_the_last_one_published_serves(store: BundleStore) -> None:
    assert content(store) == "c"
    assert [version.name[:6] for version in store.versions()] == ["000001", "000002", "000003"]
    assert store.current() == store.versions()[-1].name


def test_what_is_there_already_is_pointed_at(store: BundleStore) -> None:
    name, changed = store.publish({"content": "a"}, writing("never"))
    assert (name, changed) == (store.versions()[0].name, False)
    assert content(store) == "a"


def test_rollback_goes_back_one_by_one_or_to_a_name(store: BundleStore) -> None:
    names = [version.name for version in store.versions()]
    assert store.rollback() == names[1]
    assert content(store) == "b"
    assert store.rollback() == names[0]
    with pytest.raises(UserError, match="must have a complete version before"):
        store.rollback()
    assert store.rollback(names[2]) == names[2]
    assert content(store) == "c"
    with pytest.raises(UserError, match="a rollback must be to a version"):
        store.rollback("000009-0123456789ab")


def test_rollback_passes_over_a_damaged_version(store: BundleStore) -> None:
    damage(store, store.versions()[1].name)
    assert store.rollback() == store.versions()[0].name


@pytest.mark.parametrize("pointer", [None, "", "nonsense", "../../etc", "000009-0123456789ab"])
def test_without_a_good_pointer_the_newest_complete_version_serves(store: BundleStore, pointer: str | None) -> None:
    (store.path / CURRENT).unlink()
    if pointer is not None:
        (store.path / CURRENT).write_text(pointer, encoding="utf-8")
    assert content(store) == "c"
    damage(store, store.versions()[2].name)
    assert content(store) == "b"


def test_a_damaged_version_is_never_pointed_at(store: BundleStore) -> None:
    name = store.versions()[1].name
    damage(store, name)
    with pytest.raises(UserError, match="its bytes have changed"):
        store.point(name)
    assert content(store) == "c"
    again, changed = store.publish({"content": "b"}, writing("b"))
    assert changed
    assert again != name


def test_nothing_complete_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must hold a complete bundle"):
        BundleStore(tmp_path).open()
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="holds something else"):
        BundleStore(tmp_path).publish({}, writing("a"))


def test_where_no_version_is_complete_the_pointers_reason_is_given(store: BundleStore) -> None:
    for version in store.versions():
        damage(store, version.name)
    current = store.current()
    with pytest.raises(UserError, match=rf"must hold a complete bundle, but it has none: \S*{current}\S* must have"):
        store.open()


def test_kill_9_during_publish_leaves_the_newest_complete_version(tmp_path: Path) -> None:
    store = BundleStore(tmp_path / "bundle")
    last = 0
    for attempt in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(store.path), str(last + 1)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("published"):
                    last = int(line.split()[1])
                    break
            # Somewhere within the next publication.
            time.sleep(0.003 * attempt)
            process.send_signal(signal.SIGKILL)
            last = max([last, *(int(line.split()[1]) for line in process.stdout if line.startswith("published"))])
        served = store.open()
        assert served.manifest.inputs["number"] >= last
        assert served.name == store.versions()[-1].name or served.name == store.current()
        last = served.manifest.inputs["number"]
    name, changed = store.publish({"number": "after"}, writing("after"))
    assert changed
    assert store.open().name == name
    drafts = [entry.name for entry in (store.path / VERSIONS).iterdir() if ".tmp-" in entry.name]
    assert not drafts
