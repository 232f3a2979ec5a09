"""The file format that the event log and the spool share."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest.contract.eventlog import eventlog, logfile
from ingest.contract.eventlog.logfile import FileFormat, LogFileError, Usage
from ingest.contract.record import Record

_HEADERS = (("ce_id", b"id-1"), ("ce_subject", "größe".encode()), ("empty", b""))
_RECORD = Record(topic="p.live-events.x.v1", key=b"k\x00\xff", value=b"{}\xff", headers=_HEADERS)
_ROW = logfile.row_of(_RECORD, 1_790_000_000_123)
_LOG = eventlog.FORMAT
_OTHER = FileFormat(
    name="spool",
    application_id=7,
    version=1,
    tables=(logfile.RECORD_TABLE.format(more=",\n  source text not null"),),
)
_NAMES = ("appended_ms", "crc32", "topic", "key", "headers", "value")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made on the way" / "log #1?.sqlite3"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(logfile.open_for_writing(path, _LOG)) as opened:
        yield opened


def _insert(connection: sqlite3.Connection, rows: int) -> None:
    statement = logfile.insert_statement(rows)
    connection.execute(statement, [value for _ in range(rows) for value in _ROW])


def test_row_and_record_are_each_others_reverse() -> None:
    stored = logfile.stored(7, _ROW)
    back = Record(topic=stored.topic, key=stored.key, value=stored.value, headers=stored.headers)
    assert back == _RECORD
    assert (stored.offset, stored.timestamp_ms) == (7, 1_790_000_000_123)
    assert not stored.damaged


@pytest.mark.parametrize("column", range(1, 6), ids=_NAMES[1:])
@pytest.mark.parametrize("bit", [0, 5])
def test_flipped_bit_in_any_column_is_damage(column: int, bit: int) -> None:
    row: list[Any] = list(_ROW)
    value = row[column]
    if isinstance(value, int):
        row[column] = value ^ (1 << bit)
    elif isinstance(value, str):
        row[column] = chr(ord(value[0]) ^ (1 << bit)) + value[1:]
    else:
        row[column] = bytes([value[0] ^ (1 << bit)]) + value[1:]
    assert logfile.stored(7, row).damaged


@pytest.mark.parametrize("value", [None, 7, 7.5, "text", b"bytes"], ids=repr)
@pytest.mark.parametrize("column", range(2, 6), ids=_NAMES[2:])
def test_value_of_another_type_is_damage(column: int, value: object) -> None:
    """SQLite keeps a value's type in the row's header, and checks no type in reading."""
    if isinstance(value, type(_ROW[column])):
        value = None
    row: list[Any] = [*_ROW[:column], value, *_ROW[column + 1 :]]
    assert logfile.stored(7, row).damaged


def test_damaged_record_has_no_headers_that_somebody_could_trust() -> None:
    assert logfile.stored(7, [*_ROW[:1], 0, *_ROW[2:]]).headers == ()


def test_commit_is_synchronous_and_in_a_write_ahead_log(connection: sqlite3.Connection) -> None:
    assert connection.execute("pragma synchronous").fetchone() == (2,)
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert connection.execute("pragma auto_vacuum").fetchone() == (2,)


def test_ids_are_never_given_out_again(connection: sqlite3.Connection) -> None:
    _insert(connection, 3)
    connection.execute("delete from record")
    _insert(connection, 1)
    assert connection.execute("select id from record").fetchall() == [(4,)]


def test_two_kinds_of_file_are_told_apart(path: Path) -> None:
    logfile.open_for_writing(path, _LOG).close()
    with pytest.raises(LogFileError, match="is not a spool"):
        logfile.open_for_writing(path, _OTHER)
    other = path.with_name("other")
    logfile.open_for_writing(other, _OTHER).close()
    with pytest.raises(LogFileError, match="is not an event log"):
        logfile.open_for_writing(other, _LOG)


def test_file_of_a_later_release_is_refused(path: Path) -> None:
    logfile.open_for_writing(path, _LOG).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"pragma user_version = {_LOG.version + 1}")
    with pytest.raises(LogFileError, match="later release"):
        logfile.open_for_writing(path, _LOG)


def test_file_that_is_not_there_is_made_only_to_be_written(path: Path) -> None:
    path.parent.mkdir()
    for mode in ("ro", "rw"):
        with pytest.raises(LogFileError):
            logfile.connect(path, mode=mode)
    assert list(path.parent.iterdir()) == []
    logfile.connect(path, mode="rwc").close()


def test_columns_of_one_kind_are_added(path: Path) -> None:
    with closing(logfile.open_for_writing(path, _OTHER)) as connection:
        columns = f"{logfile.COLUMNS}, source"
        connection.execute(logfile.insert_statement(1, columns), [*_ROW, "pns"])
        assert connection.execute("select source from record").fetchall() == [("pns",)]


def test_row_without_a_value_is_refused_with_its_whole_batch(
    connection: sqlite3.Connection,
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(logfile.insert_statement(2), [*_ROW, *_ROW[:2], None, *_ROW[3:]])
    assert connection.execute("select count(*) from record").fetchone() == (0,)


def test_usage_counts_the_write_ahead_log_and_leaves_out_what_is_free(
    path: Path, connection: sqlite3.Connection
) -> None:
    usage = Usage(connection, path)
    wal = path.with_name(path.name + "-wal")
    for _ in range(200):
        _insert(connection, 64)
    full = usage.used_bytes()
    assert usage.wal_bytes() == wal.stat().st_size > 0
    assert full >= 200 * 64 * len(_RECORD.value)
    connection.execute("delete from record")
    connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    assert usage.free_pages() > 100
    assert usage.used_bytes() < full / 4
    assert usage.file_bytes() == path.stat().st_size
    assert usage.file_bytes() > usage.used_bytes()


def test_text_that_is_no_text_can_still_be_read(connection: sqlite3.Connection) -> None:
    _insert(connection, 2)
    connection.execute("update record set topic = cast(x'ff41' as text) where id = 1")
    connection.text_factory = logfile.decode_text
    columns = logfile.COLUMNS
    rows = connection.execute(f"select id, {columns} from record order by id").fetchall()
    assert [logfile.stored(id_, row).damaged for id_, *row in rows] == [True, False]
