"""The broker that the other integration tests stand on does what they assume of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import (  # type: ignore[import-untyped, unused-ignore]
    AIOKafkaConsumer,
    AIOKafkaProducer,
    TopicPartition,
)
from aiokafka.admin import (  # type: ignore[import-untyped, unused-ignore]
    AIOKafkaAdminClient,
    NewTopic,
)

from tests.kafka.broker import Cluster
from tests.kafka.errors import KafkaUnavailable
from tests.kafka.ports import free_ports

READ_TIMEOUT_S = 15.0


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one that a test may maltreat, if it leaves it running."""
    with Cluster(directory=tmp_path_factory.mktemp("single")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kept_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that outlives the command that uses it."""
    return tmp_path_factory.mktemp("kept")


@contextlib.asynccontextmanager
async def producing(bootstrap_servers: str) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks="all", request_timeout_ms=20_000
    ) as producer:
        yield producer


async def make_topic(bootstrap_servers: str, name: str, *, replication: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, 1, replication)])
        assert [error for _, error, *_ in answer.topic_errors] == [0]
    finally:
        await admin.close()


async def values_of(bootstrap_servers: str, topic: str, *, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest"
    )
    async with asyncio.timeout(READ_TIMEOUT_S), consumer:
        return [(await consumer.getone()).value for _ in range(count)]


@pytest.mark.asyncio
async def test_a_record_comes_back(kafka_bootstrap_servers: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}.grades"
    await make_topic(kafka_bootstrap_servers, topic)
    async with producing(kafka_bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"87.5")
    assert await values_of(kafka_bootstrap_servers, topic, count=1) == [b"87.5"]


@pytest.mark.asyncio
async def test_a_frozen_broker_answers_once_it_thaws(single: Cluster, topic_prefix: str) -> None:
    (broker,) = single.brokers
    topic = f"{topic_prefix}.frozen"
    await make_topic(single.bootstrap_servers, topic)
    async with producing(single.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"before")
        broker.pause()
        try:
            sent = await producer.send(topic, b"meanwhile")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(sent), 0.5)
        finally:
            broker.resume()
        await sent
    assert await values_of(single.bootstrap_servers, topic, count=2) == [b"before", b"meanwhile"]


@pytest.mark.asyncio
async def test_a_killed_broker_comes_back_with_its_records(
    single: Cluster, topic_prefix: str
) -> None:
    (broker,) = single.brokers
    topic = f"{topic_prefix}.kept"
    await make_topic(single.bootstrap_servers, topic)
    async with producing(single.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"kept")
    pid, servers = broker.pid, single.bootstrap_servers
    broker.kill()
    assert broker.pid is None
    await asyncio.to_thread(broker.start)
    assert broker.pid != pid
    assert await values_of(servers, topic, count=1) == [b"kept"]


def test_a_broker_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(KafkaUnavailable, match=r"node 1 died(.*\n)*.*'NoSuchOption'"):
        Cluster(directory=tmp_path, jvm_options=["-XX:+NoSuchOption"]).start()


def test_data_of_another_number_of_nodes_is_refused(single: Cluster) -> None:
    with pytest.raises(KafkaUnavailable, match="holds a cluster of 1, not of 2"):
        Cluster(directory=single.directory, size=2).start()


@pytest.mark.asyncio
async def test_three_nodes_take_records_with_one_node_killed(
    tmp_path: Path, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}.replicated"
    cluster = Cluster(directory=tmp_path, size=3)
    await asyncio.to_thread(cluster.start)
    try:
        await make_topic(cluster.bootstrap_servers, topic, replication=3)
        async with producing(cluster.bootstrap_servers) as producer:
            await producer.send_and_wait(topic, b"with three")
            leader = producer.client.cluster.leader_for_partition(TopicPartition(topic, 0))
            cluster.brokers[leader - 1].kill()
            await producer.send_and_wait(topic, b"with two")
        left = cluster.brokers[leader % 3].bootstrap_servers
        assert await values_of(left, topic, count=2) == [b"with three", b"with two"]
    finally:
        await asyncio.to_thread(cluster.kill)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)])
def test_no_broker_outlives_the_command(
    number: signal.Signals, exit_code: int, kept_directory: Path
) -> None:
    (port,) = free_ports(1)
    with run_command(kept_directory, port) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == f"kafka: ready on 127.0.0.1:{port}\n"
        children = psutil.Process(command.pid).children(recursive=True)
        assert any("kafka.Kafka" in child.cmdline() for child in children)
        command.send_signal(number)
        assert command.wait(20) == exit_code
    _, alive = psutil.wait_procs(children, timeout=5)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []


def test_the_command_names_a_port_in_use(tmp_path: Path, single: Cluster) -> None:
    taken = single.brokers[0].node.client_port
    with run_command(tmp_path, taken) as command:
        output, errors = command.communicate(timeout=20)
    assert (command.returncode, output) == (2, "")
    assert errors == f"kafka: port {taken} on 127.0.0.1 is in use\n"


def run_command(data_directory: Path, port: int) -> subprocess.Popen[str]:
    options = ["--port", str(port), "--data-dir", str(data_directory)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.kafka", "run", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
