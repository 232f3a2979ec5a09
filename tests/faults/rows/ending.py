"""Row 6: the receiver is told to end, in mid-body and with much in its spool."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.emulator.deliveries import Delivery, Outgoing
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle, settle_and_judge
from tests.faults.proxy import BOTH
from tests.faults.rows.expecting import expect_all_accepted, expect_small_spool, spool_file_bytes
from tests.faults.site import Site, event_request, streaming
from tests.faults.verdict import Tally
from tests.faults.waiting import until

RATE: Final = 200.0
NOTICE_SHARE: Final = 0.1
HALVES: Final = 20
ENDLESS: Final = 3
GRACE_S: Final = 25.0
"""What Kubernetes' 30 s leave after the way to the process."""

PAUSE_S: Final = 0.3
SPOOLED: Final = 1_500
SLOW_BYTES_PER_S: Final = 40_000.0
SHORT_GRACE_S: Final = 2.0


async def sigterm_in_mid_body(grounds: Grounds, seed: int) -> Tally:
    """Some bodies that are half here come to their end then, others never do; and load goes on."""
    async with grounds.site(seed) as site:
        whole = [Halves(request=_event(site, number)) for number in range(HALVES)]
        endless = [Halves(request=_event(site, HALVES + n)) for n in range(ENDLESS)]
        async with streaming(site, rate=RATE, repeat_share=0, notice_share=NOTICE_SHARE):
            sending = [asyncio.create_task(each.send(site)) for each in (*whole, *endless)]
            await asyncio.gather(*(each.is_half_sent.wait() for each in (*whole, *endless)))
            await asyncio.sleep(PAUSE_S)
            began = time.monotonic()
            ending = asyncio.create_task(site.receiver.term())
            await asyncio.sleep(PAUSE_S)
            for each in whole:
                each.may_go_on.set()
        code = await ending
        took_s = time.monotonic() - began
        await asyncio.gather(*sending)
        site.expect(code == 0, f"the receiver ended with {code}")
        site.expect(took_s < GRACE_S, f"the receiver took {took_s:.1f} s to end")
        answers = [each.status for each in whole]
        site.expect(set(answers) <= {202, 503}, f"whole bodies were answered {answers}")
        answers = [each.status for each in endless]
        site.expect(202 not in answers, f"halves of bodies were answered {answers}")
        await site.receiver.start()
        return await settle_and_judge(site)


async def killed_before_it_has_drained(grounds: Grounds, seed: int) -> Tally:
    """SIGTERM with a full spool and a slow Kafka, then SIGKILL; the next process goes on."""
    async with grounds.site(seed) as site:
        await site.link.refuse()
        await site.canvas.send_events(site.url, count=SPOOLED, concurrency=64)
        held, peak_bytes = (await site.ledger()).lane("spool"), spool_file_bytes(site)
        site.expect(held == SPOOLED, f"{held} of {SPOOLED} wait in the spool")
        await site.link.heal()
        site.link.throttle(SLOW_BYTES_PER_S, of=BOTH[:1])
        await until(lambda: _drains(site))
        os.kill(site.receiver.pid, signal.SIGTERM)
        await asyncio.sleep(SHORT_GRACE_S)
        await site.receiver.kill()
        await site.receiver.start()
        left = sum((await site.ledger()).recovered.values())
        site.expect(0 < left < SPOOLED, f"{left} of {SPOOLED} were left to the next process")
        await site.link.heal()
        expect_all_accepted(site)
        await settle(site)
        await expect_small_spool(site, peak_bytes=peak_bytes)
        return await judge(site)


async def _drains(site: Site) -> bool:
    return (await site.ledger()).outcome("published") > 0


@dataclass(slots=True, kw_only=True)
class Halves:
    """A request whose body comes in two parts, and the status that it is answered with."""

    request: Outgoing
    is_half_sent: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    status: int | None = None

    async def send(self, site: Site) -> None:
        """Sends it, and lets the witness know what came of it."""
        sent_at_s, said, error = time.time(), {}, None
        try:
            async with site.session.post(
                f"{site.url}/live-events",
                data=self._parts(),
                headers={"Content-Length": str(len(self.request.body))},
            ) as response:
                self.status, said = response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, OSError) as failure:
            error = type(failure).__name__
        site.witness.record(self._delivery(sent_at_s, said, error))

    async def _parts(self) -> AsyncIterator[bytes]:
        body = self.request.body
        half = len(body) // 2
        yield body[:half]
        self.is_half_sent.set()
        await self.may_go_on.wait()
        yield body[half:]

    def _delivery(self, sent_at_s: float, said: Any, error: str | None) -> Delivery:
        (parcel,) = self.request.parcels
        return Delivery(
            lane=self.request.lane,
            role=parcel.role,
            name=parcel.name,
            content_key=parcel.content_key,
            attempt=1,
            sent_at_s=sent_at_s,
            elapsed_s=time.time() - sent_at_s,
            status=self.status,
            outcome=said.get("outcome"),
            event_id=said.get("event_id"),
            reason=said.get("reason"),
            error=error,
        )


def _event(site: Site, number: int) -> Outgoing:
    event = site.canvas.school.live_event(number, stream="halves")
    return event_request(site.signed(event), name=event.name, content_key=event.content_key())
