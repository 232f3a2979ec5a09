"""The log on Kafka, against the suite of all logs; then what only a broker does."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ingest.contract.record import Record
from ingest.contract.topics import MAX_MESSAGE_BYTES
from ingest.errors import Overloaded, PartitionUnavailable, RecordTooLarge, TopicRefused
from ingest.publishing.kafka.log import KafkaLog
from ingest.publishing.log import Log
from tests.kafka.broker import Cluster
from tests.kafka.errors import KafkaUnavailable
from tests.suites.logs import LogBehaviour, record

PARTITIONS = 3
PATIENCE_S = 30.0
SMALL_TOPIC_BYTES = 20_000


class _KafkaBench:
    def __init__(self, servers: str, topic: str, *, publish_timeout_s: float = 4.0) -> None:
        self.topic = topic
        self._servers = servers
        self._closed = False
        self.kafka = KafkaLog(
            client_options={"bootstrap_servers": servers}, budget_s=publish_timeout_s
        )
        self.log: Log = self.kafka
        self._running = asyncio.create_task(self.kafka.run())

    async def stored(self, *, count: int) -> Sequence[Record]:
        found: list[Record] = []
        consumer = AIOKafkaConsumer(
            self.topic,
            bootstrap_servers=self._servers,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        async with asyncio.timeout(PATIENCE_S), consumer:
            while len(found) < count:
                got = await consumer.getone()
                headers = tuple(got.headers)
                found.append(Record(topic=got.topic, key=got.key, value=got.value, headers=headers))
            # what else there is, is there already: all of it was acknowledged before
            ends = await consumer.end_offsets(consumer.assignment())
            assert sum(ends.values()) == len(found)
        return found

    async def until_well(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not (await self.log.health())[0]:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self.kafka.close()
            self._running.cancel()


async def _make_topic(servers: str, name: str, *, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        configs = {"max.message.bytes": str(max_bytes)}
        topic = NewTopic(name, PARTITIONS, 1, topic_configs=configs)
        answer = await admin.create_topics([topic])
        assert [error for _, error, *_ in answer.topic_errors] == [0]
    finally:
        await admin.close()


@pytest.fixture
async def bench(kafka_bootstrap_servers: str) -> AsyncIterator[_KafkaBench]:
    """A topic of the test's own."""
    made = await _bench(kafka_bootstrap_servers)
    yield made
    await made.close()


async def _bench(servers: str, *, max_bytes: int = MAX_MESSAGE_BYTES) -> _KafkaBench:
    topic = f"log.{uuid.uuid4().hex[:12]}"
    await _make_topic(servers, topic, max_bytes=max_bytes)
    bench = _KafkaBench(servers, topic)
    await bench.until_well()
    return bench


class TestKafkaLog(LogBehaviour):
    async def test_missing_topic_is_refused_and_others_flow(self, bench: _KafkaBench) -> None:
        missing = Record(topic=f"{bench.topic}.missing", key=b"k", value=b"v")
        good = [record(bench, n) for n in range(10)]
        outcomes = await asyncio.gather(
            *(bench.log.append(each) for each in [missing, *good, missing]),
            return_exceptions=True,
        )
        assert [type(o) for o in outcomes] == [TopicRefused, *[type(None)] * 10, TopicRefused]
        assert (await bench.log.health())[0]
        assert len(await bench.stored(count=10)) == 10

    async def test_refused_topic_is_taken_once_it_is_there(
        self, bench: _KafkaBench, kafka_bootstrap_servers: str
    ) -> None:
        late = Record(topic=f"{bench.topic}.late", key=b"k", value=b"v")
        with pytest.raises(TopicRefused):
            await bench.log.append(late)
        await _make_topic(kafka_bootstrap_servers, late.topic)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await bench.log.append(late)
                    break
                except TopicRefused:
                    await asyncio.sleep(0.05)

    async def test_record_too_large_for_its_topic_fails_alone(
        self, kafka_bootstrap_servers: str
    ) -> None:
        bench = await _bench(kafka_bootstrap_servers, max_bytes=SMALL_TOPIC_BYTES)
        sizes = [2, 2, SMALL_TOPIC_BYTES + 1, 2, SMALL_TOPIC_BYTES + 1, 2]
        records = [record(bench, n, key=b"one", size_bytes=s) for n, s in enumerate(sizes)]
        outcomes = await asyncio.gather(*map(bench.log.append, records), return_exceptions=True)
        nothing = type(None)
        assert [type(outcome) for outcome in outcomes] == [
            nothing,
            nothing,
            RecordTooLarge,
            nothing,
            RecordTooLarge,
            nothing,
        ]
        assert [len(r.value) for r in await bench.stored(count=4)] == [3] * 4
        await bench.close()


async def test_log_whose_broker_fell_silent_says_so_in_time_and_recovers(tmp_path: Path) -> None:
    cluster = Cluster(directory=tmp_path / "kafka")
    try:
        await asyncio.to_thread(cluster.start)
    except KafkaUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka broker: {error}")
    try:
        await _make_topic(cluster.bootstrap_servers, "t")
        await _silence(cluster, _KafkaBench(cluster.bootstrap_servers, "t", publish_timeout_s=1.0))
    finally:
        await asyncio.to_thread(cluster.stop)


async def _silence(cluster: Cluster, bench: _KafkaBench) -> None:
    await bench.until_well()
    await bench.log.append(record(bench, 0, key=b"one"))
    cluster.brokers[0].pause()
    during = [record(bench, n, key=b"one") for n in range(1, 6)]
    async with asyncio.timeout(4.0):  # its own batch, the one before it, and what is left over
        outcomes = await asyncio.gather(*map(bench.log.append, during), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {PartitionUnavailable, Overloaded}
    assert not (await bench.log.health())[0]
    cluster.brokers[0].resume()
    await bench.until_well()
    last = record(bench, 6, key=b"one")
    await bench.log.append(last)
    await bench.close()
    # the fate of those during the silence is unknown; the acknowledged are there
    values = [r.value for r in await _everything(bench, cluster)]
    assert values.count(b"0xx") == values.count(last.value) == 1


async def _everything(bench: _KafkaBench, cluster: Cluster) -> list[Record]:
    """All there is up to the last record."""
    found: list[Record] = []
    consumer = AIOKafkaConsumer(
        bench.topic,
        bootstrap_servers=cluster.bootstrap_servers,
        auto_offset_reset="earliest",
    )
    async with asyncio.timeout(PATIENCE_S), consumer:
        while not found or found[-1].value != b"6xx":
            got = await consumer.getone()
            found.append(Record(topic=got.topic, key=got.key, value=got.value))
    return found
