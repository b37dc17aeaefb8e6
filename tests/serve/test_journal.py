"""Events that were accepted are on the disk and seen once by every reader."""

import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from serving import PATIENCE_S

from shelfrank.core.errors import UserError
from shelfrank.features.request import Event
from shelfrank.serve.journal import LAYOUT, RETAIN_EVERY, Journal, JournalReader

DAY_US = 86_400_000_000


def event(number: int) -> Event:
    return Event(product_id=f"p{number}", action="click", ts_us=number, query="é\n", customer_id=None)


def all_of(folder: Path) -> list[Event]:
    return JournalReader(Journal(folder)).new_events()


def test_every_reader_sees_each_event_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    early = JournalReader(journal)
    assert early.new_events() == []
    journal.append([event(1), event(2)])
    assert early.new_events() == [event(1), event(2)]
    assert early.new_events() == []
    journal.append([event(3)])
    journal.append([])
    assert early.new_events() == [event(3)]
    assert all_of(tmp_path) == [event(1), event(2), event(3)]


def test_every_field_of_an_event_is_kept(tmp_path: Path) -> None:
    full = Event(
        product_id="p",
        action="impression",
        ts_us=2**60,
        customer_id="c",
        session_id="s",
        query="q",
        position=3,
        price=0.1,
        search_id="id",
        ordinal=0,
        client_id="x",
    )
    assert None not in asdict(full).values()
    Journal(tmp_path).append([full])
    assert all_of(tmp_path) == [full]


def test_a_reader_may_leave_the_rest_for_the_next_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    events = [event(number) for number in range(20)]
    journal.append(events)
    reader = JournalReader(journal)
    assert [reader.new_events(enough=7) for _ in range(4)] == [events[:7], events[7:14], events[14:], []]


def test_a_reader_begins_with_the_newest_events(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([event(number) for number in range(20)])
    reader = JournalReader(journal, newest=3)
    assert reader.new_events(enough=2) == [event(17), event(18)]
    journal.append([event(20)])
    assert reader.new_events() == [event(19), event(20)]
    assert len(JournalReader(journal, newest=21).new_events()) == 21


def test_the_oldest_of_too_many_events_are_deleted_and_readers_go_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, max_events=600)
    steady, late = JournalReader(journal), JournalReader(journal)
    journal.append([event(0)])
    assert late.new_events() == [event(0)]
    seen = []
    for start in range(1, 8 * RETAIN_EVERY, 500):
        journal.append([event(number) for number in range(start, start + 500)])
        seen += steady.new_events()
    assert seen == [event(number) for number in range(len(seen))]
    kept = all_of(tmp_path)
    assert 600 <= len(kept) < 600 + RETAIN_EVERY
    assert kept[-1] == seen[-1]
    assert late.new_events() == kept


def test_events_that_are_too_old_are_deleted_a_few_at_a_time(tmp_path: Path) -> None:
    Journal(tmp_path).append([event(number) for number in range(10_000)])
    with contextlib.closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection, connection:
        connection.execute("UPDATE events SET accepted_us = accepted_us - ?", (3 * DAY_US,))
    journal = Journal(tmp_path, max_age_days=2)
    journal.append([event(10_000)])
    assert 0 < len(all_of(tmp_path)) - 1 < 10_000
    for number in range(1, 5):
        journal.append([event(10_000 + number)] * RETAIN_EVERY)
    assert {each.ts_us for each in all_of(tmp_path)} == set(range(10_000, 10_005))


def write_lines(file: Path, events: list[Event], more: bytes = b"") -> None:
    file.write_bytes(b"".join(json.dumps(asdict(each)).encode() + b"\n" for each in events) + more)


