"""Receiver, worker, broker and the links between them, and the Canvas that sends to it all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from tests.emulator.canvas import Canvas
from tests.emulator.deliveries import Delivery, Job, Lane, Outgoing, Parcel, Verdict
from tests.emulator.school import LiveEvent, Notice, timed
from tests.emulator.sender import NO_RETRIES, RetryPlan, Sender
from tests.faults import kept
from tests.faults.crowd import Crowd, crowding
from tests.faults.programs import Part, store_in
from tests.faults.proxy import Proxy
from tests.faults.readiness import Readiness
from tests.faults.signed_ahead import SignedAhead
from tests.faults.verdict import Violation
from tests.faults.waiting import until
from tests.faults.watching import Ledger, Scrape, Watcher, scrape
from tests.faults.witness import Witness
from tests.kafka.broker import Cluster

LEAST_RATE: Final = 500.0
LEAST_TYPES: Final = 20
PREPARED_S: Final = 20.0
"""Most cases last no longer; what comes later is signed meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything that one case may break.

    `links` are the receiver's ways to the brokers, in their order; the worker goes past them.
    Without a cluster both programs use the embedded log. `ahead` are events that are signed
    already, and `load` is the share of their rate that is sent. `seen` is what did not hold so far,
    `measured` what is worth telling.
    """

    canvas: Canvas
    witness: Witness
    receiver: Part
    worker: Part
    cluster: Cluster | None
    links: Sequence[Proxy]
    prefix: str
    directory: Path
    url: str
    session: aiohttp.ClientSession
    watcher: Watcher
    readiness: Readiness
    ahead: SignedAhead
    load: float
    seen: list[Violation] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)

    @property
    def link(self) -> Proxy:
        """The only one."""
        (link,) = self.links
        return link

    @property
    def store(self) -> Path:
        """The DuckDB file of the worker."""
        return store_in(self.directory)

    def expect(self, condition: object, text: str) -> None:
        """Notes for the judge what the case expected, unless the condition holds."""
        if not condition:
            self.seen.append(Violation(invariant="case", seen=text))

    def expect_in_time(self, condition: object, text: str) -> None:
        """As `expect`, of what only a machine that is not taken away meanwhile is held to."""
        if not condition:
            self.seen.append(Violation(invariant="clock", seen=text))

    async def metrics(self) -> Scrape:
        """The receiver's, now."""
        return await scrape(self.session, self.receiver.admin_url)

    async def ledger(self) -> Ledger:
        """The receiver's, now."""
        return (await self.metrics()).ledger()

    async def worker_metrics(self) -> Scrape:
        """The worker's, now."""
        return await scrape(self.session, self.worker.admin_url)

    async def topics(self) -> kept.Topics:
        """What the log holds."""
        if self.cluster is None:
            return await asyncio.to_thread(kept.read_embedded, self.directory, self.prefix)
        return await kept.read_topics(self.cluster.bootstrap_servers, self.prefix)

    async def tables(self) -> kept.Tables:
        """What the store holds."""
        return await asyncio.to_thread(kept.read_tables, self.store)

    async def stored_offsets(self) -> Mapping[kept.Place, int]:
        """How far the store is complete."""
        name = self.worker.settings["FOREBAY_WORKER__NAME"]
        return await asyncio.to_thread(kept.read_offsets, self.store, worker=name)

    async def send(
        self,
        requests: Iterable[Outgoing],
        *,
        concurrency: int = 8,
        rate: float = 0,
        retry_plan: RetryPlan = NO_RETRIES,
    ) -> list[Delivery]:
        """Posts ready-made requests; the witness takes down every answer, and here they are."""
        deliveries: list[Delivery] = []

        def take_down(delivery: Delivery) -> None:
            self.witness.record(delivery)
            deliveries.append(delivery)

        async with Sender(self.url, concurrency=concurrency, retry_plan=retry_plan) as sender:
            jobs = (_job(request) for request in requests)
            await sender.send(jobs, rate=rate, on_delivery=take_down)
        return deliveries

    def signed(self, message: LiveEvent | Notice, *, age_s: int = 0) -> bytes:
        """A genuine token, signed so many seconds ago by the emulator's clock."""
        return self.signed_claims(
            timed(message.claims, int(time.time()) - age_s),
            lane="live-events" if isinstance(message, LiveEvent) else "pns",
        )

    def signed_claims(self, claims: Mapping[str, Any], *, lane: Lane = "live-events") -> bytes:
        """These claims and no others, signed with the lane's current key."""
        keys = self.canvas.keys
        key = keys.live_events.current if lane == "live-events" else keys.platform.current
        return key.sign(claims).encode()


