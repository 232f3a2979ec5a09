"""The spool's file, on a real disk."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import LogFileError, LogFull
from ingest.spool.recover import as_record
from ingest.spool.store import (
    DEFERRED,
    FILE_NAME,
    LOCK_NAME,
    Held,
    Holding,
    Ownership,
    SpoolFile,
    owner_of,
)
from tests.unit.ingest.publishing.fakes import (
    OTHER_TOPIC,
    ROOMY,
    TOPIC,
    number,
    record,
    spooled,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / FILE_NAME


@pytest.fixture
def file(path: Path) -> Iterator[SpoolFile]:
    with closing(SpoolFile.open(path)) as opened:
        yield opened


def _all(file: SpoolFile) -> list[Held]:
    return file.read(after=0, limit=10_000, max_bytes=ROOMY)


def _numbers(held: list[Held]) -> list[int]:
    return [number(each) for each in held]


def _append(file: SpoolFile, *numbers: int, topic: str = TOPIC) -> None:
    file.append([spooled(n, topic=topic) for n in numbers], max_bytes=ROOMY)


def test_records_are_read_whole_oldest_first_with_their_source(file: SpoolFile) -> None:
    items = [spooled(0), spooled(1, "pns", topic=OTHER_TOPIC), spooled(2)]
    file.append(items[:2], max_bytes=ROOMY)
    file.append(items[2:], max_bytes=ROOMY)
    held = _all(file)
    assert [as_record(each.stored) for each in held] == [item.record for item in items]
    assert [each.source for each in held] == ["live-events", "pns", "live-events"]
    assert [each.stored.offset for each in held] == [1, 2, 3]
    assert [each.size_bytes for each in held] == [item.size_bytes for item in items]


def test_another_process_sees_what_was_appended_at_once(path: Path, file: SpoolFile) -> None:
    _append(file, 0, 1)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("select count(*) from record").fetchone() == (2,)


def test_read_begins_after_the_id_and_stops_at_either_bound(file: SpoolFile) -> None:
    _append(file, *range(10))
    assert _numbers(file.read(after=3, limit=3, max_bytes=ROOMY)) == [3, 4, 5]
    assert _numbers(file.read(after=0, limit=5, max_bytes=1)) == [0]
    size_bytes = len(record(0).value)
    assert _numbers(file.read(after=0, limit=5, max_bytes=2 * size_bytes)) == [0, 1]
    assert file.read(after=10, limit=5, max_bytes=ROOMY) == []


def test_topics_can_be_left_out_or_read_alone(file: SpoolFile) -> None:
    _append(file, 0, 2, topic=TOPIC)
    _append(file, 1, 3, topic=OTHER_TOPIC)
    _append(file, 4, topic=DEFERRED)
    without = file.read(after=0, limit=9, max_bytes=ROOMY, without=(OTHER_TOPIC, DEFERRED))
    assert _numbers(without) == [0, 2]
    assert _numbers(file.read_only(OTHER_TOPIC, after=3, limit=9, max_bytes=ROOMY)) == [3]
    assert _numbers(file.read_only(DEFERRED, after=0, limit=9, max_bytes=ROOMY)) == [4]


def test_forgotten_records_are_gone_and_others_are_not(file: SpoolFile) -> None:
    _append(file, *range(5))
    file.forget([2, 4])
    file.forget([2])  # a repeat changes nothing
    assert _numbers(_all(file)) == [0, 2, 4]


def test_bound_refuses_all_of_a_batch_and_leaves_the_file_as_it_was(file: SpoolFile) -> None:
    _append(file, 0)
    used_bytes = file.usage.used_bytes()
    batch = [spooled(1), spooled(2)]
    room = sum(item.size_bytes for item in batch)
    with pytest.raises(LogFull):
        file.append(batch, max_bytes=used_bytes + room - 1)
    assert _numbers(_all(file)) == [0]
    assert file.append(batch, max_bytes=used_bytes + room) == used_bytes + room
    assert _numbers(_all(file)) == [0, 1, 2]


def test_holdings_count_records_and_bytes_by_topic_and_source(file: SpoolFile) -> None:
    items = [spooled(0), spooled(1), spooled(2, "pns"), spooled(3, "pns", topic=DEFERRED)]
    file.append(items, max_bytes=ROOMY)
    sizes = [item.size_bytes for item in items]
    expected = [
        Holding(topic=TOPIC, source="live-events", records=2, size_bytes=sum(sizes[:2])),
        Holding(topic=TOPIC, source="pns", records=1, size_bytes=sizes[2]),
        Holding(topic=DEFERRED, source="pns", records=1, size_bytes=sizes[3]),
    ]
    assert sorted(file.holdings(), key=repr) == sorted(expected, key=repr)


def test_last_id_stays_when_its_record_is_gone(path: Path, file: SpoolFile) -> None:
    assert file.last_id() == 0
    _append(file, 0, 1)
    file.forget([1, 2])
    assert file.last_id() == 2
    file.close()
    with closing(SpoolFile.open(path)) as again:
        _append(again, 5)
        assert [held.stored.offset for held in _all(again)] == [3]


def test_oldest_is_the_first_that_is_left(file: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file.oldest_ms() is None
    for at_ms in (5_000, 6_000):
        monkeypatch.setattr("time.time_ns", lambda at_ms=at_ms: at_ms * 1_000_000)
        _append(file, at_ms)
    assert file.oldest_ms() == 5_000
    file.forget([1])
    assert file.oldest_ms() == 6_000


def test_notes_are_kept_and_replaced(path: Path, file: SpoolFile) -> None:
    assert file.note("watch") is None
    file.keep_note("watch", "first")
    file.keep_note("watch", "größe")
    file.close()
    with closing(SpoolFile.open(path)) as again:
        assert again.note("watch") == "größe"


def test_damaged_records_are_set_apart_where_no_read_meets_them(
    path: Path, file: SpoolFile
) -> None:
    _append(file, 0, 1, 2)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("update record set value = x'00' where id = 2")
    assert [held.stored.damaged for held in _all(file)] == [False, True, False]
    file.set_apart([2])
    assert _numbers(_all(file)) == [0, 2]
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("select id, hex(value) from damaged").fetchall() == [(2, "00")]


def test_freed_space_is_given_back_slice_by_slice(path: Path, file: SpoolFile) -> None:
    for n in range(20):
        file.append([spooled(n, topic="x" * 3_000) for _ in range(64)], max_bytes=ROOMY)
    before = file.usage.file_bytes()
    for start in range(0, 1_280, 256):
        file.forget(list(range(start + 1, start + 257)))
    slices = 1
    while file.give_back(64):
        slices += 1
    assert slices > 3
    assert file.usage.file_bytes() < before / 20
    assert path.stat().st_size + file.usage.wal_bytes() == file.usage.file_bytes()


def test_giving_back_loses_nothing(file: SpoolFile) -> None:
    _append(file, *range(200))
    file.forget([n for n in range(1, 201) if n % 7])
    while file.give_back(1):
        pass
    assert _numbers(_all(file)) == [n - 1 for n in range(1, 201) if not n % 7]


def test_full_disk_changes_nothing(file: SpoolFile) -> None:
    _append(file, 0)
    connection = file._connection
    pages = connection.execute("pragma page_count").fetchone()[0]
    connection.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full") as caught:
        file.append([spooled(n) for n in range(1, 200)], max_bytes=ROOMY)
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    assert _numbers(_all(file)) == [0]
    connection.execute("pragma max_page_count = 1000000")
    _append(file, 1)
    assert _numbers(_all(file)) == [0, 1]


def test_file_that_is_no_spool_is_refused_and_untouched(path: Path) -> None:
    path.parent.mkdir()
    logfile.open_for_writing(path, "event log").close()
    before = path.read_bytes()
    with pytest.raises(LogFileError, match="is not a spool"):
        SpoolFile.open(path)
    assert path.read_bytes() == before


def test_directory_has_one_owner_until_it_lets_go(tmp_path: Path) -> None:
    first = Ownership(tmp_path / "spool")
    with pytest.raises(LogFileError, match=f"in use by process {os.getpid()}"):
        Ownership(tmp_path / "spool")
    assert owner_of(tmp_path / "spool") == os.getpid()
    first.close()
    Ownership(tmp_path / "spool").close()


def test_lock_of_a_dead_owner_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("999999999")
    second = Ownership(tmp_path)
    assert owner_of(tmp_path) == os.getpid()
    second.close()


@pytest.mark.parametrize("text", ["", "nobody", "0"])
def test_owner_that_is_not_written_down_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_NAME).write_text(text)
    assert owner_of(tmp_path) is None
    assert owner_of(tmp_path / "absent") is None
