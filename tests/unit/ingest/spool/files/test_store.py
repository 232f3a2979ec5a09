"""The spool's file, on a real disk."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from ingest.contract.eventlog import eventlog, logfile
from ingest.contract.eventlog.logfile import LogFileError, LogFull
from ingest.spool.files.ownership import LOCK_NAME, Owner, Ownership, owner
from ingest.spool.files.rows import Held, HeldToken, TokenCount, TopicCount
from ingest.spool.files.store import FILE_NAME, SpoolFile
from tests.unit.ingest.publishing.fakes import (
    OTHER_TOPIC,
    ROOMY,
    TOPIC,
    number,
    record,
    spooled,
    token,
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


def _numbers(held: Sequence[Held | HeldToken]) -> list[int]:
    return [number(each) for each in held]


def _append(file: SpoolFile, *numbers: int, topic: str = TOPIC) -> None:
    file.append([spooled(n, topic=topic) for n in numbers], max_bytes=ROOMY)


def test_records_are_read_whole_oldest_first_with_their_source(file: SpoolFile) -> None:
    items = [spooled(0), spooled(1, "pns", topic=OTHER_TOPIC), spooled(2)]
    file.append(items[:2], max_bytes=ROOMY)
    file.append(items[2:], max_bytes=ROOMY)
    held = _all(file)
    assert [each.record for each in held] == [item.record for item in items]
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


def test_topics_are_read_alone_or_together_oldest_first(file: SpoolFile) -> None:
    third = "p.live-events.user-created.v1"
    for n in range(12):
        _append(file, n, topic=(TOPIC, OTHER_TOPIC, third)[n % 3])
    two = (third, TOPIC)
    assert _numbers(file.read_topics([TOPIC], after=0, limit=9, max_bytes=ROOMY)) == [0, 3, 6, 9]
    assert _numbers(file.read_topics(two, after=3, limit=3, max_bytes=ROOMY)) == [3, 5, 6]
    assert _numbers(file.read_topics(two, after=3, limit=3, max_bytes=1)) == [3]
    assert file.read_topics([], after=0, limit=3, max_bytes=ROOMY) == []


def test_reading_some_topics_touches_no_record_of_another(path: Path, file: SpoolFile) -> None:
    """As millions of them may wait there: their rows are damaged here, and nobody notices."""
    for start in range(0, 2_000, 200):
        _append(file, *range(start, start + 200), topic=TOPIC)
    _append(file, 2_000, topic=OTHER_TOPIC)
    file.append([token(7)], max_bytes=ROOMY)
    steps = _steps(file, lambda: file.read_topics([OTHER_TOPIC], after=0, limit=9, max_bytes=ROOMY))
    assert steps < 200
    assert _steps(file, lambda: file.read_tokens(after=0, limit=9, max_bytes=ROOMY)) < 200
    assert _steps(file, lambda: file.forget_tokens([1])) < 200
    assert _steps(file, file.oldest_ms) < 200


def _steps(file: SpoolFile, work: Callable[[], object]) -> int:
    """How many of SQLite's own steps it takes, where one row costs several."""
    count = [0]

    def step() -> int:
        count[0] += 1
        return 0

    file._connection.set_progress_handler(step, 1)
    try:
        work()
    finally:
        file._connection.set_progress_handler(None, 0)
    assert count[0] > 0
    return count[0]


def test_counting_reads_no_record_but_the_index(path: Path, file: SpoolFile) -> None:
    _append(file, *range(50))
    file._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    (page,) = file._connection.execute(
        "select rootpage from sqlite_schema where name = 'record'"
    ).fetchone()
    with path.open("r+b") as raw:
        raw.seek((page - 1) * 4_096)
        raw.write(b"\xa5" * 4_096)
    file._connection.execute("pragma shrink_memory")
    assert [count.records for count in file.contents().records] == [50]
    with pytest.raises(sqlite3.DatabaseError):
        _all(file)


def test_tokens_are_read_whole_oldest_first_apart_from_records(file: SpoolFile) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    came = [token(0), replace(token(1, "pns"), traceparent=trace), token(2, size_bytes=9_000)]
    file.append([spooled(5), *came[:2], spooled(6)], max_bytes=ROOMY)
    file.append(came[2:], max_bytes=ROOMY)
    held = file.read_tokens(after=0, limit=9, max_bytes=ROOMY)
    assert [each.request for each in held] == came
    assert not any(each.damaged for each in held)
    assert _numbers(_all(file)) == [5, 6]
    assert [each.id for each in file.read_tokens(after=1, limit=1, max_bytes=ROOMY)] == [2]
    file.forget_tokens([1, 3])
    assert [each.id for each in file.read_tokens(after=0, limit=9, max_bytes=ROOMY)] == [2]
    assert _numbers(_all(file)) == [5, 6]


