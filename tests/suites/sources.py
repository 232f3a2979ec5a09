"""What every source does: subclass `SourceBehaviour` and provide the fixture `journal`."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import pytest

from consumers.errors import OffsetOutOfRange
from consumers.sources.base import Source, StoredOffsets, WatchedSource
from consumers.values import NextOffsets, Partition
from ingest.contract.record import Record, StoredRecord
from ingest.contract.topics import quarantine_topic
from tests.unit.consumers.builders import event_record

TIMEOUT_S = 60.0
POLL_S = 0.2


class Journal(Protocol):
    """A log under test, empty at first; its topics begin with `prefix`."""

    prefix: str

    async def append(self, records: Sequence[Record]) -> None:
        """Appends in order, making topics that are missing."""
        ...

    async def source(self, stored_offsets: StoredOffsets) -> WatchedSource:
        """An opened source; the journal closes it."""
        ...

    async def close(self, source: Source) -> None:
        """Closes a source earlier than the journal does."""
        ...


class Reading:
    """What a source has given so far."""

    def __init__(self, source: WatchedSource) -> None:
        self.source = source
        self.records: list[StoredRecord] = []
        self.next_offsets: dict[Partition, int] = {}

    async def until(self, count: int) -> list[bytes]:
        """Polls until there are `count` records; returns all values so far."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.records) < count:
                polled = await self.source.poll(timeout_s=POLL_S)
                self.records.extend(polled.records)
                self.next_offsets |= polled.next_offsets
        return [record.value for record in self.records]


def stored(offsets: NextOffsets | None = None) -> StoredOffsets:
    """What a sink would answer that has stored these offsets."""

    async def answer(source_id: str) -> NextOffsets:
        return offsets or {}

    return answer


async def reading(journal: Journal, offsets: NextOffsets | None = None) -> Reading:
    """A source that begins at these offsets."""
    return Reading(await journal.source(stored(offsets)))


class SourceBehaviour:
    """Reads everything that is ours once, from where the tables end."""

    async def test_records_come_whole(self, journal: Journal) -> None:
        record = event_record(1, journal.prefix)
        await journal.append([record])
        read = await reading(journal)
        await read.until(1)
        (came,) = read.records
        assert (came.topic, came.key, came.value) == (record.topic, record.key, record.value)
        assert came.headers == record.headers
        assert came.timestamp_ms > 1_600_000_000_000
        assert not came.damaged

    async def test_all_topics_are_read_from_their_beginning(self, journal: Journal) -> None:
        records = [event_record(n, journal.prefix) for n in range(30)]
        await journal.append(records)
        values = await (await reading(journal)).until(30)
        assert sorted(values) == sorted(record.value for record in records)

    async def test_a_partition_is_read_in_order(self, journal: Journal) -> None:
        await journal.append([event_record(n, journal.prefix) for n in range(30)])
        read = await reading(journal)
        await read.until(30)
        offsets: dict[Partition, list[int]] = {}
        for record in read.records:
            offsets.setdefault(Partition(record.topic, record.partition), []).append(record.offset)
        assert all(seen == sorted(set(seen)) for seen in offsets.values())
        last = {partition: seen[-1] + 1 for partition, seen in offsets.items()}
        assert read.next_offsets == last

    async def test_what_comes_later_is_read_too(self, journal: Journal) -> None:
        await journal.append([event_record(0, journal.prefix)])
        read = await reading(journal)
        await read.until(1)
        later = event_record(3, journal.prefix)
        await journal.append([later])
        assert (await read.until(2))[1:] == [later.value]

    async def test_a_topic_made_later_is_read_from_its_beginning(self, journal: Journal) -> None:
        await journal.append([event_record(0, journal.prefix)])
        read = await reading(journal)
        await read.until(1)
        later = event_record(1, journal.prefix)
        await journal.append([later])
        # a rebalance may bring what was read before once more: an epoch is over
        while later.value not in await read.until(len(read.records) + 1):
            pass

    async def test_reading_goes_on_at_the_stored_offsets(self, journal: Journal) -> None:
        await journal.append([event_record(n, journal.prefix) for n in range(9)])
        first = await reading(journal)
        await first.until(9)
        await journal.close(first.source)
        marker = event_record(9, journal.prefix)
        await journal.append([marker])
        second = await reading(journal, first.next_offsets)
        assert await second.until(1) == [marker.value]

    async def test_topics_that_are_not_ours_are_left_out(self, journal: Journal) -> None:
        other = Record(topic=quarantine_topic(journal.prefix), key=b"k", value=b"a token")
        foreign = event_record(0, journal.prefix + ".other")
        marker = event_record(1, journal.prefix)
        await journal.append([other, foreign, marker])
        assert await (await reading(journal)).until(1) == [marker.value]

    async def test_a_stored_offset_beyond_the_log_is_an_error(self, journal: Journal) -> None:
        record = event_record(0, journal.prefix)
        await journal.append([record])
        beyond = {Partition(record.topic, 0): 1_000}
        with pytest.raises(OffsetOutOfRange, match="1000"):
            await (await reading(journal, beyond)).until(1)

    async def test_the_source_id_stays(self, journal: Journal) -> None:
        await journal.append([event_record(0, journal.prefix)])
        first, second = await reading(journal), await reading(journal)
        assert first.source.source_id == second.source.source_id != ""

    async def test_nothing_new_is_no_error(self, journal: Journal) -> None:
        await journal.append([event_record(0, journal.prefix)])
        read = await reading(journal)
        await read.until(1)
        assert not (await read.source.poll(timeout_s=0.01)).records

    async def test_lag_is_what_is_left_to_read(self, journal: Journal) -> None:
        await journal.append([event_record(n, journal.prefix) for n in range(6)])
        read = await reading(journal)
        await read.until(6)
        assert read.source.lag_records == 0

    async def test_lag_is_known_while_nobody_polls(self, journal: Journal) -> None:
        await journal.append([event_record(n, journal.prefix) for n in range(3)])
        read = await reading(journal)
        await read.until(3)
        watching = asyncio.create_task(read.source.watch_end())
        await journal.append([event_record(n, journal.prefix) for n in range(3, 7)])
        async with asyncio.timeout(TIMEOUT_S):
            while read.source.lag_records != 4:  # noqa: ASYNC110 - a source tells nobody
                await asyncio.sleep(0.02)
        watching.cancel()
        await asyncio.wait([watching])

    async def test_committing_changes_nothing_for_the_reader(self, journal: Journal) -> None:
        await journal.append([event_record(0, journal.prefix)])
        read = await reading(journal)
        await read.until(1)
        await read.source.commit(read.next_offsets)
        later = event_record(3, journal.prefix)
        await journal.append([later])
        assert (await read.until(2))[1:] == [later.value]
