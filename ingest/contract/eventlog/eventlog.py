"""The embedded log's file: one process writing, any number reading.

One file is one log of one partition per topic. A record's offset is its row id, which is shared by
all topics and never reused. A commit is on the disk when `append` returns.
"""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Self

from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import (
    APPEND_LIMIT,
    PROBE_BYTES,
    FileFormat,
    LogFileError,
    LogFull,
    Usage,
)
from ingest.contract.record import Record, StoredRecord

__all__ = [
    "APPEND_LIMIT",
    "FILE_NAME",
    "FORMAT",
    "READ_LIMIT",
    "EventLog",
    "EventLogReader",
    "LogBounds",
    "LogFileError",
    "LogFull",
]

FILE_NAME = "eventlog.sqlite3"
"""The log's name inside the data directory."""

READ_LIMIT = 1_000
"""Most records of one read: an open read keeps the write-ahead log from shrinking."""


FORMAT = FileFormat(
    name="event log",
    application_id=0x466F7265,  # "Fore"
    version=1,
    tables=(logfile.RECORD_TABLE.format(more=""),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBounds:
    """Offsets that can be read: `first` up to, not including, `next`."""

    first: int
    next: int


class EventLog:
    """The writing side. Blocking; for one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, *, path: Path, max_bytes: int) -> None:
        self._connection = connection
        self._usage = Usage(connection, path)
        self._max_bytes = max_bytes
        self._room_bytes = 0
        self._unmeasured_bytes = 0

    @classmethod
    def open(cls, path: Path, *, max_bytes: int) -> Self:
        """Opens the log, making it if there is none. Raises LogFileError or OSError."""
        connection = logfile.open_for_writing(path, FORMAT)
        return cls(connection, path=path, max_bytes=max_bytes)

    def append(self, records: Sequence[Record]) -> None:
        """Appends all or none, in order, and returns once they are on the disk.

        At most `APPEND_LIMIT` records. Raises LogFull, or sqlite3.Error where the disk refuses.
        """
        if not records:
            return
        self._check_room(sum(len(record.value) for record in records))
        now_ms = time.time_ns() // 1_000_000
        values = [value for record in records for value in logfile.row_of(record, now_ms)]
        self._connection.execute(logfile.insert_statement(len(records)), values)

    def probe(self) -> None:
        """Commits as much as a large record takes, and removes it. Raises what `append` would.

        A log that has reached its bound stays full until there is room for so much.
        """
        self._measure()
        if self._room_bytes < PROBE_BYTES:
            raise self._full()
        logfile.probe(self._connection)

    def trim(self, *, before_ms: int, limit: int = 256) -> int:
        """Removes at most `limit` of the oldest records appended before then; returns how many.

        Only from the front: a record that the clock stamped too early protects nobody, and a young
        one protects all that came after it.
        """
        with self._connection as transaction:
            transaction.execute("begin immediate")
            front = transaction.execute(
                "select id, appended_ms from record order by id limit ?", (limit,)
            ).fetchall()
            old = [id_ for id_, _ in takewhile(lambda row: row[1] < before_ms, front)]
            if not old:
                return 0
            transaction.execute(
                "update log set value = ? where name = 'trimmed_through'", (old[-1],)
            )
            transaction.execute("delete from record where id <= ?", (old[-1],))
        return len(old)

    def used_bytes(self) -> int:
        """Bytes that records take, the write-ahead log included, freed pages not."""
        return self._usage.used_bytes()

    def _check_room(self, more_bytes: int) -> None:
        """Measures again once half of the room found last has been used, so ever more often."""
        self._unmeasured_bytes += more_bytes
        if self._unmeasured_bytes >= self._room_bytes / 2:
            self._measure()
        if self._room_bytes <= 0:
            raise self._full()

    def _measure(self) -> None:
        self._room_bytes = self._max_bytes - self.used_bytes()
        if self._room_bytes < PROBE_BYTES and self._usage.wal_bytes():
            # what stands in the file too, or was removed, still counts in the write-ahead log
            self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
            self._room_bytes = self._max_bytes - self.used_bytes()
        self._unmeasured_bytes = 0

    def _full(self) -> LogFull:
        return LogFull(f"the event log has reached its bound of {self._max_bytes} bytes")

    def close(self) -> None:
        """Closes the file; what was appended stays."""
        self._connection.close()


class EventLogReader:
    """The reading side. Blocking; every call is a short read of its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.log_id: str = connection.execute(
            "select value from log where name = 'log_id'"
        ).fetchone()[0]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens an existing log for reading only. Raises LogFileError."""
        if not path.exists():
            raise LogFileError(f"there is no event log at {path}")
        connection = logfile.connect(path, mode="ro")
        try:
            logfile.check(connection, path, FORMAT)
            connection.text_factory = logfile.decode_text
            return cls(connection)
        except (*logfile.UNREADABLE, LogFileError) as error:
            connection.close()
            raise logfile.unusable(path, FORMAT, error) from error

    def read(self, offset: int, *, limit: int = READ_LIMIT) -> list[StoredRecord]:
        """At most `limit` records from `offset` on, in order, of all topics."""
        rows = self._connection.execute(
            f"select id, {logfile.COLUMNS} from record"  # noqa: S608 - our own names
            " where id >= ? order by id limit ?",
            (offset, limit),
        ).fetchall()
        return [logfile.stored(id_, row) for id_, *row in rows]

    def bounds(self) -> LogBounds:
        """What can be read now."""
        trimmed, last = self._connection.execute(
            "select (select value from log where name = 'trimmed_through'),"
            " coalesce((select seq from sqlite_sequence where name = 'record'), 0)"
        ).fetchone()
        return LogBounds(first=int(trimmed) + 1, next=int(last) + 1)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()
