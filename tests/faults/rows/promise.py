"""Row 25: what Canvas sees of an outage of Kafka that the spool can hold. Nothing."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from tests.emulator.retry_plan import RetryPlan
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.rows.expecting import (
    expect_all_accepted,
    expect_small_spool,
    expect_spooled,
    expect_within_budget,
    spool_file_bytes,
)
from tests.faults.site import Site, streaming
from tests.faults.verdict import Tally

RATE: Final = 100.0
NOTICE_SHARE: Final = 0.1
OUTAGE_S: Final = (5.0, 8.0)
TIME_SCALE: Final = 0.02
RESIGN_SHARE: Final = 0.3

LONG_RATE: Final = 500.0
LONG_OUTAGE_S: Final = 60.0
KILLED_AFTER_S: Final = (20.0, 40.0)
WARM_UP_S: Final = 3.0
SETTLE_TIMEOUT_S: Final = 240.0


async def kafka_away_within_the_spool(grounds: Grounds, seed: int) -> Tally:
    """Canvas tries nothing again, loses nothing, and keeps all of its retry."""
    rng = random.Random(seed)
    async with grounds.site(seed) as site:
        async with streaming(
            site, rate=RATE, notice_share=NOTICE_SHARE, retry_plan=_canvas_plan(seed)
        ):
            site.link.blackhole()
            await asyncio.sleep(rng.uniform(*OUTAGE_S))
            peak_bytes = spool_file_bytes(site)
            await site.link.heal()
            await asyncio.sleep(1.0)
        expect_spooled(site)
        expect_all_accepted(site)
        site.expect(not site.canvas.budget.deactivated, "Canvas has switched the subscription off")
        statuses = {status for status, _ in site.witness.said}
        site.expect(statuses == {202}, f"answers were {statuses}")
        await _expect_untouched_budget(site)
        await settle(site)
        await expect_small_spool(site, peak_bytes=peak_bytes)
        return await judge(site)


async def broker_frozen_and_receiver_killed(grounds: Grounds, seed: int) -> Tally:
    """The promise: a minute without the broker, and in the middle of it SIGKILL to the receiver."""
    rng = random.Random(seed)
    async with grounds.site(seed) as site:
        assert site.cluster is not None
        (broker,) = site.cluster.brokers
        killed_after_s = rng.uniform(*KILLED_AFTER_S)
        async with streaming(
            site, rate=LONG_RATE, repeat_share=0.05, retry_plan=_canvas_plan(seed)
        ):
            await asyncio.sleep(WARM_UP_S)
            broker.pause()
            await asyncio.sleep(killed_after_s)
            await site.receiver.restart()
            await asyncio.sleep(LONG_OUTAGE_S - killed_after_s)
            peak_bytes = spool_file_bytes(site)
            broker.resume()
            await asyncio.sleep(WARM_UP_S)
        expect_spooled(site)
        expect_all_accepted(site)
        expect_within_budget(site)
        lost = site.witness.counts().lost
        site.expect(lost == 0, f"Canvas has lost {lost} events")
        await settle(site, timeout_s=SETTLE_TIMEOUT_S)
        await expect_small_spool(site, peak_bytes=peak_bytes)
        return await judge(site)


async def _expect_untouched_budget(site: Site) -> None:
    """By Canvas's own count, and by our estimate of it."""
    exhausted = sum(site.canvas.budget.exhausted.values())
    site.expect(exhausted == 0, f"Canvas has given up {exhausted} events")
    estimate = (await site.metrics()).value("forebay_canvas_budget_used_ratio")
    site.expect(estimate == 0, f"the receiver believes {estimate:.6f} of Canvas's retry spent")


def _canvas_plan(seed: int) -> RetryPlan:
    return RetryPlan.canvas(time_scale=TIME_SCALE, resign_share=RESIGN_SHARE, seed=seed)
