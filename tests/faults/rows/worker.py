"""Rows 20 and 21: what the worker stumbles over, and the worker ended at every moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final

from aiokafka import AIOKafkaProducer

from tests.faults.crashing import POINTS
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle, settle_and_judge
from tests.faults.programs import Part, worker_part
from tests.faults.site import Site, streaming
from tests.faults.verdict import Tally

TYPE: Final = "course_created"
BATCH: Final = 1_000
EVENTS_PER_CRASH: Final = 60
PASSAGES: Final = (1, 2)
KILLS: Final = 3
SESSION_S: Final = 10.0
"""How long a group waits for a member that says nothing (aiokafka's default)."""

_POISONS: Final = (b"no JSON", b"", b'{"body": {}}', b"[" * 10_000, b'{"metadata": 1, "body": 2}')


async def poison_in_a_batch(grounds: Grounds, seed: int) -> Tally:
    """One record that nobody can read among a thousand costs nobody else a row."""
    rng = random.Random(seed)
    poison, place = rng.choice(_POISONS), rng.randrange(BATCH)
    async with grounds.site(seed, with_worker=False) as site:
        await site.canvas.send_events(site.url, count=place, name=TYPE)
        await _inject(site, b"poison", poison)
        await site.canvas.send_events(site.url, count=BATCH - 1 - place, name=TYPE)
        await site.worker.start()
        await settle(site)
        accepted = len(site.witness.promised)
        site.expect(accepted == BATCH - 1, f"{accepted} of {BATCH - 1} accepted")
        letters = [record for record in (await site.topics()).records if ".dlq." in record.place[0]]
        site.expect([letter.key for letter in letters] == ["poison"], f"dead letters: {letters}")
        counted = (await site.worker_metrics()).value("forebay_dead_letters_total")
        site.expect(counted == 1, f"{counted} dead letters are counted")
        return await judge(site)


async def worker_crash_points(grounds: Grounds, seed: int) -> Tally:
    """The worker kills itself at each of its points, at the first passage and at a later one."""
    async with grounds.site(seed, with_worker=False) as site:
        for point in (name for name, point in POINTS.items() if point.command == "run"):
            for passage in PASSAGES:
                site.worker.launch(crash_at=f"{point}:{passage}")
                await _feed_until_crashed(site)
        await site.worker.start()
        return await settle_and_judge(site)


async def worker_killed_at_random(grounds: Grounds, seed: int) -> Tally:
    """SIGKILL at moments that the seed draws, while events stream in."""
    rng = random.Random(seed)
    async with grounds.site(seed) as site:
        async with streaming(site):
            for _ in range(KILLS):
                await asyncio.sleep(rng.uniform(0.2, 1.5))
                await site.worker.kill()
                site.worker.launch()
        await site.worker.ready()
        return await settle_and_judge(site)


async def rebalance_in_mid_batch(grounds: Grounds, seed: int) -> Tally:
    """A second worker joins the group and leaves it again, while events stream in."""
    async with grounds.site(seed) as site:
        second = _second(site)
        async with streaming(site):
            for end in (second.term, second.kill):
                await second.start()
                await asyncio.sleep(2.0)
                await end()
        return await settle_and_judge(site)


async def worker_frozen_past_its_session(grounds: Grounds, seed: int) -> Tally:
    """A worker is stopped until others have its partitions, then wakes up and goes on."""
    async with grounds.site(seed) as site:
        second = _second(site)
        await second.start()
        async with streaming(site):
            await asyncio.sleep(1.0)
            site.worker.freeze()
            await asyncio.sleep(SESSION_S + 4.0)
            site.worker.thaw()
            await asyncio.sleep(1.0)
        await second.term()
        return await settle_and_judge(site)


def _second(site: Site) -> Part:
    """One more worker of the same name, for the same store."""
    return worker_part(site.directory, settings=site.worker.settings, log_name="second")


async def _feed_until_crashed(site: Site) -> None:
    """Few events at a time, so that the batches, and with them the passages, are several."""
    crashing = asyncio.create_task(site.worker.crashed())
    while not crashing.done():
        await site.canvas.send_events(site.url, count=EVENTS_PER_CRASH)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(crashing), 1.5)
    await crashing


async def _inject(site: Site, key: bytes, value: bytes) -> None:
    """Puts a record into a trusted topic, past the receiver."""
    assert site.cluster is not None
    site.witness.vouch_for({key.decode()})
    topic = f"{site.prefix}.live-events.{TYPE.replace('_', '-')}.v1"
    async with AIOKafkaProducer(bootstrap_servers=site.cluster.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, value, key=key)