@pytest.mark.parametrize(
    "change",
    ["token = x'00'", "source = 'live-events'", "received_at = 1.0", "traceparent = 'x'"],
)
def test_token_of_which_a_column_changed_is_damaged(
    path: Path, file: SpoolFile, change: str
) -> None:
    file.append([token(0, "pns"), token(1, "pns")], max_bytes=ROOMY)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"update token set {change} where id = 1")
    held = file.read_tokens(after=0, limit=9, max_bytes=ROOMY)
    assert [each.damaged for each in held] == [True, False]


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


def test_contents_are_counted_by_topic_and_source(file: SpoolFile) -> None:
    items = [spooled(0), spooled(1), spooled(2, "pns"), spooled(3, "pns", topic=OTHER_TOPIC)]
    file.append([*items, token(4), token(55)], max_bytes=ROOMY)
    sizes = [item.size_bytes for item in items]
    found = file.contents()
    assert sorted(found.records, key=repr) == sorted(
        [
            TopicCount(topic=TOPIC, source="live-events", records=2, size_bytes=sum(sizes[:2])),
            TopicCount(topic=TOPIC, source="pns", records=1, size_bytes=sizes[2]),
            TopicCount(topic=OTHER_TOPIC, source="pns", records=1, size_bytes=sizes[3]),
        ],
        key=repr,
    )
    assert found.tokens == [TokenCount(source="live-events", tokens=2, size_bytes=3)]


def test_ids_stay_given_when_what_had_them_is_gone(path: Path, file: SpoolFile) -> None:
    assert file.last_token_id() == 0
    file.append([spooled(0), spooled(1), token(0)], max_bytes=ROOMY)
    file.forget([1, 2])
    file.forget_tokens([1])
    assert file.last_token_id() == 1
    file.close()
    with closing(SpoolFile.open(path)) as again:
        again.append([spooled(5), token(5)], max_bytes=ROOMY)
        assert [held.stored.offset for held in _all(again)] == [3]
        assert again.last_token_id() == 2


def test_oldest_is_the_first_that_is_left(file: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file.oldest_ms() is None
    for at_ms in (5_000, 6_000):
        monkeypatch.setattr("time.time_ns", lambda at_ms=at_ms: at_ms * 1_000_000)
        _append(file, at_ms)
    assert file.oldest_ms() == 5_000
    file.forget([1])
    assert file.oldest_ms() == 6_000
    file.append([replace(token(), received_at=5.5)], max_bytes=ROOMY)
    assert file.oldest_ms() == 5_500


def test_damaged_rows_are_moved_where_no_read_meets_them(path: Path, file: SpoolFile) -> None:
    file.append([*map(spooled, range(3)), token(0), token(1)], max_bytes=ROOMY)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("update record set value = x'00' where id = 2")
        other.execute("update token set token = x'00' where id = 1")
    assert [held.damaged for held in _all(file)] == [False, True, False]
    file.move_damaged("record", [2])
    file.move_damaged("token", [1])
    assert _numbers(_all(file)) == [0, 2]
    assert [held.id for held in file.read_tokens(after=0, limit=9, max_bytes=ROOMY)] == [2]
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("select id, hex(value) from damaged_record").fetchall() == [(2, "00")]
        assert other.execute("select id, hex(token) from damaged_token").fetchall() == [(1, "00")]


def test_probe_leaves_nothing(file: SpoolFile) -> None:
    used_bytes = file.usage.used_bytes()
    file.probe()
    file._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    assert file.usage.used_bytes() <= used_bytes
    assert (file.contents().records, file.contents().tokens) == ([], [])


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
    logfile.open_for_writing(path, eventlog.FORMAT).close()
    before = path.read_bytes()
    with pytest.raises(LogFileError, match="is not a spool"):
        SpoolFile.open(path)
    assert path.read_bytes() == before


def test_directory_has_one_owner_until_it_lets_go(tmp_path: Path) -> None:
    first = Ownership(tmp_path / "spool")
    with pytest.raises(LogFileError, match=f"in use by process {os.getpid()}"):
        Ownership(tmp_path / "spool")
    assert owner(tmp_path / "spool") == Owner(pid=os.getpid())
    first.close()
    Ownership(tmp_path / "spool").close()


def test_lock_of_a_dead_owner_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("999999999")
    assert owner(tmp_path) is None
    second = Ownership(tmp_path)
    assert owner(tmp_path) == Owner(pid=os.getpid())
    second.close()
    assert owner(tmp_path) is None


@pytest.mark.parametrize("text", ["", "nobody", "0"])
def test_owner_that_is_not_written_down_is_unknown(tmp_path: Path, text: str) -> None:
    ownership = Ownership(tmp_path)
    (tmp_path / LOCK_NAME).write_text(text)
    assert owner(tmp_path) == Owner(pid=None)
    ownership.close()
    assert owner(tmp_path / "absent") is None
