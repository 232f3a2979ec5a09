"""The embedded log's file: SQLite in WAL mode, one process writing, any number reading.

One file is one log of one partition per topic. A record's offset is its row id, which is shared by
all topics and never reused. A commit is on the disk when `append` returns.
"""

import sqlite3
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Self

import orjson

from ingest.contract.record import Record, StoredRecord

FILE_NAME = "eventlog.sqlite3"
"""The log's name inside the data directory."""

READ_LIMIT = 1_000
"""Most records of one read: an open read keeps the write-ahead log from shrinking."""

APPEND_LIMIT = 256
"""Most records of one append."""

FORMAT_VERSION = 1
_APPLICATION_ID = 0x466F7265  # "Fore"
_BUSY_TIMEOUT_S = 2.0
_SCHEMA = """
create table log (name text primary key, value any) strict, without rowid;
create table record (
  id integer primary key autoincrement,
  appended_ms integer not null,
  crc32 integer not null,
  topic text not null,
  key blob not null,
  headers blob not null,
  value blob not null
) strict;
"""


class LogFileError(Exception):
    """The file is missing, is not a log, or is one of a later version; the text says which."""


class LogFull(Exception):
    """The log has reached its bound in bytes; nothing was appended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBounds:
    """Offsets that can be read: `first` up to, not including, `next`."""

    first: int
    next: int


class EventLog:
    """The writing side. Blocking; for one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, *, path: Path, max_bytes: int) -> None:
        self._connection = connection
        self._wal = path.with_name(path.name + "-wal")
        self._max_bytes = max_bytes
        self._room_bytes = 0
        self._unmeasured_bytes = 0
        self._page_bytes: int = connection.execute("pragma page_size").fetchone()[0]

    @classmethod
    def open(cls, path: Path, *, max_bytes: int) -> Self:
        """Opens the log, making it if there is none. Raises LogFileError or OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(path, mode="rwc")
        try:
            if _is_empty(connection):
                _create(connection)
            _check(connection, path)
            connection.execute("pragma synchronous=full")
            return cls(connection, path=path, max_bytes=max_bytes)
        except (sqlite3.Error, LogFileError) as error:
            connection.close()
            raise _unusable(path, error) from error

    def append(self, records: Sequence[Record]) -> None:
        """Appends all or none, in order, and returns once they are on the disk.

        At most `APPEND_LIMIT` records. Raises LogFull, or sqlite3.Error where the disk refuses.
        """
        if not records:
            return
        self._check_room(sum(len(record.value) for record in records))
        now_ms = time.time_ns() // 1_000_000
        # one statement for all rows is one step in SQLite and one release of the interpreter lock,
        # where a statement per row waits for that lock once per row
        values = [value for record in records for value in _row(record, now_ms)]
        self._connection.execute(_insert(len(records)), values)

    def probe(self) -> None:
        """Commits something small. Raises what `append` would."""
        self._check_room()
        with self._connection as transaction:
            transaction.execute("begin immediate")
            now = int(time.time())
            transaction.execute("insert or replace into log values ('probed_at', ?)", (now,))

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
        if self._room_bytes <= 0:
            # what a full log got rid of still stands in the write-ahead log, and counts there
            self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        return len(old)

    def used_bytes(self) -> int:
        """Bytes that records take, the write-ahead log included, freed pages not."""
        pages = self._connection.execute("pragma page_count").fetchone()[0]
        free = self._connection.execute("pragma freelist_count").fetchone()[0]
        wal_bytes = self._wal.stat().st_size if self._wal.exists() else 0
        return int((pages - free) * self._page_bytes + wal_bytes)

    def _check_room(self, more_bytes: int = 0) -> None:
        """Measures again once half of the room found last has been used, so ever more often."""
        self._unmeasured_bytes += more_bytes
        if self._unmeasured_bytes >= self._room_bytes / 2:
            self._room_bytes = self._max_bytes - self.used_bytes()
            self._unmeasured_bytes = 0
        if self._room_bytes <= 0:
            raise LogFull(f"the event log has reached its bound of {self._max_bytes} bytes")

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
        connection = _connect(path, mode="ro")
        try:
            _check(connection, path)
            connection.text_factory = _text
            return cls(connection)
        except (sqlite3.Error, LogFileError) as error:
            connection.close()
            raise _unusable(path, error) from error

    def read(self, offset: int, *, limit: int = READ_LIMIT) -> list[StoredRecord]:
        """At most `limit` records from `offset` on, in order, of all topics."""
        rows = self._connection.execute(
            "select id, appended_ms, crc32, topic, key, headers, value from record"
            " where id >= ? order by id limit ?",
            (offset, limit),
        ).fetchall()
        return [_stored(*row) for row in rows]

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


@lru_cache(maxsize=APPEND_LIMIT)
def _insert(rows: int) -> str:
    columns = "appended_ms, crc32, topic, key, headers, value"
    places = ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    return f"insert into record ({columns}) values {places}"  # noqa: S608 - only question marks


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            cached_statements=APPEND_LIMIT + 8,
            check_same_thread=False,
        )
    except sqlite3.OperationalError as error:
        raise LogFileError(f"{path}: {error}") from error


def _create(connection: sqlite3.Connection) -> None:
    # auto_vacuum takes effect only on an empty file and before WAL mode
    connection.execute("pragma auto_vacuum=incremental")
    connection.execute("pragma journal_mode=wal")
    log: Mapping[str, str | int] = {"log_id": uuid.uuid4().hex, "trimmed_through": 0}
    with closing(connection.cursor()) as cursor:
        cursor.execute("begin immediate")
        if not _is_empty(connection):
            cursor.execute("rollback")  # another process was first
            return
        for statement in _SCHEMA.split(";\n"):
            cursor.execute(statement)
        cursor.executemany("insert into log values (?, ?)", list(log.items()))
        cursor.execute(f"pragma application_id={_APPLICATION_ID}")
        cursor.execute(f"pragma user_version={FORMAT_VERSION}")
        cursor.execute("commit")


def _unusable(path: Path, error: Exception) -> LogFileError:
    if isinstance(error, LogFileError):
        return error
    return LogFileError(f"{path} cannot be used as an event log: {error}")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("select 1 from sqlite_schema limit 1").fetchone() is None


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application_id = connection.execute("pragma application_id").fetchone()[0]
    version = connection.execute("pragma user_version").fetchone()[0]
    if application_id != _APPLICATION_ID:
        raise LogFileError(f"{path} is not an event log")
    if version > FORMAT_VERSION:
        raise LogFileError(f"{path} was written by a later release (format {version})")


def _row(record: Record, now_ms: int) -> tuple[int, int, str, bytes, bytes, bytes]:
    headers = orjson.dumps([(name, value.decode()) for name, value in record.headers])
    crc32 = _checksum(record.topic, record.key, headers, record.value)
    return (now_ms, crc32, record.topic, record.key, headers, record.value)


def _stored(
    offset: int, appended_ms: int, crc32: int, topic: str, key: bytes, headers: bytes, value: bytes
) -> StoredRecord:
    damaged = _checksum(topic, key, headers, value) != crc32
    return StoredRecord(
        topic=topic,
        partition=0,
        offset=offset,
        timestamp_ms=appended_ms,
        key=key,
        value=value,
        headers=() if damaged else tuple((n, v.encode()) for n, v in orjson.loads(headers)),
        damaged=damaged,
    )


def _text(raw: bytes) -> str:
    # a damaged topic must not keep the rest from being read
    return raw.decode(errors="surrogateescape")


def _checksum(topic: str, key: bytes, headers: bytes, value: bytes) -> int:
    crc32 = zlib.crc32(topic.encode(errors="surrogateescape"))
    for part in (key, headers, value):
        crc32 = zlib.crc32(part, crc32)
    return crc32
