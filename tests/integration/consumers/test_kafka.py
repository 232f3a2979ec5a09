"""Kafka as the source, as the place for dead letters, and a whole worker on it."""

import asyncio
import math
import re
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from consumers.dead_letters.dead_letter import DeadLetters, dead_letter_record, letters
from consumers.dead_letters.kafka import KafkaDeadLetters
from consumers.errors import OffsetOutOfRange
from consumers.sources import kafka, kafka_retention
from consumers.sources.base import Source, StoredOffsets
from consumers.sources.kafka import MAX_PARTITION_FETCH_BYTES, KafkaSource
from consumers.values import DeadLetter, Partition
from ingest.contract.record import Record
from ingest.contract.topics import MAX_MESSAGE_BYTES, dead_letter_topic, event_topic_pattern
from ingest.shared.kafka.clients import admin_client
from tests.integration.consumers.program import Program
from tests.suites.dead_letters import DeadLettersBehaviour, letter_record
from tests.suites.sources import SourceBehaviour, reading
from tests.unit.consumers.builders import event_id, event_record, stored_as, unreadable_record

MAX_RECORD_BYTES = MAX_MESSAGE_BYTES - 1_024
DAY_S = 24 * 3_600
READING = '"event": "reading"'


class KafkaJournal:
    """Topics of a broker whose names begin with `prefix`, of two partitions each."""

    def __init__(self, servers: str, prefix: str) -> None:
        self.prefix = prefix
        self.options: Mapping[str, str] = {"bootstrap_servers": servers}
        self._sources: list[KafkaSource] = []
        self._topics: set[str] = set()

    async def append(self, records: Sequence[Record], *, age_s: int = 0) -> None:
        await self.make_topics({record.topic for record in records})
        producer = AIOKafkaProducer(**self.options, acks="all", max_request_size=MAX_MESSAGE_BYTES)
        await producer.start()
        try:
            for record in records:
                await producer.send_and_wait(
                    record.topic,
                    record.value,
                    key=record.key,
                    headers=list(record.headers),
                    timestamp_ms=int(time.time() - age_s) * 1000 if age_s else None,
                )
        finally:
            await producer.stop()

    async def make_topics(self, names: set[str]) -> None:
        new = names - self._topics
        self._topics |= new
        if new:
            configs = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
            topics = [
                NewTopic(name=n, num_partitions=2, replication_factor=1, topic_configs=configs)
                for n in sorted(new)
            ]
            async with admin_client(self.options) as admin:
                await admin.create_topics(topics)

    async def source(self, stored_offsets: StoredOffsets) -> KafkaSource:
        source = KafkaSource(
            self.options,
            # the group is the worker's, and workers of other tests are none of ours
            worker=self.prefix,
            topic_pattern=event_topic_pattern(self.prefix),
            stored_offsets=stored_offsets,
        )
        self._sources.append(source)
        await source.open()
        return source

    async def close(self, source: Source) -> None:
        await source.close()
        self._sources = [each for each in self._sources if each is not source]

    async def close_all(self) -> None:
        for source in self._sources:
            await source.close()

    async def trim(self, partition: Partition, *, before: int) -> None:
        """What retention does."""
        removed = {TopicPartition(*partition): RecordsToDelete(before_offset=before)}
        async with admin_client(self.options) as admin:
            await admin.delete_records(removed)


@pytest.fixture
async def journal(kafka_bootstrap_servers: str, topic_prefix: str) -> AsyncIterator[KafkaJournal]:
    journal = KafkaJournal(kafka_bootstrap_servers, topic_prefix)
    yield journal
    await journal.close_all()


