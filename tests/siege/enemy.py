"""What an attacker has: connections, bytes, and a count of what they cost him."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.integration.ingest.wire import Answer, post, read_answer

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]

NO_ANSWER: Final = "none"
ADDRESSES: Final = 8
"""So many machines are his."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an attack took: bytes sent, connections opened, and its answers by status."""

    sent_bytes: int
    connections: int
    answers: dict[str, int]


@dataclass(slots=True, kw_only=True)
class Enemy:
    """One attacker of 127.0.0.1:`port`, who stops after `seconds`, from addresses of his own.

    `ammunition` is a directory with request bodies that were made before, as an attacker would.
    """

    port: int
    seconds: float
    ammunition: Path
    sent_bytes: int = 0
    connections: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    began_s: float = field(default_factory=time.monotonic)

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.began_s + self.seconds

    @property
    def cost(self) -> Cost:
        """What it took so far."""
        return Cost(
            sent_bytes=self.sent_bytes, connections=self.connections, answers=dict(self.answers)
        )

    def bodies(self, name: str) -> list[bytes]:
        """The ammunition of this name."""
        return [path.read_bytes() for path in sorted(self.ammunition.glob(f"{name}-*"))]

    async def connect(self) -> Ends:
        """A new connection. Raises OSError."""
        own = (f"127.0.0.{2 + self.connections % ADDRESSES}", 0)
        self.connections += 1
        async with asyncio.timeout(5):
            return await asyncio.open_connection("127.0.0.1", self.port, local_addr=own)

    async def write(self, ends: Ends, data: bytes) -> None:
        """Sends it all. Raises OSError where the other side has gone."""
        self.sent_bytes += len(data)
        ends[1].write(data)
        await ends[1].drain()

    async def request(self, data: bytes) -> None:
        """Sends it on a connection of its own, and counts the answer."""
        await self.answered(data, None)

    async def answered(self, data: bytes, ends: Ends | None) -> Answer | None:
        """Sends it, counts the answer, and closes the connection; None if there is no answer."""
        answer = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # TimeoutError is one
            ends = ends or await self.connect()
            with contextlib.suppress(OSError):  # an answer may have come before all was sent
                await self.write(ends, data)
            answer = await read_answer(ends[0])
        self.answers[NO_ANSWER if answer is None else str(answer.status)] += 1
        if ends is not None:
            ends[1].transport.abort()
        return answer

    async def post(self, path: str, body: bytes, *headers: str) -> None:
        """The same for a whole POST."""
        await self.request(post(path, body, *headers))

    async def hold(self, ends: Ends) -> None:
        """Keeps a connection open until the time is over, or the other side closes it."""
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(max(0.0, self.began_s + self.seconds - time.monotonic())):
                while await ends[0].read(65_536):
                    pass
        ends[1].transport.abort()


async def many(count: int, work: Callable[[], Awaitable[None]]) -> None:
    """Runs so many at once, to their ends."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_run(work))


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def paced(enemy: Enemy, rate: float, work: Callable[[], Awaitable[None]]) -> None:
    """Begins `rate` of them a second while there is time, and waits for all."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in _counting():
            await asyncio.sleep(max(0.0, began_s + number / rate - time.monotonic()))
            if not enemy.goes_on:
                return
            group.create_task(_run(work))


def _counting() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1
