"""Looks into a spool's file and changes nothing: beside its owner or without, damaged or not."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import LogFileError, Usage
from ingest.spool.files.format import SPOOL, old_token
from ingest.spool.files.rows import (
    RECORD_COLUMNS,
    TOKEN_COLUMNS,
    Contents,
    Held,
    HeldToken,
    held_of,
    held_token_of,
)
from ingest.spool.files.store import Table, contents, oldest_ms

_READ_AT_ONCE = 200

_Counted = TypeVar("_Counted")
_Row = tuple[Any, ...]  # the id first


class SpoolReader:
    """Blocking. Reads are short: an open one keeps the owner's write-ahead log from shrinking."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.usage = Usage(connection, path)
        self.unreadable = 0
        """Rows that `items` could not read, as far as the file lets anyone count them."""

    @classmethod
    def open(cls, path: Path, *, whatever_it_is: bool = False) -> Self:
        """Opens a spool of this version, or any file at all of which something can be read.

        Raises LogFileError if there is none, or if nothing can be read of it.
        """
        if not path.exists():
            raise LogFileError(f"there is no spool at {path}")
        connection = logfile.connect(path, mode="ro")
        try:
            if whatever_it_is:
                # without it SQLite reads nothing at all of a file that is shorter than it says
                connection.execute("pragma writable_schema=on")
            elif logfile.check(connection, path, SPOOL) < SPOOL.version:
                raise LogFileError(f"{path} is of an earlier release: `spool fsck --repair` it")
            connection.text_factory = logfile.decode_text
            return cls(connection, path)
        except (*logfile.UNREADABLE, LogFileError) as error:
            connection.close()
            raise logfile.unusable(path, SPOOL, error) from error

    def items(self) -> Iterator[Held | HeldToken]:
        """Records and then tokens, each in order, up to the last one now.

        What failed its checksum is marked so. Where the file is damaged it goes on row by row.
        """
        try:
            found = self._connection.execute("select name from sqlite_schema").fetchall()
        except logfile.UNREADABLE:
            self.unreadable += 1
            return
        if ("record",) not in found:
            self.unreadable += 1
        else:
            for row in self._rows("record", RECORD_COLUMNS):
                held = held_of(row)
                yield old_token(held) or held
        if ("token",) in found:
            yield from map(held_token_of, self._rows("token", TOKEN_COLUMNS))

    def contents(self) -> Contents:
        """What is in it, counted. Raises LogFileError."""
        return self._counted(contents)

    def oldest_ms(self) -> int | None:
        """When the oldest item came in, in Unix milliseconds. Raises LogFileError."""
        return self._counted(oldest_ms)

    def moved(self) -> int:
        """Damaged rows that were moved out of the way; 0 if they cannot be read.

        What is wrong then `integrity` says.
        """
        statement = (
            "select (select count(*) from damaged_record) + (select count(*) from damaged_token)"
        )
        try:
            return int(self._connection.execute(statement).fetchone()[0])
        except logfile.UNREADABLE:
            return 0

    def integrity(self) -> list[str]:
        """What SQLite itself finds wrong with the file; nothing if it is sound."""
        try:
            rows = self._connection.execute("pragma integrity_check(20)").fetchall()
        except logfile.UNREADABLE as error:
            return [str(error)]
        return [str(text) for (text,) in rows if text != "ok"]

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _rows(self, table: Table, columns: str) -> Iterator[_Row]:
        reading = _TableReading(self._connection, table, columns)
        yield from reading.rows()
        self.unreadable += reading.unreadable

    def _counted(self, count: Callable[[sqlite3.Connection], _Counted]) -> _Counted:
        try:
            return count(self._connection)
        except logfile.UNREADABLE as error:
            raise LogFileError(f"the spool is damaged ({error}): see `spool fsck`") from error


class _TableReading:
    """One pass over a table with ids that only grow, in short reads. Blocking."""

    def __init__(self, connection: sqlite3.Connection, table: str, columns: str) -> None:
        self._connection = connection
        self._table = table
        self._select = f"select id, {columns} from {table}"  # noqa: S608 - our own names
        self._position = 0
        self._behind_damage = False
        self.unreadable = 0
        """Rows that could not be read so far, as far as the file lets anyone count them."""

    def rows(self) -> Iterator[_Row]:
        """Every row that can be read, in order, up to the last one when it began."""
        last_id = self._last_id()
        while last_id is None or self._position < last_id:
            rows, is_damaged = self._some()
            if self._behind_damage and (rows or not is_damaged):
                self._count_missing_up_to(rows[0][0] if rows else (last_id or 0) + 1)
            yield from rows
            if rows:
                self._position = rows[-1][0]
            if is_damaged and last_id is None:
                self.unreadable += 1
            if is_damaged and last_id is not None:
                yield from self._one_by_one(min(self._position + _READ_AT_ONCE, last_id))
            elif is_damaged or not rows:
                return

    def _some(self) -> tuple[list[_Row], bool]:
        """The next rows in order, and whether damage is behind them."""
        rows: list[_Row] = []
        before = self._position
        try:
            for row in self._connection.execute(
                f"{self._select} where id > ? order by id limit ?", (before, _READ_AT_ONCE)
            ):
                if row[0] <= before:
                    return rows, True  # ids only grow: this page is no longer what it was
                before = row[0]
                rows.append(row)
        except sqlite3.Error:
            return rows, True
        return rows, False

    def _one_by_one(self, end: int) -> Iterator[_Row]:
        """The rows with the next ids, up to one."""
        self._behind_damage = True
        for id_ in range(self._position + 1, end + 1):
            try:
                row = self._connection.execute(f"{self._select} where id = ?", (id_,)).fetchone()
            except sqlite3.Error:
                self.unreadable += 1
                self._behind_damage = True
                continue
            if row is not None:
                self._behind_damage = False
                yield row
            elif self._behind_damage:  # half a page looks like the end of what it held
                self.unreadable += 1
        self._position = end

    def _count_missing_up_to(self, id_: int) -> None:
        self.unreadable += max(0, id_ - self._position - 1)
        self._behind_damage = False

    def _last_id(self) -> int | None:
        """The highest id there is or was; None where nothing tells."""
        found: list[int] = []
        for statement in (
            f"select max(id) from {self._table}",  # noqa: S608 - our own names
            f"select seq from sqlite_sequence where name = '{self._table}'",  # noqa: S608
        ):
            try:
                row = self._connection.execute(statement).fetchone()
            except sqlite3.Error:
                continue
            found.append(int(row[0]) if row is not None and row[0] is not None else 0)
        return max(found, default=None)