class TestKafkaSource(SourceBehaviour):
    async def test_a_record_of_the_largest_size_is_read(self, journal: KafkaJournal) -> None:
        small = event_record(0, journal.prefix)
        large = Record(topic=small.topic, key=small.key, value=b"x" * MAX_RECORD_BYTES)
        await journal.append([small, large, event_record(3, journal.prefix)])
        values = await (await reading(journal)).until(3)
        assert max(len(value) for value in values) == MAX_RECORD_BYTES

    async def test_the_groups_offsets_do_not_matter(self, journal: KafkaJournal) -> None:
        await journal.append([event_record(n, journal.prefix) for n in range(9)])
        first = await reading(journal)
        await first.until(9)
        await first.source.commit(first.next_offsets)
        await journal.close(first.source)
        assert len(await (await reading(journal)).until(9)) == 9

    async def test_the_group_is_told_how_far_the_tables_are(self, journal: KafkaJournal) -> None:
        await journal.append([event_record(0, journal.prefix)])
        read = await reading(journal)
        await read.until(1)
        await read.source.commit(read.next_offsets)
        async with admin_client(journal.options) as admin:
            told = await admin.list_consumer_group_offsets(f"forebay.{journal.prefix}")
        told = {Partition(tp.topic, tp.partition): at.offset for tp, at in told.items()}
        assert read.next_offsets.items() <= told.items()

    async def test_records_removed_before_they_were_written_are_an_error(
        self, journal: KafkaJournal
    ) -> None:
        record = event_record(0, journal.prefix)
        await journal.append([record] * 6)
        read = await reading(journal)
        await read.until(1)
        partition = next(iter(read.next_offsets))
        await journal.close(read.source)
        await journal.trim(partition, before=4)
        with pytest.raises(OffsetOutOfRange, match=r"offset 2\b.* holds 4 up to 6"):
            await (await reading(journal, {partition: 2})).until(1)

    async def test_records_removed_under_a_reader_stop_it_in_its_epoch(
        self, journal: KafkaJournal
    ) -> None:
        small = event_record(0, journal.prefix)
        # more than is fetched ahead
        large = Record(topic=small.topic, key=small.key, value=b"x" * MAX_PARTITION_FETCH_BYTES)
        await journal.append([large] * 9)
        read = await reading(journal)
        await read.until(1)
        epoch = read.source.epoch
        await journal.trim(next(iter(read.next_offsets)), before=8)
        with pytest.raises(OffsetOutOfRange, match=r"but the log holds 8 up to 9"):
            await read.until(9)
        assert read.source.epoch == epoch, "what was read is still to be written"

    async def test_what_is_not_written_is_lost_when_its_topics_retention_is_over(
        self, journal: KafkaJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kafka, "LOOK_AT_END_EVERY_S", 0.05)
        monkeypatch.setattr(kafka_retention, "LOOK_EVERY_S", 0.0)
        await journal.append([event_record(0, journal.prefix)])
        await journal.append([event_record(3, journal.prefix)] * 2, age_s=2 * DAY_S)
        await journal.append([event_record(1, journal.prefix)], age_s=5 * DAY_S)
        read = await reading(journal)
        await read.until(4)
        watching = asyncio.create_task(read.source.watch_end())
        async with asyncio.timeout(60):
            while read.source.seconds_to_loss == math.inf:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
            assert 2 * DAY_S - 600 < read.source.seconds_to_loss <= 2 * DAY_S
            await read.source.commit(read.next_offsets)
            while read.source.seconds_to_loss < math.inf:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        watching.cancel()
        await asyncio.wait([watching])

    async def test_records_removed_before_the_first_start_are_not_missed(
        self, journal: KafkaJournal
    ) -> None:
        await journal.append([event_record(0, journal.prefix)] * 6)
        read = await reading(journal)
        await read.until(6)
        await journal.close(read.source)
        await journal.trim(next(iter(read.next_offsets)), before=4)
        assert len(await (await reading(journal)).until(2)) == 2

    async def test_a_second_member_begins_a_new_epoch_for_the_first(
        self, journal: KafkaJournal
    ) -> None:
        await journal.append([event_record(n, journal.prefix) for n in range(9)])
        first = await reading(journal)
        await first.until(9)
        epoch = first.source.epoch
        second = await reading(journal, first.next_offsets)
        async with asyncio.timeout(60):
            while first.source.epoch == epoch:
                await first.source.poll(timeout_s=0.2)
        # the partition's new owner may not see its old owner's commit succeed, nor the old one fail
        await first.source.commit(first.next_offsets)
        await second.source.commit(first.next_offsets)


class KafkaPlace:
    """A topic of the test's own."""

    def __init__(self, journal: KafkaJournal, opened: AsyncExitStack) -> None:
        self.prefix = journal.prefix
        self._options = journal.options
        self._opened = opened

    async def letters(self) -> DeadLetters:
        kept = self.unopened()
        await kept.open()
        return kept

    def unopened(self) -> DeadLetters:
        topic = dead_letter_topic(self.prefix, "tables")
        kept = KafkaDeadLetters(self._options, topic=topic)
        self._opened.push_async_callback(kept.close)
        return kept


