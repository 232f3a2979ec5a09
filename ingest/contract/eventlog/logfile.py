"""The file format that the embedded event log and the spool share: records in SQLite, WAL mode.

A record's id is its row id, never reused; its row carries a checksum of its own. A commit is on the
disk when it returns (`synchronous=FULL`).
"""

import sqlite3
import uuid
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import orjson
from msgspec import Struct

from ingest.contract.record import Record, StoredRecord

APPEND_LIMIT = 256
"""Most records of one append."""

PROBE_BYTES = 64 * 1024
"""What a probe writes: more than all but the rarest records."""

COLUMNS = "appended_ms, crc32, topic, key, headers, value"
"""A record's columns, in the order of `Row`."""

Row = tuple[int, int, str, bytes, bytes, bytes]

_BUSY_TIMEOUT_S = 2.0
_LOG_TABLE = "create table log (name text primary key, value any) strict, without rowid"
RECORD_TABLE = """
create table record (
  id integer primary key autoincrement,
  appended_ms integer not null,
  crc32 integer not null,
  topic text not null,
  key blob not null,
  headers blob not null,
  value blob not null{more}
) strict
"""
"""With `more` columns, each led by a comma."""


class FileFormat(Struct, frozen=True, kw_only=True):
    """One kind of file: what it is called, how it is told from others, and what it is made with.

    `upgrade` brings a file of an earlier version to this one, inside a transaction.
    """

    name: str
    application_id: int
    version: int
    tables: tuple[str, ...]
    upgrade: Callable[[sqlite3.Connection], None] | None = None

    @property
    def called(self) -> str:
        """With its article."""
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


class LogFileError(Exception):
    """The file is missing, is not what it should be, or is of a later version; the text says."""


# SQLite's message quotes a damaged schema, of which Python may not be able to make a text
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What reading a file that is not as we write it may raise at the first statement."""


class LogFull(Exception):
    """The file has reached its bound in bytes; nothing was appended."""


def connect(path: Path, *, mode: Literal["rwc", "rw", "ro"]) -> sqlite3.Connection:
    """A connection without implicit transactions. Raises LogFileError."""
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


def open_for_writing(path: Path, format_: FileFormat) -> sqlite3.Connection:
    """Opens the file for its one writer, making it if there is none.

    A file of an earlier version is upgraded in place. Raises LogFileError or OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = connect(path, mode="rwc")
    try:
        if _is_empty(connection):
            _create(connection, format_)
        version = check(connection, path, format_)
        connection.execute("pragma synchronous=full")
        if version < format_.version and format_.upgrade is not None:
            with connection as transaction:
                transaction.execute("begin immediate")
                format_.upgrade(transaction)
                transaction.execute(f"pragma user_version={format_.version}")
    except (*UNREADABLE, LogFileError) as error:
        connection.close()
        raise unusable(path, format_, error) from error
    return connection


def check(connection: sqlite3.Connection, path: Path, format_: FileFormat) -> int:
    """The file's version. Raises LogFileError for another kind of file, or a later version."""
    application_id = connection.execute("pragma application_id").fetchone()[0]
    version = int(connection.execute("pragma user_version").fetchone()[0])
    if application_id != format_.application_id:
        raise LogFileError(f"{path} is not {format_.called}")
    if version > format_.version:
        raise LogFileError(f"{path} was written by a later release (format {version})")
    return version


def unusable(path: Path, format_: FileFormat, error: Exception) -> LogFileError:
    """What SQLite says of the file, as ours."""
    if isinstance(error, LogFileError):
        return error
    return LogFileError(f"{path} cannot be used as {format_.called}: {error}")


def probe(connection: sqlite3.Connection) -> None:
    """Commits as much as a large record takes, and removes it. Raises sqlite3.Error."""
    connection.execute("insert or replace into log values ('probe', zeroblob(?))", (PROBE_BYTES,))
    connection.execute("delete from log where name = 'probe'")


