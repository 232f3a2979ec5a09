"""Posts requests as Canvas does, so many at a time and so many a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson

from tests.emulator.deliveries import PATHS, Delivery, Job, Outgoing, Parcel

TIMEOUT_S: Final = 15.0
"""How long Canvas waits for an answer (Canvas documentation: Live Events set-up)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPlan:
    """What is done after an answer that is not 2xx, or none at all.

    One further attempt follows each of `delays_s`. `resign` signs the same claims anew for it;
    otherwise the same bytes go out again. Any status is retried alike, as Canvas documents it.
    """

    delays_s: tuple[float, ...] = ()
    resign: bool = False


NO_RETRIES: Final = RetryPlan()


class Pace:
    """Lets `per_second` events through each second, on a schedule fixed at the start.

    Who is late does not wait, so that the average holds; 0 lets everyone through at once.
    """

    def __init__(self, per_second: float) -> None:
        self._gap_s = 1 / per_second if per_second > 0 else 0.0
        self._next_s: float | None = None

    async def turn(self, events: int) -> None:
        """Wait until the next `events` may go."""
        now_s = time.monotonic()
        due_s = now_s if self._next_s is None else self._next_s
        self._next_s = due_s + events * self._gap_s
        if self._gap_s and due_s > now_s:
            await asyncio.sleep(due_s - now_s)


class Sender:
    """An HTTP client with Canvas's patience. Use as an async context manager."""

    def __init__(
        self,
        base_url: str,
        *,
        concurrency: int,
        timeout_s: float = TIMEOUT_S,
        retry_plan: RetryPlan = NO_RETRIES,
        signers: Executor | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._concurrency = concurrency
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._retry_plan = retry_plan
        self._signers = signers
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            timeout=self._timeout,
            headers={"User-Agent": "forebay-emulator"},
            # else aiohttp would name a type where the emulator wants none
            skip_auto_headers=["Content-Type"],
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def send(
        self, jobs: Iterator[Job], *, rate: float, on_delivery: Callable[[Delivery], None]
    ) -> None:
        """Send all jobs and report each parcel's fate as its answer arrives.

        `rate` is in events a second, 0 for as fast as it goes. Never raises for what the receiver
        or the network does: that is in the deliveries.
        """
        pace = Pace(rate)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work(jobs, pace, on_delivery))

    async def _work(
        self, jobs: Iterator[Job], pace: Pace, on_delivery: Callable[[Delivery], None]
    ) -> None:
        for job in jobs:
            outgoing = await self._made(job, 1)
            await pace.turn(len(outgoing.parcels))
            await self._deliver(job, outgoing, on_delivery)

    async def _deliver(
        self, job: Job, outgoing: Outgoing, on_delivery: Callable[[Delivery], None]
    ) -> None:
        delays_s = self._retry_plan.delays_s
        for attempt in range(1, len(delays_s) + 2):
            deliveries = await self._post(outgoing, attempt)
            for delivery in deliveries:
                on_delivery(delivery)
            if attempt > len(delays_s) or not _worth_a_retry(deliveries):
                return
            await asyncio.sleep(delays_s[attempt - 1])
            if self._retry_plan.resign:
                outgoing = await self._made(job, attempt + 1)

    async def _made(self, job: Job, attempt: int) -> Outgoing:
        if self._signers is None:
            return job(attempt)
        return await asyncio.get_running_loop().run_in_executor(self._signers, job, attempt)

    async def _post(self, outgoing: Outgoing, attempt: int) -> list[Delivery]:
        assert self._session is not None
        headers = {} if outgoing.content_type is None else {"Content-Type": outgoing.content_type}
        sent_at_s, started_s = time.time(), time.perf_counter()
        status, answer, error = None, None, None
        try:
            async with self._session.post(
                self._base_url + PATHS[outgoing.lane], data=outgoing.body, headers=headers
            ) as response:
                answer = _parsed(await response.read())
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            error = str(failure) or type(failure).__name__
        elapsed_s = time.perf_counter() - started_s
        return [
            Delivery(
                lane=outgoing.lane,
                role=parcel.role,
                name=parcel.name,
                content_key=parcel.content_key,
                attempt=attempt,
                sent_at_s=sent_at_s,
                elapsed_s=elapsed_s,
                status=status,
                error=error,
                expected=parcel.expected,
                **_said(answer, place, parcel),
            )
            for place, parcel in enumerate(outgoing.parcels)
        ]


def _worth_a_retry(deliveries: list[Delivery]) -> bool:
    status = deliveries[0].status
    answered = status is not None and 200 <= status < 300
    return not answered and deliveries[0].role != "forgery"


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _said(answer: Any, place: int, parcel: Parcel) -> dict[str, str | None]:
    """What the answer says of one parcel: in a batch by its place, else of the request whole."""
    if isinstance(answer, dict) and isinstance(notices := answer.get("notices"), list):
        answer = notices[place] if place < len(notices) else None
    if not isinstance(answer, dict):
        return {}
    said = {name: _text(answer.get(name)) for name in ("outcome", "event_id", "reason")}
    if said["event_id"] == parcel.content_key:
        said["event_id"] = parcel.content_key  # one string in memory instead of two
    return said


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
