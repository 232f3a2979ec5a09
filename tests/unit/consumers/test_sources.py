"""The sources that need nothing but a directory, against the suite of all sources."""

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from consumers.errors import OffsetOutOfRange, StartupError
from consumers.sources import embedded
from consumers.sources.base import Source, StoredOffsets
from consumers.sources.embedded import EmbeddedSource
from consumers.values import Partition
from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from ingest.contract.record import Record, StoredRecord
from ingest.contract.topics import event_topic_pattern, quarantine_topic
from tests.suites.sources import Reading, SourceBehaviour, reading, stored
from tests.unit.consumers.builders import PREFIX, event_record, stored_as
from tests.unit.consumers.fakes import MemorySource


class MemoryJournal:
    """A list; what is not ours never gets into it."""

    prefix = PREFIX

    def __init__(self) -> None:
        self._records: list[StoredRecord] = []

    async def append(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.topic.startswith((f"{PREFIX}.live-events", f"{PREFIX}.pns")):
                self._records.append(stored_as(record, len(self._records)))

    async def source(self, stored_offsets: StoredOffsets) -> MemorySource:
        source = MemorySource(self._records, stored_offsets=stored_offsets)
        await source.open()
        return source

    async def close(self, source: Source) -> None:
        await source.close()


class EmbeddedJournal:
    """A log file that the test writes as the receiver would."""

    prefix = PREFIX

    def __init__(self, data_dir: Path, sources: AsyncExitStack) -> None:
        self.path = data_dir / FILE_NAME
        self.log = EventLog.open(self.path, max_bytes=2**40)
        self._sources = sources

    async def append(self, records: Sequence[Record]) -> None:
        self.log.append(records)

    async def source(self, stored_offsets: StoredOffsets) -> EmbeddedSource:
        source = embedded_source(self.path, stored_offsets)
        self._sources.push_async_callback(source.close)
        await source.open()
        return source

    async def close(self, source: Source) -> None:
        """The journal does it."""


def embedded_source(
    path: Path, stored_offsets: StoredOffsets, *, retention_s: float = math.inf
) -> EmbeddedSource:
    return EmbeddedSource(
        path,
        topic_pattern=event_topic_pattern(PREFIX),
        stored_offsets=stored_offsets,
        retention_s=retention_s,
    )


class TestMemorySource(SourceBehaviour):
    @pytest.fixture
    def journal(self) -> MemoryJournal:
        return MemoryJournal()


class TestEmbeddedSource(SourceBehaviour):
    @pytest.fixture
    async def journal(self, tmp_path: Path) -> AsyncIterator[EmbeddedJournal]:
        async with AsyncExitStack() as sources:
            journal = EmbeddedJournal(tmp_path, sources)
            sources.callback(journal.log.close)
            yield journal

    async def test_what_is_not_ours_is_covered_by_the_offsets(
        self, journal: EmbeddedJournal
    ) -> None:
        topic = quarantine_topic(PREFIX)
        await journal.append([event_record(0), Record(topic=topic, key=b"k", value=b"v")])
        read = await reading(journal)
        await read.until(1)
        assert read.next_offsets[Partition(topic, 0)] == 3

    async def test_a_damaged_record_is_given_out_as_damaged_whatever_its_topic(
        self, journal: EmbeddedJournal
    ) -> None:
        await journal.append([event_record(0), event_record(1)])
        with sqlite3.connect(journal.path) as connection:
            connection.execute("update record set topic = 'scrambled' where id = 1")
        connection.close()
        read = await reading(journal)
        await read.until(2)
        assert [record.damaged for record in read.records] == [True, False]

    async def test_a_stored_offset_that_was_trimmed_away_is_an_error(
        self, journal: EmbeddedJournal
    ) -> None:
        await journal.append([event_record(n) for n in range(10)])
        journal.log.trim(before_ms=_after_now_ms(), limit=6)
        with pytest.raises(OffsetOutOfRange, match=r"offset 3\b.*holds 7 up to 11"):
            await journal.source(stored({Partition(event_record(0).topic, 0): 3}))

    async def test_trimming_what_was_read_is_no_error(self, journal: EmbeddedJournal) -> None:
        await journal.append([event_record(n) for n in range(10)])
        journal.log.trim(before_ms=_after_now_ms(), limit=6)
        source = await journal.source(stored({Partition(event_record(0).topic, 0): 7}))
        assert len(await Reading(source).until(4)) == 4

    async def test_a_log_trimmed_before_the_first_start_is_read_from_what_is_left(
        self, journal: EmbeddedJournal
    ) -> None:
        await journal.append([event_record(n) for n in range(10)])
        journal.log.trim(before_ms=_after_now_ms(), limit=6)
        assert len(await (await reading(journal)).until(4)) == 4

    async def test_trimming_past_a_running_reader_stops_it(self, journal: EmbeddedJournal) -> None:
        await journal.append([event_record(0)])
        read = await reading(journal)
        await read.until(1)
        await journal.append([event_record(n) for n in range(1, 9)])
        journal.log.trim(before_ms=_after_now_ms(), limit=5)
        with pytest.raises(OffsetOutOfRange):
            await read.until(2)

    async def test_what_is_not_written_is_lost_when_the_retention_is_over(
        self, journal: EmbeddedJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "LOOK_AT_END_EVERY_S", 0.0)
        source = embedded_source(journal.path, stored(), retention_s=1_000)
        await journal.append([event_record(n) for n in range(3)])
        await source.open()
        watching = asyncio.create_task(source.watch_end())
        read = Reading(source)
        await read.until(3)
        await _until(lambda: source.seconds_to_loss < math.inf)
        assert 900 < source.seconds_to_loss <= 1_000
        _age(journal.path, by_s=400)
        await _until(lambda: source.seconds_to_loss < 900)
        assert 500 < source.seconds_to_loss <= 600
        await source.commit(read.next_offsets)
        await _until(lambda: source.seconds_to_loss == math.inf)
        watching.cancel()
        await asyncio.wait([watching])
        await source.close()

    async def test_large_records_are_read_fewer_at_a_time(
        self, journal: EmbeddedJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "READ_BYTES", 3_000)
        monkeypatch.setattr(embedded, "READ_LIMIT", 4)
        records = [
            Record(topic=event_record(0).topic, key=b"", value=bytes([65 + n]) * 1_000)
            for n in range(12)
        ]
        await journal.append(records)
        source = await journal.source(stored())
        sizes = [len((await source.poll(timeout_s=0)).records) for _ in range(6)]
        assert sizes == [4, 2, 2, 2, 2, 0]


async def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    source = embedded_source(tmp_path / FILE_NAME, stored())
    opening = asyncio.create_task(source.open())
    await asyncio.sleep(0)
    assert not opening.done()
    log = EventLog.open(tmp_path / FILE_NAME, max_bytes=2**40)
    log.append([event_record(0)])
    await opening
    assert len(await Reading(source).until(1)) == 1
    await source.close()
    log.close()


async def test_a_file_that_is_no_log_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "UNREADABLE_S", 0.0)
    (tmp_path / FILE_NAME).write_bytes(b"no log at all" * 100)
    source = embedded_source(tmp_path / FILE_NAME, stored())
    with pytest.raises(StartupError, match=r"cannot be used|not an event log"):
        await source.open()
    await source.close()


async def test_an_orphaned_log_is_read_though_nobody_writes_it(tmp_path: Path) -> None:
    log = EventLog.open(tmp_path / FILE_NAME, max_bytes=2**40)
    log.append([event_record(0)])
    log.close()
    source = embedded_source(tmp_path / FILE_NAME, stored())
    await source.open()
    assert len(await Reading(source).until(1)) == 1
    await source.close()


def _age(path: Path, *, by_s: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update record set appended_ms = appended_ms - ?", (by_s * 1_000,))


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - a source tells nobody
            await asyncio.sleep(0.001)


def _after_now_ms() -> int:
    return time.time_ns() // 1_000_000 + 1_000
