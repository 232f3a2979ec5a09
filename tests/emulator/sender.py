"""Posts requests as Canvas does, so many at a time and so many a second.

New events and late ones (retries, late repeats) have their own tasks, `concurrency` of each kind,
so that new events keep their schedule however many old ones wait.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson

from tests.emulator.deliveries import PATHS, Delivery, Job, Later, Outgoing, Parcel
from tests.emulator.pace import Pace
from tests.emulator.retry_plan import NO_RETRIES as NO_RETRIES
from tests.emulator.retry_plan import RetryPlan as RetryPlan
from tests.emulator.waiting import Try, Waiting

TIMEOUT_S: Final = 15.0
"""How long Canvas waits for an answer (Canvas documentation: Live Events set-up)."""

_MAX_KEPT: Final = 10_000


class Sender:
    """An HTTP client with Canvas's budget. Use as an async context manager."""

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
        self._waiting = Waiting(max_retries=retry_plan.max_waiting)
        self._serials = itertools.count()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # new ones and late ones never wait for each other
            connector=aiohttp.TCPConnector(limit=2 * self._concurrency),
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

    @property
    def waiting(self) -> int:
        """How many retries wait for their time."""
        return self._waiting.retries

    async def send(
        self, jobs: Iterator[Job | Later], *, rate: float, on_delivery: Callable[[Delivery], None]
    ) -> None:
        """Send all jobs, and report each parcel's fate as its answer arrives.

        `rate` is in events a second, 0 for as fast as it goes; retries and late repeats go out
        when they are due, on top of it and beside it. Returns once all tries are over. Never raises
        for what the receiver or the network does: that is in the deliveries.
        """
        entrance = _Entrance(jobs, Pace(rate), self._waiting)
        async with asyncio.TaskGroup() as group:
            late = [
                group.create_task(self._send_due(on_delivery)) for _ in range(self._concurrency)
            ]
            async with asyncio.TaskGroup() as fresh:
                for _ in range(self._concurrency):
                    fresh.create_task(self._send_new(entrance, on_delivery))
            await self._waiting.all_settled()
            for task in late:
                task.cancel()

    async def _send_new(self, entrance: _Entrance, on_delivery: Callable[[Delivery], None]) -> None:
        while (job := await entrance.next_job()) is not None:
            first = Try(serial=next(self._serials), attempt=1, job=job)
            if isinstance(job, Later):
                entrance.pace.spend(-1)
                self._waiting.put(job.delay_s, first)
                continue
            outgoing = await self._made(job, 1)
            entrance.pace.spend(len(outgoing.parcels) - 1)
            await self._deliver(first, job, outgoing, on_delivery)

    async def _send_due(self, on_delivery: Callable[[Delivery], None]) -> None:
        while True:
            due = await self._waiting.take()
            job = due.job.make() if isinstance(due.job, Later) else due.job
            outgoing = due.outgoing
            if outgoing is None:
                resign = self._retry_plan.resigns(due.serial, due.attempt)
                outgoing = await self._made(job, due.attempt if resign else 1)
            await self._deliver(due, job, outgoing, on_delivery)
            self._waiting.settled()

    async def _deliver(
        self, this: Try, job: Job, outgoing: Outgoing, on_delivery: Callable[[Delivery], None]
    ) -> None:
        deliveries = await self._post(outgoing, this.attempt)
        if not deliveries[0].final:
            self._try_again(this, job, outgoing)
        for delivery in deliveries:
            on_delivery(delivery)

    def _try_again(self, this: Try, job: Job, outgoing: Outgoing) -> None:
        attempt = this.attempt + 1
        # what is signed again is not kept, nor are more bytes than memory has room for: made again
        # from its job, an event has the same bytes
        keep = attempt == 2 and len(self._waiting) < _MAX_KEPT
        keep = keep and not self._retry_plan.resigns(this.serial, attempt)
        self._waiting.put(
            self._retry_plan.waits_s(this.serial)[this.attempt - 1],
            Try(serial=this.serial, attempt=attempt, job=job, outgoing=outgoing if keep else None),
        )

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
        final = not self._will_retry(outgoing, attempt, status)
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
                final=final,
                **_said(answer, place, parcel),
            )
            for place, parcel in enumerate(outgoing.parcels)
        ]

    def _will_retry(self, outgoing: Outgoing, attempt: int, status: int | None) -> bool:
        if outgoing.lane == "pns" or outgoing.parcels[0].role == "forgery":
            return False
        answered_2xx = status is not None and 200 <= status < 300
        return not answered_2xx and attempt < self._retry_plan.tries


class _Entrance:
    """Where new jobs come in, one at a time: when there is room, and in their turn.

    A job is drawn only in its turn, for by then a rotation or a stop may have changed what it is.
    """

    def __init__(self, jobs: Iterator[Job | Later], pace: Pace, waiting: Waiting) -> None:
        self.pace = pace
        self._jobs = jobs
        self._waiting = waiting
        self._lock = asyncio.Lock()
        self._at_end = False

    async def next_job(self) -> Job | Later | None:
        """The next one; None when there are no more."""
        async with self._lock:
            if self._at_end:
                return None
            await self._waiting.room()
            await self.pace.turn()
            job = next(self._jobs, None)
            self._at_end = job is None
            return job


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
