"""Events signed before they are needed, and shared by all cases of a run.

A signature takes most of a millisecond of processor time, at 500 events a second half of one core
of two; and who measures has none to spare.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Final

from tests.emulator.key_store import Keys
from tests.emulator.school import School
from tests.emulator.traffic import Office, SignedEvent, event_jobs
from tests.support.keys import SigningKey

FIRST: Final = 10**7
"""Numbers of events begin here, beyond those that a case signs itself."""

FRESH_S: Final = 1_500.0
"""A token is good for an hour, and the longest case takes some minutes."""

_CHUNK: Final = 250
_THREADS: Final = 2


class SignedAhead:
    """The events of one school in the mix of all types, as many as are asked for."""

    def __init__(self, seed: int, keys: Keys) -> None:
        self._office = Office(
            school=School.from_seed(seed),
            stranger=School.from_seed(seed + 1, name="elsewhere"),
            other_key=SigningKey.generate(keys.live_events.current.kid),
            keys=lambda: keys,
            clock=time.time,
        )
        self._events: list[SignedEvent] = []
        self._signed_at_s = time.monotonic()
        self._one_chunk = asyncio.Lock()
        self._signers = ThreadPoolExecutor(_THREADS, thread_name_prefix="ahead")

    def close(self) -> None:
        """Lets go of the threads."""
        self._signers.shutdown()

    def freshen(self) -> None:
        """Forgets what is too old for a case that begins now."""
        if time.monotonic() - self._signed_at_s > FRESH_S:
            self._events = []

    async def events(self, *, first: int = 0) -> AsyncIterator[SignedEvent]:
        """All of them from that place on, in order, without end."""
        place = first
        while True:
            await self.prepare(place + 1)
            yield self._events[place]
            place += 1

    async def in_turn(self, count: int) -> AsyncIterator[SignedEvent]:
        """The first `count`, again and again: each is a repeat from the second round on."""
        await self.prepare(count)
        for event in cycle(self._events[:count]):
            yield event

    async def prepare(self, count: int) -> None:
        """Returns when so many are signed."""
        while len(self._events) < count:
            async with self._one_chunk:
                if len(self._events) < count:
                    await self._sign_some()

    async def _sign_some(self) -> None:
        if not self._events:
            self._signed_at_s = time.monotonic()
        first = FIRST + len(self._events)
        jobs = event_jobs(self._office, range(first, first + _CHUNK), name=None, quoted=0)
        loop = asyncio.get_running_loop()
        signing = [loop.run_in_executor(self._signers, job.signed) for job in jobs]
        self._events += await asyncio.gather(*signing)
