"""The file format that the embedded event log and the spool share: records in SQLite, WAL mode.

A record's id is its row id, never reused; its row carries a checksum of its own. A commit is on the
disk when it returns (`synchronous=FULL`).
"""

import sqlite3
import uuid
import zlib
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import orjson

from ingest.contract.record import Record, StoredRecord

APPEND_LIMIT = 256
"""Most records of one append."""

FORMAT_VERSION = 1
COLUMNS = "appended_ms, crc32, topic, key, headers, value"
"""A record's columns, in the order of `Row`."""

Kind = Literal["event log", "spool"]
Row = tuple[int, int, str, bytes, bytes, bytes]

_APPLICATION_IDS: dict[Kind, int] = {"event log": 0x466F7265, "spool": 0x466F7370}  # "Fore", "Fosp"
_BUSY_TIMEOUT_S = 2.0
_LOG_TABLE = "create table log (name text primary key, value any) strict, without rowid"
_RECORD_TABLE = """
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


class LogFileError(Exception):
    """The file is missing, is not what it should be, or is of a later version; the text says."""


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


def open_for_writing(path: Path, kind: Kind, *, more_columns: str = "") -> sqlite3.Connection:
    """Opens the file for its one writer, making it if there is none.

    `more_columns` are further column definitions of the record table, each led by a comma. Raises
    LogFileError or OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = connect(path, mode="rwc")
    try:
        if _is_empty(connection):
            _create(connection, kind, more_columns)
        check(connection, path, kind)
        connection.execute("pragma synchronous=full")
    except (sqlite3.Error, LogFileError) as error:
        connection.close()
        raise unusable(path, kind, error) from error
    return connection


def check(connection: sqlite3.Connection, path: Path, kind: Kind) -> None:
    """Raises LogFileError for another kind of file, or one of a later release."""
    application_id = connection.execute("pragma application_id").fetchone()[0]
    version = connection.execute("pragma user_version").fetchone()[0]
    if application_id != _APPLICATION_IDS[kind]:
        raise LogFileError(f"{path} is not {_a(kind)}")
    if version > FORMAT_VERSION:
        raise LogFileError(f"{path} was written by a later release (format {version})")


def unusable(path: Path, kind: Kind, error: Exception) -> LogFileError:
    """What SQLite says of the file, as ours."""
    if isinstance(error, LogFileError):
        return error
    return LogFileError(f"{path} cannot be used as {_a(kind)}: {error}")


@lru_cache(maxsize=2 * APPEND_LIMIT)
def insert_statement(rows: int, columns: str = COLUMNS) -> str:
    """Inserts so many rows: one statement is one step in SQLite and one release of the
    interpreter's lock, where a statement per row waits for that lock once per row."""
    row = f"({', '.join('?' * (columns.count(',') + 1))})"
    places = ", ".join([row] * rows)
    return f"insert into record ({columns}) values {places}"  # noqa: S608 - only question marks


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


def lenient_text(raw: bytes) -> str:
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


def _create(connection: sqlite3.Connection, kind: Kind, more_columns: str) -> None:
    # auto_vacuum takes effect only on an empty file and before WAL mode
    connection.execute("pragma auto_vacuum=incremental")
    connection.execute("pragma journal_mode=wal")
    with closing(connection.cursor()) as cursor:
        cursor.execute("begin immediate")
        if not _is_empty(connection):
            cursor.execute("rollback")  # another process was first
            return
        cursor.execute(_LOG_TABLE)
        cursor.execute(_RECORD_TABLE.format(more=more_columns))
        first = [("log_id", uuid.uuid4().hex), ("trimmed_through", 0)]
        cursor.executemany("insert into log values (?, ?)", first)
        cursor.execute(f"pragma application_id={_APPLICATION_IDS[kind]}")
        cursor.execute(f"pragma user_version={FORMAT_VERSION}")
        cursor.execute("commit")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("select 1 from sqlite_schema limit 1").fetchone() is None


def _a(kind: Kind) -> str:
    return f"an {kind}" if kind[0] == "e" else f"a {kind}"


def _checksum(topic: str, key: bytes, headers: bytes, value: bytes) -> int:
    crc32 = zlib.crc32(topic.encode(errors="surrogateescape"))
    for part in (key, headers, value):
        crc32 = zlib.crc32(part, crc32)
    return crc32
