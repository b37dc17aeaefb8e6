"""Events that were accepted are seen once by every reader."""

import contextlib
import fcntl
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import PATIENCE_S

from shelfrank.features.request import Event
from shelfrank.serve.journal import READ_BYTES, Journal, JournalReader


def event(number: int) -> Event:
    return Event(product_id=f"p{number}", action="click", ts_us=number, query="é\n", customer_id=None)


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
    assert JournalReader(Journal(tmp_path)).new_events() == [event(1), event(2), event(3)]


def test_old_files_are_dropped_and_readers_go_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=300)
    steady, late = JournalReader(journal), JournalReader(journal)
    journal.append([event(0)])
    assert late.new_events() == [event(0)]
    seen = []
    for number in range(1, 40):
        journal.append([event(number)])
        seen += steady.new_events()
    assert seen == [event(number) for number in range(40)]
    assert len(journal.segments()) <= 3
    rest = late.new_events()
    assert 0 < len(rest) < 20
    assert rest[-1] == event(39)


def test_a_torn_or_broken_line_loses_only_itself_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path)
    journal.append([event(1)])
    file = journal.file(0)
    reader = JournalReader(journal)
    with file.open("ab") as stream:
        stream.write(b'{"product_id": "p')
    assert reader.new_events() == [event(1)]
    journal.append([event(2)])
    with file.open("ab") as stream:
        stream.write(b'{"no": "event"}\n[]\n')
    journal.append([event(3)])
    assert reader.new_events() == [event(2), event(3)]
    assert "3 lines of" in caplog.text


@contextlib.contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """Files that cannot grow beyond a size: a write up to it is cut short, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("torn", [b"", b'{"product_id": "p'])
def test_events_without_room_are_refused_and_none_is_kept(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(tmp_path)
    journal.append([event(1)])
    with journal.file(0).open("ab") as stream:
        stream.write(torn)
    before = journal.file(0).read_bytes()
    reader = JournalReader(journal)
    with room_for(1000), pytest.raises(OSError, match="File too large"):
        journal.append([event(number) for number in range(2, 40)])
    assert journal.file(0).read_bytes() == before
    assert reader.new_events() == [event(1)]
    journal.append([event(40)])
    assert reader.new_events() == [event(40)]


def test_a_reader_waits_for_what_may_yet_be_taken_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([event(1)])
    before = journal.file(0).stat().st_size
    seen: list[Event] = []
    reader = threading.Thread(target=lambda: seen.extend(JournalReader(journal).new_events()))
    with journal.file(0).open("r+b") as file, (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file.write(2 * file.read())
        file.flush()
        reader.start()
        reader.join(0.5)
        assert reader.is_alive()
        file.truncate(before)
    reader.join(PATIENCE_S)
    assert seen == [event(1)]


def test_a_reader_may_leave_the_rest_for_the_next_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=20_000)
    for start in (0, 500):
        journal.append([event(number) for number in range(start, start + 500)])
    assert len(journal.segments()) == 2
    with journal.file(1).open("ab") as stream:
        stream.write(b"no event\n" * (2 * READ_BYTES // 9))
    Journal(tmp_path).append([event(1000)])
    reader, seen = JournalReader(journal), []
    while some := reader.new_events(enough=7):
        assert len(some) < 7 + READ_BYTES / 50
        seen += some
    assert seen == [event(number) for number in range(1001)]
    assert JournalReader(journal).new_events() == seen
