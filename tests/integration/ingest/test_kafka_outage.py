"""A receiver whose Kafka comes late, or stops answering: it takes everything all the same."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.integration.ingest.commands import run
from tests.integration.ingest.site import Site, eventually, running_site
from tests.kafka.broker import Cluster
from tests.kafka.errors import KafkaUnavailable

LIVE = "/live-events"
AT_ONCE = 20
KNOWN_TYPE = "course_created"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A broker that is not started yet."""
    own = Cluster(directory=tmp_path / "kafka")
    yield own
    await asyncio.to_thread(own.stop)


async def test_a_receiver_outlives_the_lateness_and_the_silence_of_its_kafka(
    tmp_path: Path, cluster: Cluster
) -> None:
    settings = {
        "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
        "FOREBAY_TOPICS__PARTITIONS": "1",
    }
    async with running_site(tmp_path / "site", settings=settings, wait_until_ready=False) as site:
        await eventually(lambda: _is_alive(site))
        await _assert_spooled(site, 0)
        await _start(cluster, tmp_path, settings)
        await _assert_recovers(site, 100, name=KNOWN_TYPE)
        cluster.brokers[0].pause()
        try:
            await _assert_spooled(site, 200, name=KNOWN_TYPE)
        finally:
            cluster.brokers[0].resume()
        await _assert_recovers(site, 300, name=KNOWN_TYPE)
        scrape = await site.metrics()
        assert scrape.imbalance("live-events") == 0
        assert scrape.settled() == {("published", ""): 4 * AT_ONCE}


async def test_silence_is_noticed_by_events_whose_topic_is_new_to_the_producer(
    tmp_path: Path, cluster: Cluster
) -> None:
    settings = {"FOREBAY_KAFKA__BOOTSTRAP_SERVERS": cluster.bootstrap_servers}
    await _start(cluster, tmp_path, {**settings, "FOREBAY_TOPICS__PARTITIONS": "1"})
    async with running_site(tmp_path / "site", settings=settings) as site:
        cluster.brokers[0].pause()
        try:
            await _assert_spooled(site, 0)
        finally:
            cluster.brokers[0].resume()
        await _assert_recovers(site, 100)


async def _assert_spooled(site: Site, first: int, *, name: str | None = None) -> None:
    """Every event is taken in time, and the receiver stays ready."""
    tokens = [site.live_event(n, name=name) for n in range(first, first + AT_ONCE)]
    answers = await asyncio.gather(*(site.post(LIVE, token) for token in tokens))
    assert {(a.status, a.json()["outcome"]) for a in answers} == {(202, "spooled")}
    assert (await site.admin("/readyz")).status == 200
    scrape = await site.metrics()
    assert scrape.imbalance("live-events") == 0
    assert scrape.value("forebay_events_held", lane="spool") == AT_ONCE
    assert (await site.admin("/livez")).status == 200


async def _assert_recovers(site: Site, first: int, *, name: str | None = None) -> None:
    """The spool empties by itself, and what comes then goes straight to Kafka."""

    async def is_empty() -> bool:
        return (await site.metrics()).value("forebay_events_held", lane="spool") == 0

    await eventually(is_empty)
    tokens = [site.live_event(n, name=name) for n in range(first, first + AT_ONCE)]
    answers = await asyncio.gather(*(site.post(LIVE, token) for token in tokens))
    assert {(a.status, a.json()["outcome"]) for a in answers} == {(202, "published")}


async def _start(cluster: Cluster, directory: Path, settings: Mapping[str, str]) -> None:
    try:
        await asyncio.to_thread(cluster.start)
    except KafkaUnavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Kafka broker: {error}")
    applied = await asyncio.to_thread(run, directory, "topics", "apply", **settings)
    assert applied.returncode == 0, applied.stderr


async def _is_alive(site: Site) -> bool:
    try:
        return (await site.admin("/livez")).status == 200
    except OSError:
        return False