@lru_cache(maxsize=2 * APPEND_LIMIT)
def insert_statement(rows: int, columns: str = COLUMNS, table: str = "record") -> str:
    """Inserts so many rows: one statement is one step in SQLite and one release of the
    interpreter's lock, where a statement per row waits for that lock once per row."""
    row = f"({', '.join('?' * (columns.count(',') + 1))})"
    places = ", ".join([row] * rows)
    return f"insert into {table} ({columns}) values {places}"  # noqa: S608 - our own names


def row_of(record: Record, now_ms: int) -> Row:
    """A record as its row."""
    headers = orjson.dumps([(name, value.decode()) for name, value in record.headers])
    crc32 = _checksum(record.topic, record.key, headers, record.value)
    return (now_ms, crc32, record.topic, record.key, headers, record.value)


def stored(id_: int, row: Sequence[Any]) -> StoredRecord:
    """A row as its record; `damaged` if its checksum is not that of its content.

    What damage gave another type is empty in the record, and stands in the row alone.
    """
    appended_ms, crc32, topic, key, headers, value = row
    try:
        damaged = _checksum(topic, key, headers, value) != crc32
        pairs = () if damaged else tuple((n, v.encode()) for n, v in orjson.loads(headers))
    except (TypeError, AttributeError, ValueError):
        damaged, pairs = True, ()
    return StoredRecord(
        topic=topic if isinstance(topic, str) else "",
        partition=0,
        offset=id_,
        timestamp_ms=appended_ms if isinstance(appended_ms, int) else 0,
        key=key if isinstance(key, bytes) else b"",
        value=value if isinstance(value, bytes) else b"",
        headers=pairs,
        damaged=damaged,
    )


def decode_text(raw: bytes) -> str:
    """A text factory: a damaged topic must not keep the rest from being read."""
    return raw.decode(errors="surrogateescape")


class Usage:
    """How many bytes a file's records take. Blocking; on the file's own thread."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._wal = path.with_name(path.name + "-wal")
        self._page_bytes: int = connection.execute("pragma page_size").fetchone()[0]

    def used_bytes(self) -> int:
        """The write-ahead log included, freed pages not."""
        return (self._pages() - self.free_pages()) * self._page_bytes + self.wal_bytes()

    def file_bytes(self) -> int:
        """What the files take on the disk."""
        return self._pages() * self._page_bytes + self.wal_bytes()

    def free_pages(self) -> int:
        """Pages that hold nothing any more."""
        return int(self._connection.execute("pragma freelist_count").fetchone()[0])

    def wal_bytes(self) -> int:
        """The write-ahead log's size."""
        return self._wal.stat().st_size if self._wal.exists() else 0

    def _pages(self) -> int:
        return int(self._connection.execute("pragma page_count").fetchone()[0])


def _create(connection: sqlite3.Connection, format_: FileFormat) -> None:
    # auto_vacuum takes effect only on an empty file and before WAL mode
    connection.execute("pragma auto_vacuum=incremental")
    connection.execute("pragma journal_mode=wal")
    with closing(connection.cursor()) as cursor:
        cursor.execute("begin immediate")
        if not _is_empty(connection):
            cursor.execute("rollback")  # another process was first
            return
        for statement in (_LOG_TABLE, *format_.tables):
            cursor.execute(statement)
        first = [("log_id", uuid.uuid4().hex), ("trimmed_through", 0)]
        cursor.executemany("insert into log values (?, ?)", first)
        cursor.execute(f"pragma application_id={format_.application_id}")
        cursor.execute(f"pragma user_version={format_.version}")
        cursor.execute("commit")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("select 1 from sqlite_schema limit 1").fetchone() is None


def _checksum(topic: str, key: bytes, headers: bytes, value: bytes) -> int:
    crc32 = zlib.crc32(topic.encode(errors="surrogateescape"))
    for part in (key, headers, value):
        crc32 = zlib.crc32(part, crc32)
    return crc32
