"""Recent events as lines of a file, which every process of the service appends to and reads.

An accepted event is in the file, so that the next page of any process reflects it, and a bundle that is loaded later
starts with the events before.
"""

import contextlib
import fcntl
import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from shelfrank.features.request import Event

log = logging.getLogger("shelfrank.serve")
SEGMENT_BYTES = 16_000_000
"""Size at which a new file begins; only the newest two are kept."""
READ_BYTES = 8_192
"""Bytes that are read at a time, plus the rest of the last line: a few dozen events."""


class Journal:
    """The events under one folder.

    Args:
        folder: Where the files are.
        segment_bytes: Size at which a new file begins.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder, self.segment_bytes = folder, segment_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, events: Sequence[Event]) -> None:
        """Appends all events or none; readers get them in their order, possibly the first before the others.

        Args:
            events: The events.

        Raises:
            OSError: If they cannot be written, as on a full disk; then none is appended.
        """
        if not events:
            return
        content = b"".join(json.dumps(asdict(event)).encode() + b"\n" for event in events)
        with self.locked(fcntl.LOCK_EX):
            segments = self.segments()
            newest = segments[-1] if segments else 0
            if segments and self.file(newest).stat().st_size > self.segment_bytes:
                newest += 1
                for old in segments[:-1]:
                    self.file(old).unlink(missing_ok=True)
            descriptor = os.open(self.file(newest), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(descriptor, "ab", buffering=0) as file:
                if file.tell() and not _ends_a_line(self.file(newest)):
                    # A process died while writing.
                    content = b"\n" + content
                _write_all(file, content)

    @contextlib.contextmanager
    def locked(self, how: int) -> Iterator[None]:
        """Holds the lock, exclusive for a writer and shared by readers: `how` is an operation of `flock`."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, how)
            yield

    def segments(self) -> list[int]:
        """Numbers of the existing files, the oldest first."""
        return sorted(int(file.stem.removeprefix("events-")) for file in self.folder.glob("events-*.jsonl"))

    def file(self, segment: int) -> Path:
        """Path of a file by its number."""
        return self.folder / f"events-{segment:08d}.jsonl"


class JournalReader:
    """Reads a journal from its start on, each event once.

    Args:
        journal: The journal.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.segment, self.offset = -1, 0

    def new_events(self, enough: int | None = None) -> list[Event]:
        """Reads the events since the last call; if there are none, the cost is one look at a file's size.

        Args:
            enough: Number of events after which the rest is left for the next call; up to one read more may be
                returned. None reads all.

        Returns:
            The events in the order in which they were accepted.
        """
        events: list[Event] = []
        if self.segment < 0:
            segments = self.journal.segments()
            if not segments:
                return events
            self.segment = segments[0]
        while enough is None or len(events) < enough:
            before = self.offset
            events += self._read()
            if self.offset > before:
                continue
            if self.journal.file(self.segment + 1).exists():
                # For lines that were written between the read and the check.
                events += self._read()
                if self.offset == before:
                    self.segment, self.offset = self.segment + 1, 0
                continue
            if not self.journal.file(self.segment).exists():
                later = [segment for segment in self.journal.segments() if segment > self.segment]
                if later:
                    self.segment, self.offset = later[0], 0
                    continue
            return events
        return events

    def _read(self) -> list[Event]:
        try:
            with self.journal.file(self.segment).open("rb") as file:
                if os.fstat(file.fileno()).st_size <= self.offset:
                    return []
                # A write in progress may still be rolled back.
                with self.journal.locked(fcntl.LOCK_SH):
                    file.seek(self.offset)
                    content = file.read(READ_BYTES)
                    content += file.readline()
        except FileNotFoundError:
            return []
        # The rest of a line whose writer died is left for the next call.
        content = content[: content.rfind(b"\n") + 1]
        self.offset += len(content)
        events, broken = [], 0
        for line in content.splitlines():
            try:
                events.append(Event(**json.loads(line)))
            except (ValueError, TypeError):
                broken += 1
        if broken:
            log.warning(
                "%d lines of %s are not events; a process may have died while writing", broken, self.journal.folder
            )
        return events


def _write_all(file: io.FileIO, content: bytes) -> None:
    before, rest = file.tell(), memoryview(content)
    try:
        while rest:
            # On a disk that fills up, the first call writes as much as fits, and only the next one fails.
            rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(before)
        raise


def _ends_a_line(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
