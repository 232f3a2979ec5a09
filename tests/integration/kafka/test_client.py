"""The parts of aiokafka that we build on and that it does not document, against a real broker."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ingest.contract.record import Record
from ingest.publishing.kafka.batch import Batch, Pending, take
from ingest.publishing.kafka.cluster import Cluster, Connection, Silent
from ingest.publishing.log import Partition
from tests.support.processes import free_port

TIMEOUT_S = 30.0
HEADERS = (("ce_id", b"1"), ("ce_subject", "größe".encode()))


@pytest.fixture
async def topic(kafka_bootstrap_servers: str) -> AsyncIterator[str]:
    name = f"client.{uuid.uuid4().hex[:12]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1)])
        yield name
        await admin.delete_topics([name])
    finally:
        await admin.close()


@pytest.fixture
async def cluster(kafka_bootstrap_servers: str) -> AsyncIterator[Cluster]:
    cluster = Cluster({"bootstrap_servers": kafka_bootstrap_servers}, timeout_s=10.0)
    yield cluster
    cluster.close()


@pytest.fixture
async def connection(cluster: Cluster, topic: str) -> AsyncIterator[Connection]:
    """To the leader of both partitions, which there is once their metadata has spread."""
    async with asyncio.timeout(TIMEOUT_S):
        await cluster.refresh([topic])
        while len(cluster.topics[topic].leaders) < 2:
            await cluster.refresh([topic])
    connection = await cluster.connect(next(iter(cluster.brokers)))
    yield connection
    connection.close()


def _batches(*records: tuple[Partition, bytes]) -> dict[Partition, Batch]:
    queues: dict[Partition, list[Pending]] = {}
    for partition, value in records:
        record = Record(topic=partition.topic, key=b"k", value=value, headers=HEADERS)
        pending = Pending(record, partition, began_s=0.0, urgent=True)
        queues.setdefault(partition, []).append(pending)
    waiting = {partition: deque(queue) for partition, queue in queues.items()}
    return {b.partition: b for b in take([waiting], busy=(), skipped=lambda pending: None)}


async def test_metadata_names_brokers_leaders_and_what_is_missing(
    cluster: Cluster, connection: Connection, topic: str
) -> None:
    missing = f"{topic}.missing"
    for _ in range(2):  # to ask for a topic does not make it
        await cluster.refresh([topic, missing])
        assert set(cluster.topics[topic].leaders) == {0, 1}
        assert set(cluster.topics[topic].leaders.values()) <= set(cluster.brokers)
        assert cluster.topics[missing].error == "UnknownTopicOrPartitionError"


async def test_one_request_carries_batches_and_brings_an_answer_for_each(
    cluster: Cluster, connection: Connection, topic: str, kafka_bootstrap_servers: str
) -> None:
    first, second, unknown = (Partition(topic, n) for n in (0, 1, 7))
    batches = _batches((first, b"a"), (first, b"b"), (second, b"c"), (unknown, b"d"))
    said = await connection.produce(
        {partition: batch.built() for partition, batch in batches.items()}, broker_timeout_s=5.0
    )
    assert said == {first: None, second: None, unknown: "UnknownTopicOrPartitionError"}
    assert await _read(kafka_bootstrap_servers, topic, count=3) == {0: [b"a", b"b"], 1: [b"c"]}


async def test_broker_says_that_a_batch_is_too_large(connection: Connection, topic: str) -> None:
    partition = Partition(topic, 0)
    (batch,) = _batches((partition, bytes(5_000_000))).values()
    said = await connection.produce({partition: batch.built()}, broker_timeout_s=5.0)
    assert said == {partition: "MessageSizeTooLargeError"}


async def test_connection_that_was_closed_says_so(connection: Connection, topic: str) -> None:
    assert connection.is_open
    connection.close()
    assert not connection.is_open


async def test_cluster_that_nobody_answers_for_is_silent() -> None:
    cluster = Cluster({"bootstrap_servers": f"127.0.0.1:{free_port()}"}, timeout_s=2.0)
    with pytest.raises(Silent, match="Connection"):
        await cluster.refresh(["t"])


async def _read(servers: str, topic: str, *, count: int) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    async with asyncio.timeout(TIMEOUT_S), consumer:
        consumer.assign([TopicPartition(topic, n) for n in (0, 1)])
        for _ in range(count):
            record = await consumer.getone()
            assert (record.key, tuple(record.headers)) == (b"k", HEADERS)
            found.setdefault(record.partition, []).append(record.value)
    return found
