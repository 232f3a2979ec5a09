"""Row 5: the receiver ends at each of its steps, and the next one goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

from tests.emulator.deliveries import Outgoing
from tests.emulator.key_server import Mode
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.site import Site, event_request
from tests.faults.verdict import Tally
from tests.faults.waiting import until
from tests.support.processes import NotReady

FEED: Final = 40
HELD: Final = 120
LATER_PASSAGES: Final = range(2, 12)
LATER_WHILE_DRAINING: Final = range(2, 6)
"""A spool with so few records is emptied in seven steps, each twice as large as the last."""

EXPIRED_AGE_S: Final = 7_200
RESERVE_BYTES: Final = 1024**2

Feed = Callable[[Site], Awaitable[object]]


async def crash_before_the_answer(grounds: Grounds, seed: int) -> Tally:
    """At every step between a complete request and its answer, with Kafka and without it."""
    async with grounds.site(seed) as site:
        for point in ("before-kafka-send", "after-kafka-ack"):
            for passage in _passages(seed, point):
                await _fed_until_crashed(site, point, passage, _events)
        for point in ("before-spool-commit", "after-spool-commit", "before-spool-answer"):
            for passage in _passages(seed, point):
                await site.link.refuse()
                await _fed_until_crashed(site, point, passage, _mixed)
        return await judge(site)


async def crash_while_draining(grounds: Grounds, seed: int) -> Tally:
    """Between the broker's acknowledgement and the removal from the spool, and after that."""
    async with grounds.site(seed) as site:
        for point in ("after-kafka-ack", "before-spool-delete", "after-spool-delete"):
            for passage in _passages(seed, point, LATER_WHILE_DRAINING):
                await site.link.refuse()
                await site.canvas.send_events(site.url, count=HELD)
                await _expect_held(site, "spool")
                await _restart(site, f"{point}:{passage}")
                await site.link.heal()
                await _crashed(site, point)
        return await judge(site)


async def crash_while_keys_fail(grounds: Grounds, seed: int) -> Tally:
    """Around the commit of a token that cannot be judged, and around its delivery later."""
    async with grounds.site(seed) as site:
        for point in ("before-deferred-commit", "after-deferred-commit"):
            for passage in _passages(seed, point):
                async with _without_keys(site):
                    await _restart(site, f"{point}:{passage}")
                    await _feed_until_crashed(site, _mixed)
                await _go_on(site, point)
        for point in (
            "before-deferred-delivery",
            "after-deferred-delivery",
            "before-token-delete",
            "after-token-delete",
        ):
            async with _without_keys(site):
                await site.canvas.send_events(site.url, count=HELD)
                await site.canvas.send_notices(site.url, count=10)
                await _expect_held(site, "deferred")
                await site.receiver.kill()
            # all of them are deleted in one go
            passage = 1 if "delete" in point else random.Random(f"{seed}/{point}").randrange(1, 99)
            site.receiver.launch(crash_at=f"{point}:{passage}")
            await _crashed(site, point)
        return await judge(site)


async def crash_around_quarantine(grounds: Grounds, seed: int) -> Tally:
    """What is authentic and unusable is kept apart, in the topic or in the spool."""
    async with grounds.site(seed) as site:
        numbers = iter(range(10_000))

        async def expired(site: Site) -> None:
            await site.send(_expired(site, numbers))

        for point in ("before-quarantine", "after-quarantine"):
            for passage in _passages(seed, point):
                await _fed_until_crashed(site, point, passage, expired)
                await site.link.refuse()
                await _fed_until_crashed(site, point, passage, expired)
        await expired(site)
        await settle(site)
        apart = (await site.topics()).quarantined
        site.expect(len(apart) >= FEED, f"only {len(apart)} were kept apart")
        return await judge(site)


async def crash_around_the_reserve(grounds: Grounds, seed: int) -> Tally:
    """While the notices' reserve is given up on a full disk, and while it is filled again."""
    settings = {"FOREBAY_SPOOL__PNS_RESERVE_BYTES": str(RESERVE_BYTES)}
    async with grounds.site(seed, receiver=settings) as site:
        control = site.receiver.disk_control = site.directory / "disk"
        for point in ("before-reserve-given-up", "after-reserve-given-up"):
            await site.link.refuse()
            await _restart(site, point)
            with site.readiness.undecided():
                control.write_text("full")
                await _feed_until_crashed(site, _mixed)
            control.write_text("")
            await _go_on(site, point)
        for point in ("before-reserve-filled", "after-reserve-filled"):
            await site.link.refuse()
            await _restart(site, point)
            with site.readiness.undecided():
                control.write_text("full")
                await site.canvas.send_notices(site.url, count=5)
                site.expect(not await _has_reserve(site), "the reserve was not given up")
                control.write_text("")
                await _crashed(site, point)
            await until(lambda: _has_reserve(site))
        return await judge(site)


def _passages(seed: int, point: str, later: range = LATER_PASSAGES) -> tuple[int, int]:
    """The first one, and a later one."""
    return 1, random.Random(f"{seed}/{point}").choice(later)


async def _fed_until_crashed(site: Site, point: str, passage: int, feed: Feed) -> None:
    await _restart(site, f"{point}:{passage}")
    await _feed_until_crashed(site, feed)
    await _go_on(site, point)


async def _restart(site: Site, crash_at: str | None) -> None:
    await site.receiver.kill()
    await site.receiver.start(crash_at=crash_at)


async def _feed_until_crashed(site: Site, feed: Feed) -> None:
    crashing = asyncio.create_task(site.receiver.crashed())
    while not crashing.done():
        await feed(site)
        await asyncio.wait([crashing], timeout=0.1)
    await crashing


async def _crashed(site: Site, point: str) -> None:
    await site.receiver.crashed()
    await _go_on(site, point)


async def _go_on(site: Site, point: str) -> None:
    """The next process, with all well; whatever was promised so far must come out of it."""
    await site.link.heal()
    try:
        await site.receiver.start()
    except NotReady as error:
        raise RuntimeError(f"after {point}: {error}") from error
    await settle(site)
    kept = (await site.tables()).events.keys() | (await site.topics()).quarantined
    lost = len(site.witness.promised - kept)
    site.expect(not lost, f"{lost} events were lost at {point}")


@contextlib.asynccontextmanager
async def _without_keys(site: Site) -> AsyncIterator[None]:
    """Two rotations past what the receiver knows, and no look at the key set."""
    await site.canvas.key_server.misbehave(Mode.ERROR)
    await site.canvas.rotate_keys()
    await site.canvas.rotate_keys()
    try:
        yield
    finally:
        await site.canvas.key_server.behave()


async def _expect_held(site: Site, lane: str) -> None:
    held = (await site.ledger()).lane(lane)
    site.expect(held >= HELD, f"only {held} events were held in the lane {lane}")


async def _has_reserve(site: Site) -> bool:
    return (site.directory / "data" / "spool" / "reserve").exists()


async def _events(site: Site) -> None:
    await site.canvas.send_events(site.url, count=FEED)


async def _mixed(site: Site) -> None:
    await asyncio.gather(
        site.canvas.send_events(site.url, count=FEED),
        site.canvas.send_notices(site.url, count=FEED // 4, batch=2),
    )


def _expired(site: Site, numbers: Iterator[int]) -> Iterator[Outgoing]:
    for _ in range(FEED):
        event = site.canvas.school.live_event(next(numbers), stream="expired")
        token = site.signed(event, age_s=EXPIRED_AGE_S)
        yield event_request(token, name=event.name, content_key=event.content_key())
