"""The whole stand-in: keys shown, events signed and sent, answers remembered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from itertools import islice
from types import TracebackType
from typing import Final, Self

from tests.emulator.budget import Budget, BudgetReport
from tests.emulator.deliveries import PATHS, Delivery, Job, Later
from tests.emulator.forgeries import live_events as live_events_forgeries
from tests.emulator.forgeries import notices as notice_forgeries
from tests.emulator.key_desk import KeyDesk
from tests.emulator.key_store import Keys
from tests.emulator.oracle import Oracle
from tests.emulator.report import Report, Tally
from tests.emulator.school import School
from tests.emulator.sender import NO_RETRIES, TIMEOUT_S, RetryPlan, Sender
from tests.emulator.story.story import Story
from tests.emulator.story_jobs import story_jobs
from tests.emulator.traffic import (
    Mix,
    NoticesJob,
    Office,
    Repeatable,
    SignedEvent,
    blended,
    event_jobs,
    forged_jobs,
    mingled,
    notices_jobs,
    signed_jobs,
    stopping,
)
from tests.support.keys import SigningKey

Progress = Callable[[int, int], None]
"""Told how many deliveries are done, and how many are planned without repeats and forgeries."""

_RETRY_DELAY_S: Final = 0.2
_STREAM_CONCURRENCY: Final = 256  # Canvas's sending side is wide: a slow receiver hardly slows it
_SIGNER_THREADS: Final = 2  # signing lets go of the interpreter lock, so threads do help


class Canvas(KeyDesk):
    """A Canvas with one school on it. Use as an async context manager.

    Each call that sends or signs goes on where the last one stopped, so that no two calls make the
    same event; they may run side by side. `oracle` remembers everything that is sent, and can be
    asked meanwhile. With `serve_keys` false somebody else must show `keys` at `port`.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        port: int = 0,
        school: School | None = None,
        keys: Keys | None = None,
        oracle: Oracle | None = None,
        serve_keys: bool = True,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(keys or Keys.generate(), port=port)
        self.school = school or School.from_seed(seed)
        self.oracle = oracle or Oracle()
        self._serve_keys = serve_keys
        self._timeout_s = timeout_s
        self._clock = clock
        self._next_event = 0
        self._next_notice = 0
        self._budget = Budget()
        self._senders: set[Sender] = set()
        self._signers = ThreadPoolExecutor(_SIGNER_THREADS, thread_name_prefix="signer")
        self._office = Office(
            school=self.school,
            stranger=School.from_seed(self.school.seed + 1, name="elsewhere"),
            other_key=SigningKey.generate(self.keys.live_events.current.kid),
            keys=lambda: self.keys,
            clock=clock,
        )
        self._forged = {lane: forged_jobs(self._office, lane) for lane in PATHS}
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._exits.callback(self._signers.shutdown)
        if self._serve_keys:
            await self._exits.enter_async_context(self.key_server)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exits.aclose()

    @property
    def live_events_issuer(self) -> str:
        """The `iss` of Live Events."""
        return self.school.live_events_issuer

    @property
    def platform_issuer(self) -> str:
        """The `iss` of notices."""
        return self.school.platform_issuer

    def tenants_toml(self, *, pin_subscription: bool = True) -> str:
        """The receiver's tenants file that admits this school.

        Without the pin an event that names no root account belongs to nobody.
        """
        return self.school.tenants_toml(
            platform_jwks_url=self.platform_jwks_url, pin_subscription=pin_subscription
        )

    def receiver_environment(self) -> dict[str, str]:
        """The receiver's settings that point it at this Canvas, apart from the tenants file."""
        return {
            "FOREBAY_LIVE_EVENTS__ISSUER": self.live_events_issuer,
            "FOREBAY_LIVE_EVENTS__JWKS_URL": self.jwks_url,
        }

    @property
    def budget(self) -> BudgetReport:
        """What of Canvas's budget with this subscription is spent by now."""
        return self._budget.report(time.time())

    @property
    def waiting_retries(self) -> int:
        """How many retries wait for their time, over all that is being sent."""
        return sum(sender.waiting for sender in self._senders)

    def sign_events(self, count: int, *, name: str | None = None) -> list[SignedEvent]:
        """Sign `count` new events ahead of time; blocks, for about half a millisecond each."""
        jobs = event_jobs(self._office, self._take_events(count), name=name, quoted=0)
        return list(self._signers.map(lambda job: job.signed(), jobs))

    async def send_events(
        self,
        url: str,
        *,
        count: int,
        name: str | None = None,
        rate: float = 0,
        concurrency: int = 16,
        repeat_share: float = 0,
        repeat_delay_s: float = 0,
        quoted_share: float = 0,
        forged_share: float = 0,
        caliper_share: float = 0,
        retries: int = 0,
        resign_retries: bool = False,
        retry_plan: RetryPlan | None = None,
        on_progress: Progress | None = None,
    ) -> Report:
        """Send `count` new Live Events to the receiver at base address `url`.

        `rate` is in events a second, 0 for as fast as it goes; the shares are those of `Mix`.
        `caliper_share` of the events are in Caliper format. `name` sends one type only; KeyError
        when the corpus lacks it in a format that is asked for. `retries` is for short
        interruptions: so many, soon, and new events wait for them. `retry_plan` goes before it.
        """
        corpus = self.school.corpus
        wanted = [corpus.event_names] if caliper_share < 1 else []
        wanted += [corpus.caliper_names] if caliper_share > 0 else []
        if name is not None and not all(name in names for names in wanted):
            raise KeyError(name)
        mix = Mix(repeats=repeat_share, repeat_delay_s=repeat_delay_s, forged=forged_share)
        numbers = self._take_events(count)
        genuine = event_jobs(
            self._office, numbers, name=name, quoted=quoted_share, caliper=caliper_share
        )
        return await self._send(
            url,
            self._blended(genuine, mix),
            planned=count,
            rate=rate,
            concurrency=concurrency,
            retry_plan=retry_plan or _soon(retries, concurrency, resign=resign_retries),
            on_progress=on_progress,
        )

    async def send_story(
        self,
        url: str,
        story: Story,
        *,
        rate: float = 0,
        concurrency: int = 16,
        repeat_share: float = 0,
        repeat_delay_s: float = 0,
        quoted_share: float = 0,
        forged_share: float = 0,
        retries: int = 0,
        retry_plan: RetryPlan | None = None,
        on_progress: Progress | None = None,
    ) -> Report:
        """Send the whole of a story of this school, events and notices as they come.

        Otherwise as `send_events`. In order as far as `concurrency` requests at a time are: a
        receiver that needs more order than that would need more than Canvas gives.
        """
        mix = Mix(repeats=repeat_share, repeat_delay_s=repeat_delay_s, forged=forged_share)
        return await self._send(
            url,
            self._blended(story_jobs(self._office, story, quoted=quoted_share), mix),
            planned=story.events,
            rate=rate,
            concurrency=concurrency,
            retry_plan=retry_plan or _soon(retries, concurrency),
            on_progress=on_progress,
        )

    async def stream(
        self,
        url: str,
        *,
        rate: float,
        until: asyncio.Event | None = None,
        duration_s: float | None = None,
        notice_share: float = 0,
        notice_batch: int = 1,
        concurrency: int = _STREAM_CONCURRENCY,
        repeat_share: float = 0,
        repeat_delay_s: float = 0,
        quoted_share: float = 0,
        forged_share: float = 0,
        caliper_share: float = 0,
        retry_plan: RetryPlan = NO_RETRIES,
        on_progress: Progress | None = None,
    ) -> Report:
        """Send Live Events, and notices among them, until `until` is set or `duration_s` is over.

        `notice_share` is that of POSTs, with `notice_batch` notices each. `rate` is in events a
        second, notices included, and is kept while fewer than `concurrency` new requests wait for
        their answers. After the stop what was sent is still retried, and late repeats still come,
        so that the report is final. Meanwhile `oracle.counts()` tells how it goes. ValueError when
        nothing would ever stop it.
        """
        if until is None and duration_s is None:
            raise ValueError("a stream needs `until` or `duration_s`")
        genuine = mingled(
            event_jobs(
                self._office,
                self._endless_events(),
                name=None,
                quoted=quoted_share,
                caliper=caliper_share,
            ),
            self._endless_notices(notice_batch),
            notice_share=notice_share,
            seed=self.school.seed,
        )
        mix = Mix(repeats=repeat_share, repeat_delay_s=repeat_delay_s, forged=forged_share)
        return await self._send(
            url,
            self._blended(stopping(genuine, until, duration_s), mix),
            planned=0,
            rate=rate,
            concurrency=concurrency,
            retry_plan=retry_plan,
            on_progress=on_progress,
        )

    async def send_signed(
        self,
        url: str,
        events: Sequence[SignedEvent],
        *,
        rate: float = 0,
        concurrency: int = 16,
        repeat_share: float = 0,
        quoted_share: float = 0,
        retries: int = 0,
        on_progress: Progress | None = None,
    ) -> Report:
        """Send events that `sign_events` made, without signing anything now."""
        return await self._send(
            url,
            self._blended(signed_jobs(events, quoted=quoted_share), Mix(repeats=repeat_share)),
            planned=len(events),
            rate=rate,
            concurrency=concurrency,
            retry_plan=_soon(retries, concurrency),
            on_progress=on_progress,
            signed=True,
        )

    async def send_notices(
        self,
        url: str,
        *,
        count: int,
        batch: int = 1,
        notice_type: str | None = None,
        rate: float = 0,
        concurrency: int = 4,
        repeat_share: float = 0,
        repeat_delay_s: float = 0,
        forged_share: float = 0,
        on_progress: Progress | None = None,
    ) -> Report:
        """Send `count` new notices, up to `batch` of one type in a POST. None is ever retried.

        `notice_type` sends one type only; KeyError when the corpus lacks it.
        """
        types = self.school.corpus.notice_types
        if notice_type is not None and notice_type not in types:
            raise KeyError(notice_type)
        types = types if notice_type is None else (notice_type,)
        first = self._take_notices(count)
        genuine = notices_jobs(self._office, first, count, batch=batch, types=types)
        mix = Mix(repeats=repeat_share, repeat_delay_s=repeat_delay_s, forged=forged_share)
        return await self._send(
            url,
            self._blended(genuine, mix),
            planned=count,
            rate=rate,
            concurrency=concurrency,
            on_progress=on_progress,
        )

    async def send_forgeries(self, url: str, *, concurrency: int = 4) -> Report:
        """Send every forgery of both endpoints once."""
        jobs = [
            *islice(self._forged["live-events"], len(live_events_forgeries())),
            *islice(self._forged["pns"], len(notice_forgeries())),
        ]
        return await self._send(url, iter(jobs), planned=len(jobs), rate=0, concurrency=concurrency)

    def _take_events(self, count: int) -> range:
        first, self._next_event = self._next_event, self._next_event + count
        return range(first, self._next_event)

    def _endless_events(self) -> Iterator[int]:
        while True:
            yield from self._take_events(1)

    def _take_notices(self, count: int) -> int:
        first, self._next_notice = self._next_notice, self._next_notice + count
        return first

    def _endless_notices(self, batch: int) -> Iterator[NoticesJob]:
        for notice_type in itertools.cycle(self.school.corpus.notice_types):
            first = self._take_notices(batch)
            yield from notices_jobs(self._office, first, batch, batch=batch, types=(notice_type,))

    def _blended(self, genuine: Iterator[Repeatable], mix: Mix) -> Iterator[Job | Later]:
        return blended(genuine, self._forged, mix, self.school.seed)

    async def _send(
        self,
        url: str,
        jobs: Iterator[Job | Later],
        *,
        planned: int,
        rate: float,
        concurrency: int,
        retry_plan: RetryPlan = NO_RETRIES,
        on_progress: Progress | None = None,
        signed: bool = False,
    ) -> Report:
        tally = Tally()

        def take_down(delivery: Delivery) -> None:
            self.oracle.record(delivery)
            self._budget.add(delivery)
            tally.add(delivery)
            if on_progress is not None:
                on_progress(tally.done, planned)

        started_s = time.perf_counter()
        async with Sender(
            url,
            concurrency=concurrency,
            timeout_s=self._timeout_s,
            retry_plan=retry_plan,
            signers=None if signed else self._signers,
        ) as sender:
            self._senders.add(sender)
            try:
                await sender.send(jobs, rate=rate, on_delivery=take_down)
            finally:
                self._senders.discard(sender)
        return tally.report(time.perf_counter() - started_s, self.budget)


def _soon(retries: int, concurrency: int, *, resign: bool = False) -> RetryPlan:
    delays_s = (_RETRY_DELAY_S,) * retries
    return RetryPlan(delays_s=delays_s, resign=resign, max_waiting=concurrency)
