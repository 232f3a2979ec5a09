"""The spool's file: records that wait for Kafka, and tokens that wait for keys. One owner.

A record's row is as in the embedded log, with the source beside it. A token's topic is `DEFERRED`,
which no Kafka topic of ours can be called.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Self, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ingest.contract.envelope import SOURCES, Source
from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import LogFileError, LogFull, Usage
from ingest.contract.record import Record, StoredRecord

FILE_NAME = "spool.sqlite3"
LOCK_NAME = "owner.lock"
RESERVE_NAME = "reserve"
DEFERRED = "deferred"
"""Stands for a topic in rows that hold tokens."""

COLUMNS = f"{logfile.COLUMNS}, source"
"""A record's columns."""

# nobody else writes; who only looks must not hold up a write for longer
_BUSY_TIMEOUT_MS = 50
_LOCK_WITHIN_S = 0.5
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_MORE_COLUMNS = ",\n  source text not null"
_DAMAGED_TABLE = "create table if not exists damaged as select * from record where false"

Result = TypeVar("Result")


class Spooled(Struct, frozen=True, kw_only=True):
    """A record on its way into the spool, or a token if its topic is `DEFERRED`."""

    record: Record
    source: Source

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value."""
        return len(self.record.key) + len(self.record.value)


class Held(Struct, frozen=True, kw_only=True):
    """A record as the spool holds it; `stored.offset` is its id."""

    stored: StoredRecord
    source: Source

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value."""
        return len(self.stored.key) + len(self.stored.value)


class Holding(Struct, frozen=True, kw_only=True):
    """So many records of one topic and source."""

    topic: str
    source: Source
    records: int
    size_bytes: int


def batches(items: Iterable[Spooled]) -> Iterator[list[Spooled]]:
    """The items in order, as many at once as one append takes."""
    rest = iter(items)
    for first in rest:
        batch, size_bytes = [first], first.size_bytes
        while size_bytes < _MAX_BATCH_BYTES and len(batch) < logfile.APPEND_LIMIT:
            item = next(rest, None)
            if item is None:
                break
            batch.append(item)
            size_bytes += item.size_bytes
        yield batch


class Ownership:
    """The right to a spool directory, until it is closed or the process ends."""

    def __init__(self, directory: Path) -> None:
        """Raises LogFileError if another process owns it, OSError if it cannot be made."""
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / LOCK_NAME).open("a+")
        if not _locked(self._file):
            owner = owner_of(directory)
            self._file.close()
            raise LogFileError(f"{directory} is in use by process {owner or '?'}")
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        """Lets others own it."""
        self._file.close()


def _locked(file: IO[str]) -> bool:
    """Tries for a moment: who only looks, or is about to end, holds the lock no longer."""
    deadline = time.monotonic() + _LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def owner_of(directory: Path) -> int | None:
    """The process id that owned the directory last, as far as it is known."""
    try:
        return int((directory / LOCK_NAME).read_text() or "0") or None
    except (OSError, ValueError):
        return None