def test_files_of_an_older_version_are_moved_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_lines(tmp_path / "events-00000009.jsonl", [event(1), event(2)], b'{"no": "event"}\n[]\n')
    write_lines(tmp_path / "events-00000010.jsonl", [event(3)], b'{"product_id": "p')
    assert all_of(tmp_path) == [event(1), event(2), event(3)]
    assert "3 events of 2 files of an older version were moved into" in caplog.text
    assert "2 lines of" in caplog.text
    assert not list(tmp_path.glob("*.jsonl"))
    # As if the service had ended before it deleted the file.
    write_lines(tmp_path / "events-00000010.jsonl", [event(3)])
    assert all_of(tmp_path) == [event(1), event(2), event(3)]
    assert not list(tmp_path.glob("*.jsonl"))


@contextlib.contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """Files that cannot grow beyond a size: a write up to it is cut short, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_events_without_room_are_refused_and_none_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([event(1)])
    reader = JournalReader(journal)
    with room_for(100_000), pytest.raises(OSError, match="disk"):
        journal.append([event(number) for number in range(2, 5_000)])
    assert reader.new_events() == [event(1)]
    journal.append([event(5_000)])
    assert reader.new_events() == [event(5_000)]
    assert all_of(tmp_path) == [event(1), event(5_000)]


APPENDS = """
import sys
from pathlib import Path
from shelfrank.features.request import Event
from shelfrank.serve.journal import Journal
journal, number = Journal(Path(sys.argv[1])), 0
while True:
    journal.append([Event(product_id="p", action="click", ts_us=number)] * 3)
    print(number, flush=True)
    number += 1
"""


def test_a_kill_takes_back_no_accepted_event_and_leaves_no_part_of_a_batch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPENDS, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        answered = [int(process.stdout.readline()) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        answered += [int(line) for line in process.stdout if line.endswith("\n")]
    seen = [each.ts_us for each in all_of(tmp_path)]
    # The last batch may have been written and not answered.
    assert seen[: 3 * len(answered)] == [number for number in answered for _ in range(3)]
    assert len(seen) in (3 * len(answered), 3 * len(answered) + 3)


def test_writers_wait_for_each_other_and_readers_see_each_batch_whole(tmp_path: Path) -> None:
    readers = [JournalReader(Journal(tmp_path)) for _ in range(2)]
    writers = [
        threading.Thread(target=lambda own=own: [Journal(tmp_path).append([event(own)] * 4) for _ in range(10)])
        for own in range(3)
    ]
    for writer in writers:
        writer.start()
    seen: list[list[int]] = [[], []]
    while any(writer.is_alive() for writer in writers):
        for numbers, reader in zip(seen, readers, strict=True):
            numbers += [each.ts_us for each in reader.new_events()]
            assert len(numbers) % 4 == 0
    for writer in writers:
        writer.join(PATIENCE_S)
    for numbers, reader in zip(seen, readers, strict=True):
        numbers += [each.ts_us for each in reader.new_events()]
        assert numbers == seen[0]
        assert sorted(numbers) == [own for own in range(3) for _ in range(40)]


def test_a_file_that_is_no_journal_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "events.sqlite").write_bytes(b"not a database, though as long as the head of one" * 100)
    with pytest.raises(UserError, match=r"events\.sqlite must be a journal of events.* move it away"):
        Journal(tmp_path)


def test_a_journal_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {LAYOUT + 1}")
    with pytest.raises(UserError, match=f"layout {LAYOUT} or older, but it is of {LAYOUT + 1}"):
        Journal(tmp_path)


def test_pages_go_on_without_new_events_where_the_file_breaks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path)
    reader = JournalReader(journal)
    journal.append([event(1)])
    with contextlib.closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection:
        connection.execute("DROP TABLE events")
    assert [reader.new_events(), reader.new_events()] == [[], []]
    assert caplog.text.count("cannot be read, so pages do not see new events") == 1
    assert not reader.is_readable


def test_only_the_owner_may_read_the_events(tmp_path: Path) -> None:
    Journal(tmp_path).append([event(1)])
    assert {file.stat().st_mode & 0o077 for file in tmp_path.glob("events.sqlite*")} == {0}
