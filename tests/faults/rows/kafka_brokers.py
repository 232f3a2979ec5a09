"""Row 2: three brokers, of which each record needs two; killed, restarted and stopped."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Final

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    PartitionMetadata,
)

from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.rows.expecting import (
    expect_all_accepted,
    expect_small_spool,
    expect_spooled,
    expect_within_budget,
    spool_file_bytes,
)
from tests.faults.site import Site, loaded
from tests.faults.verdict import Tally
from tests.faults.waiting import until
from tests.kafka.broker import Broker

RATE: Final = 550.0
NOTICE_SHARE: Final = 0.1
OUTAGE_S: Final = (4.0, 6.0)
NEEDED_IN_SYNC: Final = 2
ADMIN_TIMEOUT_S: Final = 20.0
TAKE_OVER_TIMEOUT_S: Final = 30.0


async def leader_killed(grounds: Grounds, seed: int) -> Tally:
    """SIGKILL to the broker that leads most topics, until others have taken over."""
    rng = random.Random(seed)
    async with grounds.site(seed, brokers=3) as site:
        async with loaded(site, rate=RATE, notice_share=NOTICE_SHARE):
            leader = await _busiest(site)
            await asyncio.to_thread(leader.kill)
            await until(lambda: _leads_nothing(site, leader), timeout_s=TAKE_OVER_TIMEOUT_S)
            await asyncio.sleep(rng.uniform(*OUTAGE_S))
            await asyncio.to_thread(leader.start)
            await asyncio.sleep(1.0)
        expect_spooled(site)
        return await _judged(site)


async def rolling_restart(grounds: Grounds, seed: int) -> Tally:
    """One broker after the other ends in order and starts again."""
    rng = random.Random(seed)
    async with grounds.site(seed, brokers=3) as site:
        brokers = list(_brokers(site))
        rng.shuffle(brokers)
        async with loaded(site, rate=RATE, notice_share=NOTICE_SHARE):
            for broker in brokers:
                await asyncio.to_thread(broker.stop)
                await asyncio.to_thread(broker.start)
        return await _judged(site)


async def too_few_in_sync(grounds: Grounds, seed: int) -> Tally:
    """Two brokers end in order, one after the other: the third leads, and may take nothing."""
    rng = random.Random(seed)
    async with grounds.site(seed, brokers=3) as site:
        away = rng.sample(_brokers(site), k=2)
        async with loaded(site, rate=RATE, notice_share=NOTICE_SHARE):
            for broker in away:
                await asyncio.to_thread(broker.stop)
            few = [each for each in await _partitions(site) if len(each.isrs) < NEEDED_IN_SYNC]
            site.expect(few, "every partition has enough replicas in sync")
            await asyncio.sleep(rng.uniform(*OUTAGE_S))
            peak_bytes = spool_file_bytes(site)
            await asyncio.gather(*(asyncio.to_thread(broker.start) for broker in away))
            await asyncio.sleep(1.0)
        expect_spooled(site)
        tally = await _judged(site)
        await expect_small_spool(site, peak_bytes=peak_bytes)
        return tally


async def _judged(site: Site) -> Tally:
    expect_all_accepted(site)
    expect_within_budget(site)
    await settle(site)
    return await judge(site)


async def _busiest(site: Site) -> Broker:
    """The broker that leads most of the site's partitions."""
    leaders = Counter(each.leader for each in await _partitions(site))
    ((busiest, _),) = leaders.most_common(1)
    (broker,) = (broker for broker in _brokers(site) if _id(broker) == busiest)
    return broker


async def _leads_nothing(site: Site, broker: Broker) -> bool:
    return all(each.leader != _id(broker) for each in await _partitions(site))


async def _partitions(site: Site) -> list[PartitionMetadata]:
    """The site's partitions as the brokers that run describe them: who leads, who is in sync."""
    running = (each.bootstrap_servers for each in _brokers(site) if each.pid is not None)
    admin = AdminClient({"bootstrap.servers": ",".join(running), "log_level": 0})
    metadata = await asyncio.to_thread(admin.list_topics, timeout=ADMIN_TIMEOUT_S)
    return [
        partition
        for name, topic in metadata.topics.items()
        if name.startswith(f"{site.prefix}.")
        for partition in topic.partitions.values()
    ]


def _brokers(site: Site) -> tuple[Broker, ...]:
    assert site.cluster is not None
    return site.cluster.brokers


def _id(broker: Broker) -> int:
    return broker.node.node_id
