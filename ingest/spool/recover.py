"""Reads what can be read of a damaged spool, record by record."""

import sqlite3
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import LogFileError
from ingest.contract.record import Record, StoredRecord
from ingest.spool.store import COLUMNS, Spooled, source_of

_MAGIC = b"SQLite format 3\0"
_PAGE_BYTES = 4_096
_MARK_BYTES = 5  # the second page says first that the third is a table's, in every spool


class Salvage:
    """How it went: records `kept`, and `lost` ones, as far as the file lets anyone count them."""

    def __init__(self) -> None:
        self.kept = 0
        self.lost = 0


def salvage(path: Path, result: Salvage) -> Generator[Spooled]:
    """Every record whose row can be read and whose checksum is right, in order.

    Counts into `result`. A file of which nothing can be read counts as one lost record.
    """
    try:
        connection = logfile.connect(path, mode="rw")
    except LogFileError:
        result.lost += 1
        return
    connection.text_factory = logfile.lenient_text
    try:
        # without it SQLite reads nothing at all of a file that is shorter than it says
        connection.execute("pragma writable_schema=on")
        for id_, *row, source in _rows(connection, result):
            stored = logfile.stored(id_, row)
            if stored.damaged:
                result.lost += 1
            else:
                result.kept += 1
                yield Spooled(record=as_record(stored), source=source_of(source))
    finally:
        connection.close()


def mend_beginning(path: Path, *, like: Path) -> None:
    """Where one of our files does not begin as a database, gives it an empty spool's first page.

    Every spool's tables begin at the same pages, so that their records can be read again.
    """
    if not path.is_file():
        return
    ours = like.read_bytes()[: _PAGE_BYTES + _MARK_BYTES]
    with path.open("r+b") as file:
        theirs = file.read(len(ours))
        if theirs.startswith(_MAGIC) or theirs[_PAGE_BYTES:] != ours[_PAGE_BYTES:]:
            return
        page = bytearray(ours[:_PAGE_BYTES])
        page[28:32] = (path.stat().st_size // _PAGE_BYTES).to_bytes(4, "big")
        page[32:40] = bytes(8)  # which pages are free nobody knows, nor has to
        file.seek(0)
        file.write(page)


def as_record(stored: StoredRecord) -> Record:
    """A stored record as one to be written."""
    return Record(topic=stored.topic, key=stored.key, value=stored.value, headers=stored.headers)


def _rows(connection: sqlite3.Connection, result: Salvage) -> Iterator[tuple[Any, ...]]:
    """Reads on from row to row; behind a damaged page tries id by id."""
    last_id = 0
    try:
        for row in connection.execute(f"select id, {COLUMNS} from record order by id"):  # noqa: S608
            if row[0] <= last_id:
                break  # ids only grow: this page is no longer what it was
            last_id = row[0]
            yield row
        else:
            return
    except sqlite3.Error:
        pass
    highest = _highest_id(connection)
    if highest is None:
        result.lost += 1
        return
    is_behind_damage = True
    for id_ in range(last_id + 1, highest + 1):
        try:
            row = connection.execute(
                f"select id, {COLUMNS} from record where id = ?",  # noqa: S608 - our own names
                (id_,),
            ).fetchone()
        except sqlite3.Error:
            result.lost += 1
            is_behind_damage = True
            continue
        if row is not None:
            is_behind_damage = False
            yield row
        elif is_behind_damage:  # half a page looks like the end of what it held
            result.lost += 1


def _highest_id(connection: sqlite3.Connection) -> int | None:
    try:
        row = connection.execute("select seq from sqlite_sequence where name = 'record'").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else int(row[0])