class SpoolFile:
    """Blocking; for one thread at a time. Every change is on the disk when its call returns.

    Whatever the disk refuses is raised as sqlite3.Error, and changes nothing.
    """

    def __init__(self, connection: sqlite3.Connection, *, path: Path) -> None:
        self._connection = connection
        self.usage = Usage(connection, path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the spool, making it if there is none. Raises LogFileError or OSError."""
        connection = logfile.open_for_writing(path, "spool", more_columns=_MORE_COLUMNS)
        try:
            connection.execute(_DAMAGED_TABLE)
            connection.execute(f"pragma busy_timeout={_BUSY_TIMEOUT_MS}")
            connection.text_factory = logfile.lenient_text
        except sqlite3.Error as error:
            connection.close()
            raise logfile.unusable(path, "spool", error) from error
        return cls(connection, path=path)

    def append(self, items: Sequence[Spooled], *, max_bytes: int) -> int:
        """Appends all or none, at most `logfile.APPEND_LIMIT`; returns the bytes used then.

        Raises LogFull beyond the bound.
        """
        more_bytes = sum(item.size_bytes for item in items)
        used_bytes = self.usage.used_bytes()
        if used_bytes + more_bytes > max_bytes:
            raise LogFull(f"the spool has reached its bound of {max_bytes} bytes")
        now_ms = time.time_ns() // 1_000_000
        values = [
            value for item in items for value in (*logfile.row_of(item.record, now_ms), item.source)
        ]
        statement = logfile.insert_statement(len(items), COLUMNS)
        self._with_room(lambda: self._connection.execute(statement, values))
        return used_bytes + more_bytes

    def read(
        self, *, after: int, limit: int, max_bytes: int, without: Collection[str] = ()
    ) -> list[Held]:
        """The oldest records beyond an id, at least one if there is any, without some topics."""
        return self._read("not in", without, after, limit, max_bytes)

    def read_only(self, topic: str, *, after: int, limit: int, max_bytes: int) -> list[Held]:
        """The oldest records of one topic beyond an id, at least one if there is any."""
        return self._read("in", (topic,), after, limit, max_bytes)

    def forget(self, ids: Sequence[int]) -> None:
        """Removes records, all or none."""
        marks = ", ".join("?" * len(ids))
        statement = f"delete from record where id in ({marks})"  # noqa: S608 - only question marks
        self._with_room(lambda: self._connection.execute(statement, ids))

    def set_apart(self, ids: Sequence[int]) -> None:
        """Moves damaged records where nobody meets them again but `spool fsck`."""
        marks = ", ".join("?" * len(ids))
        with self._connection as transaction:
            transaction.execute("begin immediate")
            transaction.execute(
                f"insert into damaged select * from record where id in ({marks})",  # noqa: S608
                ids,
            )
            transaction.execute(f"delete from record where id in ({marks})", ids)  # noqa: S608

    def holdings(self) -> list[Holding]:
        """What is in it, by topic and source. Reads the whole file."""
        rows = self._connection.execute(
            "select topic, source, count(*), sum(length(key) + length(value))"
            " from record group by topic, source"
        )
        return [
            Holding(topic=topic, source=source_of(source), records=records, size_bytes=size_bytes)
            for topic, source, records, size_bytes in rows.fetchall()
        ]

    def last_id(self) -> int:
        """The id given last; 0 before the first."""
        row = self._connection.execute(
            "select seq from sqlite_sequence where name = 'record'"
        ).fetchone()
        return int(row[0]) if row else 0

    def oldest_ms(self) -> int | None:
        """When the oldest record came in, in Unix milliseconds."""
        row = self._connection.execute(
            "select appended_ms from record order by id limit 1"
        ).fetchone()
        return None if row is None else int(row[0])

    def note(self, name: str) -> str | None:
        """A text kept under a name."""
        row = self._connection.execute("select value from log where name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def keep_note(self, name: str, text: str) -> None:
        """Keeps a text under a name."""
        self._with_room(
            lambda: self._connection.execute(
                "insert or replace into log values (?, ?)", (name, text)
            )
        )

    def give_back(self, pages: int) -> bool:
        """Gives a slice of freed pages back to the file system; whether there are more."""
        self._connection.executescript(f"pragma incremental_vacuum({pages})")
        if self.usage.free_pages():
            return True
        self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        return False

    def close(self) -> None:
        """Closes the file; what is in it stays."""
        self._connection.close()

    def _read(
        self, which: str, topics: Iterable[str], after: int, limit: int, max_bytes: int
    ) -> list[Held]:
        names = list(topics)
        marks = ", ".join("?" * len(names))
        rows = self._connection.execute(
            f"select id, {COLUMNS} from record"  # noqa: S608 - our own names and question marks
            f" where id > ? and topic {which} ({marks}) order by id limit ?",
            (after, *names, limit),
        )
        held: list[Held] = []
        size_bytes = 0
        for id_, *row, source in rows:
            record = logfile.stored(id_, row)
            if source not in SOURCES:
                record = replace(record, damaged=True)
            held.append(Held(stored=record, source=source_of(source)))
            size_bytes += len(held[-1].stored.value)
            if size_bytes >= max_bytes:
                break
        rows.close()  # an open read keeps the write-ahead log from shrinking
        return held

    def _with_room(self, change: Callable[[], Result]) -> Result:
        """On a full disk tries once more with what a checkpoint of the log frees."""
        try:
            return change()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
            return change()


def source_of(text: object) -> Source:
    """A source as its column has it."""
    # a damaged source must not keep the record from going where its topic says
    return "pns" if text == "pns" else "live-events"
