"""Many connections that post events signed ahead, cheaply: the load of cases that measure."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson

from tests.emulator.deliveries import Delivery, Role
from tests.emulator.sender import TIMEOUT_S
from tests.emulator.traffic import SignedEvent

MAX_CONNECTIONS: Final = 1_500

KEPT_S: Final = 2.0
"""An idle connection is given up before the receiver does, as HTTP clients do."""

_EARLY_S: Final = 0.002
"""Less than this is not worth a sleep."""

_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Crowd:
    """Posts to the receiver at base address `url`, and reports each answer to `on_delivery`.

    Connections are kept, and there are as many as requests wait for answers. Use as an async
    context manager.
    """

    def __init__(
        self,
        url: str,
        on_delivery: Callable[[Delivery], None],
        *,
        connections: int = MAX_CONNECTIONS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self._on_delivery = on_delivery
        self._tls = tls
        self._room = asyncio.Semaphore(connections)
        self._idle: list[tuple[float, _Ends]] = []
        self._role: dict[str, Role] = {}
        self.sent = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Closes the connections that wait for nothing; the next request opens its own."""
        while self._idle:
            self._idle.pop()[1][1].close()

    async def post(
        self, events: AsyncIterator[SignedEvent], *, rate: float, until: asyncio.Event
    ) -> None:
        """Posts `rate` events a second until told to stop; returns after the last answer.

        The schedule is fixed at the start: who is late does not wait.
        """
        began_s, number = 0.0, 0
        async with asyncio.TaskGroup() as group:
            async for event in events:
                began_s = began_s or time.monotonic()  # the first may have to be signed yet
                early_s = began_s + number / rate - time.monotonic()
                if early_s > _EARLY_S:
                    await asyncio.sleep(early_s)
                await self._room.acquire()
                if until.is_set():
                    self._room.release()
                    return
                number += 1
                group.create_task(self._deliver(event))

    async def _deliver(self, event: SignedEvent) -> None:
        self.sent += 1
        role = self._role.get(event.content_key, "genuine")
        self._role[event.content_key] = "repeat"
        sent_at_s, began_s = time.time(), time.perf_counter()
        status, error = None, None
        said: dict[str, Any] = {}
        try:
            async with asyncio.timeout(TIMEOUT_S):
                ends = await self._ends()
                # hundreds that connect at once wait for the kernel, not for the receiver
                sent_at_s, began_s = time.time(), time.perf_counter()
                status, said = await self._answer(ends, event.token)
        except (OSError, asyncio.IncompleteReadError) as failure:  # TimeoutError is an OSError
            error = type(failure).__name__
        finally:
            self._room.release()
        self._on_delivery(
            Delivery(
                lane="live-events",
                role=role,
                name=event.name,
                content_key=event.content_key,
                attempt=1,
                sent_at_s=sent_at_s,
                elapsed_s=time.perf_counter() - began_s,
                status=status,
                outcome=said.get("outcome"),
                event_id=said.get("event_id"),
                reason=said.get("reason"),
                error=error,
            )
        )

    async def _answer(self, ends: _Ends, token: bytes) -> tuple[int, dict[str, Any]]:
        reader, writer = ends
        try:
            writer.write(b"POST /live-events HTTP/1.1\r\nHost: crowd\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(token), token))
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(_content_length(head))
        except BaseException:
            writer.transport.abort()
            raise
        if b"connection: close" in head.lower():
            writer.close()
        else:
            self._idle.append((time.monotonic(), ends))
        return int(head.split(b" ", 2)[1]), orjson.loads(body)

    async def _ends(self) -> _Ends:
        """A connection that was not idle for long, or a new one."""
        while self._idle:
            idle_since_s, ends = self._idle.pop()
            if time.monotonic() - idle_since_s < KEPT_S and not ends[0].at_eof():
                return ends
            ends[1].close()
        return await self._connected()

    async def _connected(self) -> _Ends:
        return await asyncio.open_connection(
            self._host, self._port, ssl=self._tls, server_hostname="" if self._tls else None
        )


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


@contextlib.asynccontextmanager
async def crowding(
    crowd: Crowd, events: AsyncIterator[SignedEvent], *, rate: float
) -> AsyncIterator[None]:
    """Events come in while the block runs; at its end the last answers are waited for."""
    ended = asyncio.Event()
    posting = asyncio.create_task(crowd.post(events, rate=rate, until=ended))
    try:
        yield
    finally:
        ended.set()
        await posting
