"""Row 28: Kafka acknowledges everything, and everything late: after 0.9 of the publish budget."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

from tests.faults.crowd import MAX_CONNECTIONS, Crowd, crowding
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.rows.expecting import expect_all_accepted, expect_spooled, expect_within_budget
from tests.faults.site import Site
from tests.faults.verdict import Tally

RATE: Final = 2_000.0
BUDGET_S: Final = 2.0
LATE_S: Final = 0.9 * BUDGET_S
CALM_S: Final = 6.0
LATE_FOR_S: Final = 12.0
TOKENS: Final = 6_000
"""Signed ahead; after that each comes again, as a repeat."""

WANTED_PER_S: Final = 1_500.0
SHARE_OF_CALM: Final = 0.8
"""Where the machine does not bring the rate in calm, so much of what it does bring is sent: who is
overrun refuses, whatever Kafka does."""

ENOUGH: Final = 0.95

SETTLE_TIMEOUT_S: Final = 180.0


async def every_acknowledgement_late(grounds: Grounds, seed: int) -> Tally:
    """What Kafka does not acknowledge in time is spooled at once; nothing is refused."""
    receiver = {"FOREBAY_PUBLISH__TIMEOUT_S": str(BUDGET_S)}
    async with grounds.site(seed, receiver=receiver, with_worker=False) as site:
        site.receiver.is_forgetful = True  # each event comes several times, and shall cost the same
        await site.receiver.restart()
        tokens = int(TOKENS * site.load)
        await site.ahead.prepare(tokens)
        events = site.ahead.in_turn(tokens)
        async with Crowd(site.url, site.witness.record) as crowd:
            async with crowding(crowd, events, rate=RATE * site.load):
                calm_per_s = await _durable_per_s(site, CALM_S)
            rate = min(RATE * site.load, SHARE_OF_CALM * calm_per_s)
            began = len(site.witness.deliveries)
            site.link.delay(LATE_S)
            async with crowding(crowd, events, rate=rate):
                late_per_s = await _durable_per_s(site, LATE_FOR_S)
            await site.link.heal()
        _expect_enough(site, began, calm_per_s, late_per_s)
        expect_spooled(site)
        expect_all_accepted(site)
        expect_within_budget(site)
        await site.worker.start()
        await settle(site, timeout_s=SETTLE_TIMEOUT_S)
        return await judge(site)


async def _durable_per_s(site: Site, seconds: float) -> float:
    """Events a second that were answered 2xx in the coming seconds."""
    before, began_s = len(site.witness.deliveries), time.monotonic()
    await asyncio.sleep(seconds)
    answered = site.witness.deliveries[before:]
    return sum(each.accepted for each in answered) / (time.monotonic() - began_s)


def _expect_enough(site: Site, began: int, calm_per_s: float, late_per_s: float) -> None:
    answered = site.witness.deliveries[began:]
    ways = Counter(each.outcome or each.reason or each.error for each in answered)
    peak_mb = site.watcher.max_bytes["receiver"] / 1024**2
    site.measured.append(
        f"{late_per_s:,.0f} events/s made durable, {calm_per_s:,.0f} in calm, by at most"
        f" {MAX_CONNECTIONS} connections; {ways['spooled']} spooled; RSS {peak_mb:.0f} MB"
    )
    wanted_per_s = min(WANTED_PER_S * site.load, ENOUGH * SHARE_OF_CALM * calm_per_s)
    site.expect_in_time(
        late_per_s >= wanted_per_s,
        f"{late_per_s:,.0f} events/s made durable, {wanted_per_s:,.0f} wanted",
    )
    statuses = {each.status for each in answered}
    site.expect(statuses == {202}, f"answers were {statuses}: {dict(ways)}")
