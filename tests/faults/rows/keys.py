"""Rows 10 and 11: the key source misbehaves, and keys change in the middle of things."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

from tests.emulator.deliveries import Outgoing, Verdict
from tests.emulator.forgeries import (
    BAD_SIGNATURE,
    DEFERRED,
    NOT_DURABLE,
    OVERLOADED,
    UNKNOWN_KEY,
)
from tests.emulator.key_server import Mode
from tests.emulator.retry_plan import RetryPlan
from tests.emulator.school import timed
from tests.faults.grounds import Grounds
from tests.faults.judging import settle, settle_and_judge
from tests.faults.site import Site, event_request, streaming
from tests.faults.verdict import Tally
from tests.faults.waiting import until
from tests.support.keys import SigningKey

SETTLED_WITHIN_S: Final = 30.0
BURST: Final = 60
NOTICES: Final = 12
HEARTBEAT: Final = "heartbeat"
"""It says so little that two of them may be one event."""

FORGED: Final = 10
LONG_S: Final = 60.0
FLOOD: Final = 1_200
FLOOD_MAX_BYTES: Final = 1024**2
SPOOL_OVERHEAD_BYTES: Final = 6 * 1024**2
"""What SQLite's write-ahead log may take on top before it is moved into the file."""

_QUICK_MODES: Final = (Mode.ERROR,)
_GENUINE_SAID: Final = frozenset({"published", "deferred"})


async def key_source_fails_in_mid_run(grounds: Grounds, seed: int) -> Tally:
    """Each way to misbehave, and a rotation in the midst of it."""
    async with grounds.site(seed, brokers=0) as site:
        stranger = SigningKey.generate("stranger")
        for mode in _QUICK_MODES if grounds.quick else Mode:
            async with _misbehaving(site, mode):
                await _rotate_beyond(site)
                await _mixed(site, stranger)
                await _expect_kept(site, mode)
            await _expect_settled(site, mode)
        return await settle_and_judge(site)


async def key_source_fails_at_a_cold_start(grounds: Grounds, seed: int) -> Tally:
    """A receiver that has never seen a key, killed while it holds tokens that it cannot judge."""
    async with grounds.site(seed, brokers=0) as site:
        stranger = SigningKey.generate("stranger")
        for mode in _QUICK_MODES if grounds.quick else Mode:
            async with _misbehaving(site, mode):
                await site.receiver.restart()
                await _mixed(site, stranger)
                await _expect_kept(site, mode)
                await site.receiver.restart()
                await _mixed(site, stranger)
                await _expect_kept(site, mode)
            await _expect_settled(site, mode)
        return await settle_and_judge(site)


async def key_source_down_for_a_minute(grounds: Grounds, seed: int) -> Tally:
    """Status 500 for a minute across rotations, and events all the while."""
    async with grounds.site(seed, brokers=0) as site:
        async with streaming(site, rate=50, notice_share=0.1):
            async with _misbehaving(site, Mode.ERROR):
                for _ in range(3):
                    await asyncio.sleep(LONG_S / 4)
                    await site.canvas.rotate_keys()
                await asyncio.sleep(LONG_S / 4)
            await _expect_settled(site, Mode.ERROR)
        site.expect(site.witness.deferred, "nothing was deferred")
        lost = site.witness.counts().lost
        site.expect(not lost, f"{lost} genuine events were not taken")
        return await settle_and_judge(site)


async def flood_while_the_key_source_fails(grounds: Grounds, seed: int) -> Tally:
    """Forged tokens fill their share of the spool and no more; known keys serve all the while."""
    settings = {"FOREBAY_SPOOL__DEFERRED_MAX_BYTES": str(FLOOD_MAX_BYTES)}
    async with grounds.site(seed, brokers=0, receiver=settings) as site:
        stranger = SigningKey.generate("stranger")
        async with streaming(site, notice_share=0.1), _misbehaving(site, Mode.ERROR):
            for start in range(0, FLOOD, FORGED):
                await site.send(_forged(site, stranger, start, FORGED))
            await _expect_bounded(site)
        lost = site.witness.counts().lost
        site.expect(not lost, f"{lost} events with keys that are known were not taken")
        await _expect_settled(site, Mode.ERROR)
        return await settle_and_judge(site)


async def rotation_in_mid_burst(grounds: Grounds, seed: int) -> Tally:
    """Keys rotate again and again while events stream in; the key set always answers.

    Not faster than keys are fetched: what is signed with a key that is shown no more is refused,
    and rightly. Only what was on its way in that very moment may have to be signed anew.
    """
    rng = random.Random(seed)
    plan = RetryPlan.canvas(time_scale=0.002, resign_share=1, seed=seed)
    async with grounds.site(seed, brokers=0) as site:
        async with streaming(site, retry_plan=plan):
            for _ in range(4):
                await asyncio.sleep(rng.uniform(3.2, 4.5))
                await site.canvas.rotate_keys()
        lost = site.witness.counts().lost
        site.expect(not lost, f"{lost} genuine events were not taken, {dict(site.witness.said)}")
        return await settle_and_judge(site)


