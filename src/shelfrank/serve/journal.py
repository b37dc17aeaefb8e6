"""Recent events in a database file, which every process of the service appends to and reads.

An accepted event is on the disk, so that the next page of any process reflects it, and a bundle that is loaded later
starts with the newest events. Only the newest are read then, so the number of older ones costs disk space alone.
"""

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from shelfrank.core.errors import UserError
from shelfrank.features.request import Event
from shelfrank.features.store import MAX_RECENT

log = logging.getLogger("shelfrank.serve")
FILE = "events.sqlite"
LAYOUT = 1
"""Version of the tables."""
MAX_EVENTS = 1_000_000
"""Events that are kept, some 100 MB; a bundle reads the newest `MAX_RECENT`."""
MAX_AGE_DAYS = 30.0
RETAIN_EVERY = 1_000
"""Events after which a process deletes those that are too many or too old."""
WAIT_S = 30.0
"""Seconds that a writer waits for others."""
LOG_AGAIN_S = 60.0
COLUMNS = tuple(field.name for field in fields(Event))
TABLES = f"""
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, accepted_us INTEGER NOT NULL, {", ".join(COLUMNS)}
);
CREATE TABLE IF NOT EXISTS moved (file TEXT PRIMARY KEY);
PRAGMA user_version = {LAYOUT};
"""
INSERT = f"INSERT INTO events (accepted_us, {', '.join(COLUMNS)}) VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
SELECT = f"SELECT number, {', '.join(COLUMNS)} FROM events WHERE number > ? ORDER BY number LIMIT ?"
# The limit bounds the cost, however many events are too many.
DELETE = """
DELETE FROM events WHERE number IN (SELECT number FROM events ORDER BY number LIMIT :limit)
    AND (number <= (SELECT max(number) FROM events) - :max_events OR accepted_us < :from_us)
"""


