"""Events that were accepted are seen once by every reader."""

from pathlib import Path

import pytest

from shelfrank.online import Event
from shelfrank.serve.journal import Journal, JournalReader


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