async def next_key_early_and_previous_key_late(grounds: Grounds, seed: int) -> Tally:
    """All that the key set shows is good for signing, at a receiver old or new."""
    async with grounds.site(seed, brokers=0) as site:
        numbers = itertools.count()
        for rotated, restarted in itertools.product((False, True), repeat=2):
            if rotated:
                await site.canvas.rotate_keys()
            if restarted:
                await site.receiver.restart()
            answered = await site.send(_by_every_key(site, numbers))
            said = {delivery.outcome for delivery in answered}
            site.expect(said == {"published"}, f"answers to shown keys were {said}")
        return await settle_and_judge(site)


@contextlib.asynccontextmanager
async def _misbehaving(site: Site, mode: Mode) -> AsyncIterator[None]:
    await site.canvas.key_server.misbehave(mode)
    try:
        yield
    finally:
        await site.canvas.key_server.behave()


async def _rotate_beyond(site: Site) -> None:
    """Twice, for the next key is known already."""
    await site.canvas.rotate_keys()
    await site.canvas.rotate_keys()


async def _mixed(site: Site, stranger: SigningKey) -> None:
    """Genuine events and notices with new keys, and forgeries between them."""
    start = site.witness.genuine
    await asyncio.gather(
        site.canvas.send_events(site.url, count=BURST),
        site.canvas.send_notices(site.url, count=NOTICES, batch=3),
        site.send(_forged(site, stranger, start, FORGED)),
    )


def _forged(site: Site, stranger: SigningKey, start: int, count: int) -> Iterator[Outgoing]:
    """Events of our own tenant that a stranger signed, under a name of his own or of a true key."""
    for number in range(start, start + count):
        event = site.canvas.school.live_event(number, stream="strangers")
        if event.name == HEARTBEAT:
            continue
        if number % 2:
            kid, right = f"unheard-of-{number}", UNKNOWN_KEY
        else:
            kid, right = site.canvas.keys.live_events.current.kid, BAD_SIGNATURE
        token = stranger.sign(timed(event.claims, int(time.time())), headers={"kid": kid})
        yield event_request(
            token.encode(),
            name=event.name,
            content_key=event.content_key(),
            expected=_or_later(right),
        )


def _or_later(right: Verdict) -> tuple[Verdict, ...]:
    """A forgery may be put off, as long as it is never let in."""
    return (right, DEFERRED, NOT_DURABLE, OVERLOADED)


async def _expect_kept(site: Site, mode: Mode) -> None:
    """Every genuine event so far got a 2xx, published or deferred."""
    refused = site.witness.not_accepted
    site.expect(not refused, f"{mode.name}: {len(refused)} genuine events were not taken")
    said = {entry.outcome for entry in site.witness.entries.values() if entry.accepted}
    site.expect(said <= _GENUINE_SAID, f"{mode.name}: genuine events were {said}")
    held = (await site.ledger()).lane("deferred")
    # a key set labelled as something else is a key set all the same
    site.expect((held > 0) == (mode is not Mode.WRONG_TYPE), f"{mode.name}: {held} were deferred")


async def _expect_settled(site: Site, mode: Mode) -> None:
    async def is_empty() -> bool:
        return not (await site.ledger()).lane("deferred")

    try:
        await until(is_empty, timeout_s=SETTLED_WITHIN_S)
    except TimeoutError:
        site.expect(False, f"{mode.name}: not settled {SETTLED_WITHIN_S:g} s after its return")
    await settle(site)
    promised = frozenset(site.witness.promised)  # before the look: more may be on their way
    trusted = {record.event_id for record in (await site.topics()).trusted}
    missing = len(promised - trusted)
    site.expect(not missing, f"{mode.name}: {missing} genuine events are not published")


async def _expect_bounded(site: Site) -> None:
    scrape = await site.metrics()
    used_bytes = scrape.value("forebay_spool_bytes")
    most_bytes = FLOOD_MAX_BYTES + SPOOL_OVERHEAD_BYTES
    site.expect(used_bytes < most_bytes, f"the flood took {used_bytes:,.0f} bytes of the spool")
    deferred = scrape.ledger().lane("deferred")
    refused = scrape.ledger().outcome("not_durable")
    site.expect(deferred, "nothing of the flood was deferred")
    site.expect(refused, f"the flood met no bound, {deferred} tokens are held")


def _by_every_key(site: Site, numbers: Iterator[int]) -> Iterator[Outgoing]:
    ring = site.canvas.keys.live_events
    for key in (ring.previous, ring.current, ring.next):
        for number in itertools.islice(numbers, FORGED):
            event = site.canvas.school.live_event(number, stream="keys")
            yield event_request(
                event.token(key, int(time.time())).encode(),
                name=event.name,
                content_key=event.content_key(),
            )
