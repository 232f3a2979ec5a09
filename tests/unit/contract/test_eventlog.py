"""The embedded log's file, on a real disk."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest.contract.eventlog.eventlog import (
    FORMAT,
    EventLog,
    EventLogReader,
    LogBounds,
    LogFileError,
    LogFull,
)
from ingest.contract.eventlog.logfile import PROBE_BYTES
from ingest.contract.record import Record

_ROOMY = 1 << 30
_FAR_FUTURE_MS = 1 << 60
_OPENINGS: tuple[Callable[[Path], object], ...] = (
    lambda path: EventLog.open(path, max_bytes=_ROOMY),
    EventLogReader.open,
)


def _record(n: int = 0, *, topic: str = "p.live-events.x.v1", value: bytes = b"{}") -> Record:
    headers = (("ce_id", f"id-{n}".encode()), ("ce_subject", "größe".encode()))
    return Record(topic=topic, key=f"key-{n}".encode(), value=value, headers=headers)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made on the way" / "log #1?.sqlite3"


@pytest.fixture
def log(path: Path) -> Iterator[EventLog]:
    with closing(EventLog.open(path, max_bytes=_ROOMY)) as opened:
        yield opened


@pytest.fixture
def reader(path: Path, log: EventLog) -> Iterator[EventLogReader]:
    with closing(EventLogReader.open(path)) as opened:
        yield opened


def _alter(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_records_are_read_whole_and_in_the_order_of_appending(
    log: EventLog, reader: EventLogReader
) -> None:
    batches = [[_record(0), _record(1, topic="p.pns.y.v1", value=b"\x00\xff")], [_record(2)]]
    for batch in batches:
        log.append(batch)
    stored = reader.read(0)
    assert [Record(topic=s.topic, key=s.key, value=s.value, headers=s.headers) for s in stored] == [
        record for batch in batches for record in batch
    ]
    assert [s.offset for s in stored] == [1, 2, 3]
    assert not any(s.damaged for s in stored)


def test_every_record_says_when_it_was_taken(
    log: EventLog, reader: EventLogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_790_000_000_123_999_999)
    log.append([_record()])
    assert reader.read(1)[0].timestamp_ms == 1_790_000_000_123


def test_read_starts_at_the_offset_and_stops_at_the_limit(
    log: EventLog, reader: EventLogReader
) -> None:
    log.append([_record(n) for n in range(5)])
    assert [s.offset for s in reader.read(2, limit=3)] == [2, 3, 4]
    assert reader.read(6) == []


def test_empty_log_has_empty_bounds(reader: EventLogReader) -> None:
    assert reader.bounds() == LogBounds(first=1, next=1)
    assert reader.read(0) == []


def test_empty_batch_appends_nothing(log: EventLog, reader: EventLogReader) -> None:
    log.append([])
    assert reader.bounds() == LogBounds(first=1, next=1)


def test_batch_with_a_bad_record_leaves_nothing_behind(
    log: EventLog, reader: EventLogReader
) -> None:
    bad = Record(topic=None, key=b"", value=b"")  # type: ignore[arg-type]
    with pytest.raises((sqlite3.Error, AttributeError)):
        log.append([_record(), bad])
    assert reader.read(0) == []
    log.append([_record(1)])
    assert [s.key for s in reader.read(0)] == [b"key-1"]


def test_trim_removes_the_oldest_and_moves_the_first_bound(
    log: EventLog, reader: EventLogReader
) -> None:
    log.append([_record(n) for n in range(5)])
    assert log.trim(before_ms=_FAR_FUTURE_MS, limit=2) == 2
    assert reader.bounds() == LogBounds(first=3, next=6)
    assert [s.offset for s in reader.read(0)] == [3, 4, 5]


def test_trim_keeps_what_is_young_enough(
    log: EventLog, reader: EventLogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at_ms in (1_000, 2_000, 3_000):
        monkeypatch.setattr("time.time_ns", lambda at_ms=at_ms: at_ms * 1_000_000)
        log.append([_record()])
    assert log.trim(before_ms=2_000) == 1
    assert log.trim(before_ms=2_000) == 0
    assert reader.bounds() == LogBounds(first=2, next=4)


def test_trim_spares_young_records_when_the_clock_went_back(
    log: EventLog, reader: EventLogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at_ms in (9_000, 1_000):  # a machine that wakes up without the time
        monkeypatch.setattr("time.time_ns", lambda at_ms=at_ms: at_ms * 1_000_000)
        log.append([_record(at_ms)])
    log.trim(before_ms=5_000)
    assert b"key-9000" in [s.key for s in reader.read(0)]


def test_offsets_are_never_given_out_again(path: Path) -> None:
    with closing(EventLog.open(path, max_bytes=_ROOMY)) as log:
        log.append([_record(n) for n in range(3)])
        assert log.trim(before_ms=_FAR_FUTURE_MS) == 3
    with closing(EventLog.open(path, max_bytes=_ROOMY)) as log:
        log.append([_record()])
    with closing(EventLogReader.open(path)) as reader:
        assert reader.bounds() == LogBounds(first=4, next=5)
        assert [s.offset for s in reader.read(0)] == [4]


def test_reopened_log_keeps_its_id_and_records(path: Path) -> None:
    ids = set()
    for n in range(3):
        with closing(EventLog.open(path, max_bytes=_ROOMY)) as log:
            log.append([_record(n)])
        with closing(EventLogReader.open(path)) as reader:
            ids.add(reader.log_id)
            assert len(reader.read(0)) == n + 1
    assert len(ids) == 1


def test_two_logs_have_different_ids(tmp_path: Path) -> None:
    ids = []
    for name in ("a", "b"):
        EventLog.open(tmp_path / name, max_bytes=_ROOMY).close()
        with closing(EventLogReader.open(tmp_path / name)) as reader:
            ids.append(reader.log_id)
    assert ids[0] != ids[1]


def test_full_log_refuses_and_keeps_what_it_has(path: Path) -> None:
    with closing(EventLog.open(path, max_bytes=1 << 20)) as log:
        accepted = _fill(log)
        with pytest.raises(LogFull):
            log.append([_record()])
        with pytest.raises(LogFull):
            log.probe()
    with closing(EventLogReader.open(path)) as reader:
        assert len(reader.read(0, limit=10_000)) == accepted


@pytest.mark.parametrize("max_bytes", [1 << 20, 2 << 20, 16 << 20])
def test_full_log_takes_records_again_after_a_trim(path: Path, max_bytes: int) -> None:
    with closing(EventLog.open(path, max_bytes=max_bytes)) as log:
        _fill(log)
        while log.trim(before_ms=_FAR_FUTURE_MS):
            pass
        log.probe()
        log.append([_record()])


def test_full_log_stays_full_until_there_is_room_for_a_large_record(path: Path) -> None:
    with closing(EventLog.open(path, max_bytes=1 << 20)) as log:
        _fill(log, at_once=1)
        removed_bytes, is_full = 0, True
        while is_full:
            removed_bytes += 4_000 * log.trim(before_ms=_FAR_FUTURE_MS, limit=1)
            with contextlib.suppress(LogFull):
                log.probe()
                is_full = False
        assert removed_bytes > PROBE_BYTES - 8_000


def test_probe_writes_as_much_as_a_large_record_takes_and_leaves_nothing(
    log: EventLog, path: Path
) -> None:
    log.probe()
    assert path.with_name(path.name + "-wal").stat().st_size > PROBE_BYTES
    used_bytes = log.used_bytes()
    for _ in range(3):
        log.probe()
    log._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    assert log.used_bytes() < used_bytes - PROBE_BYTES
    pages = log._connection.execute("pragma page_count").fetchone()[0]
    log._connection.execute("pragma incremental_vacuum")
    log._connection.execute(f"pragma max_page_count = {pages // 2}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        log.probe()


def _fill(log: EventLog, *, at_once: int = 64) -> int:
    accepted = 0
    with contextlib.suppress(LogFull):
        while True:
            log.append([_record(value=b"x" * 4_000)] * at_once)
            accepted += at_once
    return accepted


def test_used_bytes_count_the_write_ahead_log(log: EventLog, path: Path) -> None:
    before = log.used_bytes()
    log.append([_record(value=b"x" * 100_000)])
    assert log.used_bytes() >= before + 100_000
    assert log.used_bytes() >= path.with_name(path.name + "-wal").stat().st_size


def test_probe_appends_no_record(log: EventLog, reader: EventLogReader) -> None:
    log.probe()
    log.probe()
    assert reader.bounds().next == 1


def test_two_readers_follow_while_the_log_is_written(path: Path, log: EventLog) -> None:
    first, second = (EventLogReader.open(path) for _ in range(2))
    with closing(first), closing(second):
        for n in range(1, 4):
            log.append([_record(n)])
            assert [s.offset for s in first.read(n)] == [n]
        assert [s.offset for s in second.read(0)] == [1, 2, 3]


def test_reader_cannot_write(log: EventLog, reader: EventLogReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("delete from record")


def test_reader_opens_a_log_that_nobody_writes(path: Path) -> None:
    with closing(EventLog.open(path, max_bytes=_ROOMY)) as log:
        log.append([_record()])
    with closing(EventLogReader.open(path)) as reader:
        assert len(reader.read(0)) == 1


@pytest.mark.parametrize(
    "change",
    [
        "value = x'7b7e'",
        "key = x'00'",
        "topic = 'p.live-events.y.v1'",
        "headers = x'5b5d'",
        "headers = x'ff'",
        "crc32 = crc32 + 1",
        "topic = cast(x'ff' as text)",
    ],
)
def test_damaged_record_is_flagged_and_its_neighbours_are_not(
    path: Path, log: EventLog, reader: EventLogReader, change: str
) -> None:
    log.append([_record(n) for n in range(3)])
    _alter(path, f"update record set {change} where id = 2")
    assert [s.damaged for s in reader.read(0)] == [False, True, False]


def test_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogFileError, match=r"no event log at .*absent"):
        EventLogReader.open(tmp_path / "absent")


def test_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(LogFileError):
        EventLogReader.open(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_no_database_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy milk " * 200)
    with pytest.raises(LogFileError, match="cannot be used as an event log"):
        EventLog.open(path, max_bytes=_ROOMY)
    with pytest.raises(LogFileError, match="cannot be used as an event log"):
        EventLogReader.open(path)
    assert path.read_text() == "buy milk " * 200


def test_database_of_another_program_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    _alter(path, "create table shopping (item text)")
    before = path.read_bytes()
    for opening in _OPENINGS:
        with pytest.raises(LogFileError, match="is not an event log"):
            opening(path)
    assert path.read_bytes() == before


def test_log_of_a_later_release_is_refused(path: Path) -> None:
    EventLog.open(path, max_bytes=_ROOMY).close()
    _alter(path, f"pragma user_version = {FORMAT.version + 1}")
    for opening in _OPENINGS:
        with pytest.raises(LogFileError, match="later release"):
            opening(path)


def test_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogFileError):
        EventLog.open(tmp_path, max_bytes=_ROOMY)
    with pytest.raises(LogFileError):
        EventLogReader.open(tmp_path)