def _job(request: Outgoing) -> Job:
    def made(attempt: int, /) -> Outgoing:
        return request

    return made


def event_request(
    token: bytes, *, name: str, content_key: str | None, expected: tuple[Verdict, ...] = ()
) -> Outgoing:
    """A POST of one Live Event; with `expected` it is a forgery, and that the right answers."""
    parcel = Parcel(
        role="forgery" if expected else "genuine",
        name=name,
        content_key=content_key,
        expected=expected,
    )
    return Outgoing(lane="live-events", body=token, content_type=None, parcels=(parcel,))


def notices_request(tokens: Sequence[bytes], parcels: Sequence[Parcel]) -> Outgoing:
    """A POST of notices, with what the witness must know of each."""
    body = orjson.dumps({"notices": [{"jwt": token.decode()} for token in tokens]})
    return Outgoing(lane="pns", body=body, content_type="application/json", parcels=tuple(parcels))


@contextlib.asynccontextmanager
async def running(site: Site, *, with_worker: bool = True) -> AsyncIterator[Site]:
    """Both programs, ready and watched; at the end both must go in order."""
    parts = [site.receiver, *([site.worker] if with_worker else [])]
    watching = [asyncio.create_task(each.run()) for each in (site.watcher, site.readiness)]
    try:
        await asyncio.gather(*(part.start() for part in parts))
        yield site
    except BaseException:
        await asyncio.gather(site.receiver.kill(), site.worker.kill())
        raise
    finally:
        for task in watching:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    running_parts = [part for part in (site.receiver, site.worker) if part.is_running]
    codes = await asyncio.gather(*(part.term() for part in running_parts))
    if any(codes):
        raise RuntimeError(f"programs ended with {codes}; see {site.directory}")


@contextlib.asynccontextmanager
async def streaming(
    site: Site,
    *,
    rate: float = 100,
    repeat_share: float = 0.1,
    notice_share: float = 0,
    retry_plan: RetryPlan = NO_RETRIES,
) -> AsyncIterator[None]:
    """Events come in while the block runs, some of them twice; tries that are left come after."""
    ended = asyncio.Event()
    stream = asyncio.create_task(
        site.canvas.stream(
            site.url,
            until=ended,
            rate=rate,
            repeat_share=repeat_share,
            notice_share=notice_share,
            quoted_share=0.3,
            retry_plan=retry_plan,
        )
    )
    try:
        await until(lambda: site.witness.genuine > rate / 2)
        yield
    finally:
        ended.set()
        await stream


@contextlib.asynccontextmanager
async def loaded(site: Site, *, rate: float, notice_share: float = 0) -> AsyncIterator[Crowd]:
    """As `streaming`, with events signed ahead: they cost little, and keep their rate.

    Notices come beside them. The case expects `LEAST_RATE` in all, and `LEAST_TYPES`.
    """
    rate *= site.load
    await site.ahead.prepare(int(rate * PREPARED_S))
    ended, began_s = asyncio.Event(), time.monotonic()
    before = len(site.witness.deliveries)
    async with Crowd(site.url, site.witness.record) as crowd, asyncio.TaskGroup() as group:
        if notice_share:
            group.create_task(
                site.canvas.stream(site.url, until=ended, rate=rate * notice_share, notice_share=1)
            )
        async with crowding(crowd, site.ahead.events(), rate=rate * (1 - notice_share)):
            await until(lambda: len(site.witness.deliveries) > before + rate / 2)
            yield crowd
            posting_s = time.monotonic() - began_s
            ended.set()
    _expect_load(site, posted=len(site.witness.deliveries) - before, seconds=posting_s)


def _expect_load(site: Site, *, posted: int, seconds: float) -> None:
    types = len({entry.name for entry in site.witness.entries.values()})
    site.measured.append(f"{posted / seconds:,.0f} events/s over {types} types")
    enough = posted >= LEAST_RATE * site.load * seconds
    site.expect_in_time(enough, f"only {posted} events came in {seconds:.1f} s")
    site.expect(types >= LEAST_TYPES, f"only {types} types came")