class TestKafkaDeadLetters(DeadLettersBehaviour):
    @pytest.fixture
    async def place(self, journal: KafkaJournal) -> AsyncIterator[KafkaPlace]:
        async with AsyncExitStack() as opened:
            yield KafkaPlace(journal, opened)

    async def test_a_second_worker_finds_the_topic_there(self, place: KafkaPlace) -> None:
        await (await place.letters()).append([letter_record(place.prefix, 1)])
        await (await place.letters()).append([letter_record(place.prefix, 2)])
        assert len((await letters(place.unopened()))[0]) == 2

    async def test_the_largest_record_can_be_a_dead_letter(self, place: KafkaPlace) -> None:
        topic = event_record(0, place.prefix).topic
        largest = Record(topic=topic, key=b"", value=b"x" * MAX_RECORD_BYTES)
        letter = DeadLetter(record=stored_as(largest, 0), reason="not_an_envelope")
        record = dead_letter_record(letter, prefix=place.prefix, worker="tables")
        await (await place.letters()).append([record])
        ((found,), _) = await letters(place.unopened())
        assert len(found.record.value) == MAX_RECORD_BYTES


class TestKafkaWorker:
    """Whole workers, killed and joined by others."""

    @pytest.fixture
    def program(self, tmp_path: Path, journal: KafkaJournal) -> Program:
        return Program(
            tmp_path,
            {
                "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": journal.options["bootstrap_servers"],
                "FOREBAY_TOPICS__PREFIX": journal.prefix,
                "FOREBAY_WORKER__NAME": journal.prefix.replace(".", "-"),
            },
        )

    async def test_a_killed_worker_loses_nothing_and_doubles_nothing(
        self, program: Program, journal: KafkaJournal
    ) -> None:
        await self._append(journal, range(1_000))
        for _ in range(3):
            process = program.start()
            await asyncio.to_thread(self._wait_for_some, program, process)
            await self._append(journal, range(500, 1_500))
            process.kill()
            process.wait()
        await self._append(journal, range(1_400, 2_000))
        with program.running():
            await asyncio.to_thread(self._check_exactly_once, program, 2_000)

    async def test_a_worker_that_joins_doubles_nothing(
        self, program: Program, journal: KafkaJournal
    ) -> None:
        await self._append(journal, range(500))
        with program.running() as first:
            await asyncio.to_thread(self._wait_for_some, program, first)
            with program.running():
                await asyncio.to_thread(program.wait_for_line, READING, times=2)
                await self._append(journal, range(500, 2_000))
                await asyncio.to_thread(self._check_exactly_once, program, 2_000)
            await self._append(journal, range(2_000, 2_200))
            await asyncio.to_thread(self._check_exactly_once, program, 2_200)

    async def test_an_unreadable_record_becomes_a_dead_letter_and_stalls_nobody(
        self, program: Program, journal: KafkaJournal
    ) -> None:
        await journal.append([unreadable_record(5, journal.prefix)])
        await self._append(journal, range(60))
        with program.running():
            await asyncio.to_thread(self._check_exactly_once, program, 60)
        assert '"reason": "not_an_envelope"' in program.log()

    async def test_records_that_are_gone_stop_it_and_the_command_that_it_names_helps(
        self, program: Program, journal: KafkaJournal
    ) -> None:
        record = event_record(0, journal.prefix)
        await journal.append([record])
        with program.running():
            await asyncio.to_thread(self._check_exactly_once, program, 1)
            (where,) = program.query(
                "select topic, partition from canvas.forebay_offsets where next_offset = 1"
            )
        await journal.append([record] * 5)
        await journal.trim(Partition(*where), before=4)
        await self._append(journal, range(10))
        assert await asyncio.to_thread(program.start().wait, 60) == 1
        (command,) = re.findall(r"`forebay-consumers (offsets reset [^`]+)`", program.log())
        assert program.command(*command.split()).returncode == 0
        with program.running():
            await asyncio.to_thread(self._check_exactly_once, program, 10)

    async def _append(self, journal: KafkaJournal, numbers: range) -> None:
        await journal.append([event_record(n, journal.prefix) for n in numbers])

    def _wait_for_some(self, program: Program, process: "subprocess.Popen[bytes]") -> None:
        program.wait_for("select count(*) > 0 from canvas.events", [(True,)])
        assert process.poll() is None, program.log()

    def _check_exactly_once(self, program: Program, count: int) -> None:
        program.wait_for("select count(distinct event_id) from canvas.events", [(count,)])
        found = program.query("select event_id from canvas.events")
        assert sorted(found) == sorted((event_id(n),) for n in range(count))