class Journal:
    """The events under one folder, which must be on a local disk.

    Args:
        folder: Where the file is.
        max_events: Number of events that are kept.
        max_age_days: Days after which an accepted event is deleted.

    Raises:
        UserError: If the file is there but is no journal.
    """

    def __init__(self, folder: Path, max_events: int = MAX_EVENTS, max_age_days: float = MAX_AGE_DAYS) -> None:
        self.folder, self.file = folder, folder / FILE
        self.max_events, self.max_age_days = max_events, max_age_days
        self._lock = threading.Lock()
        # The first append looks for what became too old while no service ran.
        self._unchecked = RETAIN_EVERY
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            # Events name customers: only the service's own user may read them.
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            self._connection = self.connect()
            weakref.finalize(self, self._connection.close)
            with _transaction(self._connection):
                (layout,) = self._connection.execute("PRAGMA user_version").fetchone()
                if layout < LAYOUT:
                    for statement in TABLES.split(";"):
                        self._connection.execute(statement)
        except sqlite3.Error as error:
            raise UserError(
                f"{self.file} must be a journal of events, but it cannot be opened: {error}; move it away to start "
                "without the events in it"
            ) from error
        if layout > LAYOUT:
            raise UserError(
                f"{self.file} must be a journal of layout {LAYOUT} or older, but it is of {layout}; use the newer "
                "shelfrank that wrote it, or another --state"
            )
        self._move_lines()

    def connect(self) -> sqlite3.Connection:
        """Opens the file once more.

        Returns:
            A connection for one thread at a time, which is closed when it is no longer used.
        """
        connection = sqlite3.connect(self.file, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit returns when the disk has it, so that not even a power failure takes back an answer.
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def append(self, events: Sequence[Event]) -> None:
        """Appends all events or none, and waits until the disk has them.

        Args:
            events: The events.

        Raises:
            OSError: If they cannot be written, as on a full disk; then none is appended.
        """
        if not events:
            return
        now_us = time.time_ns() // 1000
        rows = [(now_us, *_values(event)) for event in events]
        try:
            with self._lock, _transaction(self._connection):
                self._connection.executemany(INSERT, rows)
                self._retain(len(rows), now_us)
        except sqlite3.Error as error:
            # Without the path, which is no concern of the client that reads this.
            raise OSError(str(error)) from error

    def close(self) -> None:
        """Closes the file; readers have their own connections."""
        self._connection.close()

    def _retain(self, n_new: int, now_us: int) -> None:
        """Deletes the oldest events of those that are too many or too old; a few for each new one."""
        self._unchecked += n_new
        if self._unchecked >= RETAIN_EVERY:
            from_us = now_us - round(self.max_age_days * 86_400_000_000)
            bounds = {"limit": 4 * self._unchecked, "max_events": self.max_events, "from_us": from_us}
            self._connection.execute(DELETE, bounds)
            self._unchecked = 0

    def _move_lines(self) -> None:
        """Moves the events of an older version's files of JSON lines into the database, each file once."""
        if not any(self.folder.glob("events-*.jsonl")):
            return
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            n_events, files = 0, sorted(self.folder.glob("events-*.jsonl"))
            for file in files:
                with _transaction(self._connection):
                    is_moved = self._connection.execute("SELECT 1 FROM moved WHERE file = ?", (file.name,)).fetchone()
                    if not is_moved:
                        now_us = time.time_ns() // 1000
                        rows = ((now_us, *_values(event)) for event in _events_of_lines(file))
                        n_events += self._connection.executemany(INSERT, rows).rowcount
                        self._connection.execute("INSERT INTO moved VALUES (?)", (file.name,))
                # If the service ends here, the file is deleted at the next start.
                file.unlink(missing_ok=True)
        if files:
            log.warning("%d events of %d files of an older version were moved into %s", n_events, len(files), self.file)


class JournalReader:
    """Reads a journal from the newest of its events on, each event once.

    Args:
        journal: The journal.
        newest: Number of the newest events with which the first call begins.

    Attributes:
        is_readable: Whether the last call could read the file.
    """

    def __init__(self, journal: Journal, newest: int = MAX_RECENT) -> None:
        self.journal, self.newest = journal, newest
        self._connection = journal.connect()
        weakref.finalize(self, self._connection.close)
        self._after: int | None = None
        self._logged_s = -LOG_AGAIN_S
        self.is_readable = True

    def new_events(self, enough: int | None = None) -> list[Event]:
        """Reads the events since the last call; if there are none, the cost is one look into the index.

        Args:
            enough: Number of events after which the rest is left for the next call. None reads all.

        Returns:
            The events in the order in which they were accepted; none while the file cannot be read, which is logged.
        """
        try:
            if self._after is None:
                self._after = self._start()
            rows = self._connection.execute(SELECT, (self._after, -1 if enough is None else enough)).fetchall()
        except sqlite3.Error as error:
            self.is_readable = False
            if time.monotonic() - self._logged_s >= LOG_AGAIN_S:
                self._logged_s = time.monotonic()
                log.error("%s cannot be read, so pages do not see new events: %s", self.journal.file, error)
            return []
        self.is_readable = True
        if rows:
            self._after = rows[-1][0]
        return [Event(**dict(zip(COLUMNS, row[1:], strict=True))) for row in rows]

    def _start(self) -> int:
        """The number of the event before the newest ones."""
        query = "SELECT number FROM events ORDER BY number DESC LIMIT 1 OFFSET ?"
        row = self._connection.execute(query, (self.newest,)).fetchone()
        return row[0] if row else 0


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Writes all or nothing; other writers wait from the start on, so that numbers are seen in their order."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # On a full disk it may have been rolled back already.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _values(event: Event) -> tuple[str | int | float | None, ...]:
    return tuple(getattr(event, name) for name in COLUMNS)


def _events_of_lines(file: Path) -> Iterator[Event]:
    """Reads the events of a file of JSON lines; the number of broken lines is logged."""
    broken = 0
    with file.open("rb") as lines:
        for line in lines:
            try:
                yield Event(**json.loads(line))
            except (ValueError, TypeError):
                broken += 1
    if broken:
        log.warning("%d lines of %s are not events; a process may have died while writing", broken, file)
