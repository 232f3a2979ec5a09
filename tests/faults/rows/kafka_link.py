"""Rows 1 and 3: the link between receiver and broker, broken in every way, while events flow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.proxy import PRODUCE, Fate, Proxy
from tests.faults.rows.expecting import (
    expect_all_accepted,
    expect_small_spool,
    expect_spooled,
    expect_within_budget,
    repeated,
    spool_file_bytes,
)
from tests.faults.site import loaded
from tests.faults.verdict import Tally

RATE: Final = 550.0
NOTICE_SHARE: Final = 0.1
OUTAGE_S: Final = (4.0, 6.0)
LATENCY_S: Final = 5.0
THROTTLED_BYTES_PER_S: Final = 1_000.0
CUT_EVERY_S: Final = 0.02
CUT_AFTER_BYTES: Final = (1, 30)

Breaking = Callable[[Proxy, random.Random], Awaitable[None]]
"""Breaks the link, and returns when that has lasted."""


async def broker_refuses(grounds: Grounds, seed: int) -> Tally:
    """Connections are reset, and new ones refused."""

    async def breaking(link: Proxy, rng: random.Random) -> None:
        await link.refuse()
        await _outage(rng)

    return await _spooled_meanwhile(grounds, seed, breaking)


async def broker_is_a_black_hole(grounds: Grounds, seed: int) -> Tally:
    """Connections stay open, and nothing arrives; all of it arrives at the end."""

    async def breaking(link: Proxy, rng: random.Random) -> None:
        link.blackhole()
        await _outage(rng)

    return await _spooled_meanwhile(grounds, seed, breaking)


async def broker_answers_late(grounds: Grounds, seed: int) -> Tally:
    """Every answer takes longer than the publish budget: all is appended, nothing acknowledged."""

    async def breaking(link: Proxy, rng: random.Random) -> None:
        link.delay(LATENCY_S)
        await asyncio.sleep(LATENCY_S)
        await _outage(rng)

    return await _spooled_meanwhile(grounds, seed, breaking)


async def link_is_throttled(grounds: Grounds, seed: int) -> Tally:
    """A kilobyte a second."""

    async def breaking(link: Proxy, rng: random.Random) -> None:
        link.throttle(THROTTLED_BYTES_PER_S)
        await _outage(rng)

    return await _spooled_meanwhile(grounds, seed, breaking)


async def answers_reset_in_the_middle(grounds: Grounds, seed: int) -> Tally:
    """RST after the first bytes of an answer, of whatever kind, again and again."""

    async def breaking(link: Proxy, rng: random.Random) -> None:
        clock = asyncio.get_running_loop().time
        end_s = clock() + rng.uniform(*OUTAGE_S)
        while clock() < end_s:
            link.cut_next_answer(after_bytes=rng.randrange(*CUT_AFTER_BYTES))
            await asyncio.sleep(CUT_EVERY_S)

    return await _spooled_meanwhile(grounds, seed, breaking)


async def acknowledgements_lost(grounds: Grounds, seed: int) -> Tally:
    """Records are appended, and the broker's word for it never comes."""
    return await _unacknowledged(grounds, seed, "lost")


async def acknowledgements_cut(grounds: Grounds, seed: int) -> Tally:
    """Records are appended, and the connection is reset instead of an answer."""
    return await _unacknowledged(grounds, seed, "cut")


async def _unacknowledged(grounds: Grounds, seed: int, fate: Fate) -> Tally:
    """The topics must hold repeats then, else nothing was tried; the tables must not."""
    rng = random.Random(seed)
    async with grounds.site(seed) as site:
        async with loaded(site, rate=RATE, notice_share=NOTICE_SHARE):
            site.link.answers(fate, to=PRODUCE)
            await _outage(rng)
            await site.link.heal()
        expect_all_accepted(site)
        await settle(site)
        repeats = repeated(await site.topics())
        site.expect(repeats, "no record is in a topic twice")
        return await judge(site)


async def _spooled_meanwhile(grounds: Grounds, seed: int, breaking: Breaking) -> Tally:
    """All is accepted by way of the spool, which drains once the link is whole again."""
    rng = random.Random(seed)
    async with grounds.site(seed) as site:
        async with loaded(site, rate=RATE, notice_share=NOTICE_SHARE):
            await breaking(site.link, rng)
            peak_bytes = spool_file_bytes(site)
            await site.link.heal()
            await asyncio.sleep(1.0)
        expect_spooled(site)
        expect_all_accepted(site)
        expect_within_budget(site)
        await settle(site)
        await expect_small_spool(site, peak_bytes=peak_bytes)
        return await judge(site)


async def _outage(rng: random.Random) -> None:
    await asyncio.sleep(rng.uniform(*OUTAGE_S))
