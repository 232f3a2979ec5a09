"""A worker whose broker goes away and comes back."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.consumers.program import Program
from tests.integration.consumers.test_kafka import KafkaJournal
from tests.kafka.broker import Cluster
from tests.kafka.errors import KafkaUnavailable
from tests.unit.consumers.builders import event_record

COUNT = "select count(*) from canvas.events"
OUTAGE_S = 8.0


@pytest.fixture
async def own_cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A broker that this test may stop."""
    cluster = Cluster(directory=tmp_path / "kafka")
    try:
        await asyncio.to_thread(cluster.start)
    except KafkaUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka broker: {error}")
    yield cluster
    await asyncio.to_thread(cluster.stop)


async def test_a_worker_outlives_its_broker_and_ends_well_without_it(
    own_cluster: Cluster, tmp_path: Path, topic_prefix: str
) -> None:
    journal = KafkaJournal(own_cluster.bootstrap_servers, topic_prefix)
    program = Program(
        tmp_path,
        {
            "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": own_cluster.bootstrap_servers,
            "FOREBAY_TOPICS__PREFIX": topic_prefix,
        },
    )
    await journal.append([event_record(n, topic_prefix) for n in range(100)])
    with program.running() as process:
        await asyncio.to_thread(program.wait_for, COUNT, [(100,)])
        await asyncio.to_thread(own_cluster.stop)
        await asyncio.sleep(OUTAGE_S)
        assert process.poll() is None, program.log()
        await asyncio.to_thread(own_cluster.start)
        await journal.append([event_record(n, topic_prefix) for n in range(50, 200)])
        await asyncio.to_thread(program.wait_for, COUNT, [(200,)])
        await asyncio.to_thread(own_cluster.stop)
