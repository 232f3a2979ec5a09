"""Row 25: what Canvas itself loses, by how long we are away."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.emulator.retry_plan import RetryPlan
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle, settle_and_judge
from tests.faults.site import Site
from tests.faults.verdict import Tally

TIME_SCALE: Final = 0.01
"""Ten minutes of Canvas's retry in six seconds: a receiver takes some of them to begin."""

RATE: Final = 60.0
NOTICE_SHARE: Final = 0.1


async def receiver_away_for_a_while(grounds: Grounds, seed: int) -> Tally:
    """Shorter than Canvas's retry: only notices are lost, for they have one try."""
    async with grounds.site(seed) as site:
        await _away(site, seed, minutes=3, killed=True)
        counts = site.witness.counts("live-events")
        site.expect(counts.lost == 0, f"{counts.lost} Live Events were lost, of {counts.sent}")
        site.expect(site.witness.counts("pns").lost > 0, "no notice fell into the outage")
        return await settle_and_judge(site)


async def receiver_away_for_too_long(grounds: Grounds, seed: int) -> Tally:
    """Longer than Canvas's retry: what it gives up is what never got a 2xx, and no more."""
    async with grounds.site(seed) as site:
        await _away(site, seed, minutes=25, killed=False)
        lost = site.witness.lost
        site.expect(lost, "Canvas has lost nothing, though the outage was longer than its retry")
        await settle(site)
        stored = (await site.tables()).events.keys()
        # who ends in order answers all that it took, so what Canvas gave up must be nowhere
        site.expect(not lost & stored, f"{len(lost & stored)} events that were given up have rows")
        unanswered = site.witness.worthy - len(site.witness.promised)
        site.expect(unanswered == len(lost), f"{len(lost)} given up, {unanswered} without a 2xx")
        return await judge(site)


async def _away(site: Site, seed: int, *, minutes: float, killed: bool) -> None:
    """A stream with Canvas's own retries, and no receiver for a part of it."""
    ended = asyncio.Event()
    stream = asyncio.create_task(
        site.canvas.stream(
            site.url,
            until=ended,
            rate=RATE,
            notice_share=NOTICE_SHARE,
            repeat_share=0.05,
            retry_plan=RetryPlan.canvas(time_scale=TIME_SCALE, resign_share=0.5, seed=seed),
        )
    )
    try:
        await asyncio.sleep(1.0)
        await (site.receiver.kill() if killed else site.receiver.term())
        await asyncio.sleep(minutes * 60 * TIME_SCALE)
        await site.receiver.start()
        await asyncio.sleep(1.0)
    finally:
        ended.set()
        await stream
