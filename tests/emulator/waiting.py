"""What is to be sent later: retries, and repeats that come late."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from dataclasses import dataclass

from tests.emulator.deliveries import Job, Later, Outgoing


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One attempt at a request. `outgoing` is None where it has to be made (again)."""

    serial: int
    attempt: int
    job: Job | Later
    outgoing: Outgoing | None = None


class Waiting:
    """Tries by the time they are due; one that waits costs no task.

    Whoever takes one says `settled` once it is dealt with, and has put its next try before that.
    """

    def __init__(self, *, max_retries: int) -> None:
        self._max_retries = max_retries
        self._heap: list[tuple[float, int, Try]] = []
        self._order = itertools.count()
        self._retries = 0
        self._open = 0
        self._one_taker = asyncio.Lock()
        self._put = asyncio.Event()
        self._taken = asyncio.Event()
        self._all_settled = asyncio.Event()
        self._all_settled.set()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def retries(self) -> int:
        """How many retries wait; late repeats are not among them."""
        return self._retries

    def put(self, delay_s: float, item: Try) -> None:
        """Have `item` taken in `delay_s` from now."""
        heapq.heappush(self._heap, (time.monotonic() + delay_s, next(self._order), item))
        self._retries += item.attempt > 1
        self._open += 1
        self._all_settled.clear()
        self._put.set()

    async def take(self) -> Try:
        """The try that has been due longest; waits until one is."""
        # one waiter on the clock is enough, the others queue at the lock
        async with self._one_taker:
            while (wait_s := self._wait_s()) is None or wait_s > 0:
                self._put.clear()
                try:
                    async with asyncio.timeout(wait_s):
                        await self._put.wait()
                except TimeoutError:
                    pass
            _, _, item = heapq.heappop(self._heap)
        self._retries -= item.attempt > 1
        self._taken.set()
        return item

    def _wait_s(self) -> float | None:
        return self._heap[0][0] - time.monotonic() if self._heap else None

    def settled(self) -> None:
        """One that was taken is dealt with."""
        self._open -= 1
        if not self._open:
            self._all_settled.set()

    async def room(self) -> None:
        """Wait until fewer retries wait than may."""
        while self._retries >= self._max_retries:
            self._taken.clear()
            await self._taken.wait()

    async def all_settled(self) -> None:
        """Wait until nothing waits and all that was taken is dealt with."""
        await self._all_settled.wait()
