"""Looks into a spool's file and changes nothing: beside its owner or without, damaged or not."""

import fcntl
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from msgspec import Struct

from ingest.contract.envelope import Source
from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import LogFileError, Usage
from ingest.spool.store import (
    COLUMNS,
    LOCK_NAME,
    Held,
    Holding,
    owner_of,
    source_of,
)

_READ_AT_ONCE = 200
_COUNT_AT_ONCE = 20_000


class Owner(Struct, frozen=True, kw_only=True):
    """A process that has a spool; `pid` is None where it has not written it down yet."""

    pid: int | None


class SetApart(Struct, frozen=True, kw_only=True):
    """A damaged record that was moved out of the others' way; `appended_ms` is Unix time."""

    id: int
    topic: str
    source: Source
    appended_ms: int
    size_bytes: int


class SpoolReader:
    """Blocking. Reads are short: an open one keeps the owner's write-ahead log from shrinking."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.usage = Usage(connection, path)
        self.unreadable = 0
        """Records that `records` could not read, as far as the file lets anyone count them."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises LogFileError if there is none, or if nothing can be read of it."""
        if not path.exists():
            raise LogFileError(f"there is no spool at {path}")
        connection = logfile.connect(path, mode="ro")
        try:
            logfile.check(connection, path, "spool")
            connection.text_factory = logfile.lenient_text
            return cls(connection, path)
        except (sqlite3.Error, LogFileError) as error:
            connection.close()
            raise logfile.unusable(path, "spool", error) from error

    def records(self) -> Iterator[Held]:
        """Records and tokens in order, up to the last one now; a wrong checksum is marked.

        Where the file is damaged it goes on id by id.
        """
        try:
            position, last_id = self._bounds()
        except sqlite3.Error:
            self.unreadable += 1
            return
        while position < last_id:
            try:
                held = self._chunk(position)
                position = held[-1].stored.offset if held else last_id
            except (sqlite3.Error, ValueError, TypeError):
                end = min(position + _READ_AT_ONCE, last_id)
                held = [one for id_ in range(position + 1, end + 1) for one in self._one(id_)]
                position = end
            yield from (one for one in held if one.stored.offset <= last_id)

    def holdings(self) -> list[Holding]:
        """What is in it, by topic and source. Raises LogFileError."""
        counts: dict[tuple[str, Source], tuple[int, int]] = {}
        try:
            position, last_id = self._bounds()
            while position < last_id:
                rows = self._connection.execute(
                    "select topic, source, count(*), sum(length(key) + length(value)) from record"
                    " where id > ? and id <= ? group by topic, source",
                    (position, position + _COUNT_AT_ONCE),
                ).fetchall()
                position += _COUNT_AT_ONCE
                for topic, source, records, size_bytes in rows:
                    place = (topic, source_of(source))
                    before = counts.get(place, (0, 0))
                    counts[place] = (before[0] + records, before[1] + size_bytes)
        except sqlite3.Error as error:
            raise LogFileError(f"the spool is damaged ({error}): see `spool fsck`") from error
        return [
            Holding(topic=topic, source=source, records=records, size_bytes=size_bytes)
            for (topic, source), (records, size_bytes) in sorted(counts.items())
        ]

    def oldest_ms(self) -> int | None:
        """When the oldest record came in, in Unix milliseconds."""
        row = self._connection.execute(
            "select appended_ms from record order by id limit 1"
        ).fetchone()
        return None if row is None else int(row[0])

    def set_apart(self) -> list[SetApart]:
        """Records that were set apart because their checksum is wrong; none if they cannot be read.

        What is wrong then `integrity` says.
        """
        try:
            rows = self._connection.execute(
                "select id, topic, source, appended_ms, length(key) + length(value) from damaged"
            ).fetchall()
        except sqlite3.Error:
            return []
        return [
            SetApart(
                id=id_,
                topic=topic,
                source=source_of(source),
                appended_ms=appended_ms,
                size_bytes=size_bytes,
            )
            for id_, topic, source, appended_ms, size_bytes in rows
        ]

    def integrity(self) -> list[str]:
        """What SQLite itself finds wrong with the file; nothing if it is sound."""
        try:
            rows = self._connection.execute("pragma integrity_check(20)").fetchall()
        except sqlite3.Error as error:
            return [str(error)]
        return [str(text) for (text,) in rows if text != "ok"]

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _bounds(self) -> tuple[int, int]:
        """The id before the first, and the last; the highest one given where no index tells."""
        try:
            row = self._connection.execute("select min(id), max(id) from record").fetchone()
        except sqlite3.Error:
            row = self._connection.execute(
                "select 1, seq from sqlite_sequence where name = 'record'"
            ).fetchone()
        if row is None or row[1] is None:
            return 0, 0
        return int(row[0]) - 1, int(row[1])

    def _chunk(self, after: int) -> list[Held]:
        rows = self._connection.execute(
            f"select id, {COLUMNS} from record where id > ? order by id limit ?",  # noqa: S608
            (after, _READ_AT_ONCE),
        ).fetchall()
        return [_held(row) for row in rows]

    def _one(self, id_: int) -> list[Held]:
        """The record of an id, if there is one; counts it if it cannot be read."""
        try:
            row = self._connection.execute(
                f"select id, {COLUMNS} from record where id = ?",  # noqa: S608 - our own names
                (id_,),
            ).fetchone()
            return [] if row is None else [_held(row)]
        except (sqlite3.Error, ValueError, TypeError):
            self.unreadable += 1
            return []


def owner(directory: Path) -> Owner | None:
    """Who owns a spool's directory now, if anybody does. Raises LogFileError if nobody may look."""
    try:
        with (directory / LOCK_NAME).open() as lock:
            # held for no longer than this block, and shared, so that two who look do not meet
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Owner(pid=owner_of(directory))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogFileError(f"{directory / LOCK_NAME} cannot be read: {error.strerror}") from error
    return None


def _held(row: tuple[Any, ...]) -> Held:
    id_, *columns, source = row
    return Held(stored=logfile.stored(id_, columns), source=source_of(source))
