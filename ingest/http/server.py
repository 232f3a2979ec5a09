"""The public listener: aiohttp's server, whose own errors answer as ours do and log nothing.

aiohttp bounds neither the time that a head may take nor the number of connections; both are here.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web

from ingest.errors import Malformed
from ingest.http.answers import problem
from ingest.http.receiver import Limits, Receiver
from ingest.observing.metrics import Metrics
from ingest.shared.admin_listener import start

log = structlog.get_logger(__name__)

_BACKLOG = 1024
# aiohttp's own would let idle connections fill the places for an hour
_KEEPALIVE_S = 75.0
_LINGERING_S = 2.0
_MAX_HEADERS = 64  # of 8 KiB at most: what one head can take, times all connections
_MAX_QUEUED = 2

_take_in = web.RequestHandler.data_received  # once for every request, and super() is not free


@contextlib.asynccontextmanager
async def receiving(
    receiver: Receiver,
    metrics: Metrics,
    bound: socket.socket,
    *,
    tls: ssl.SSLContext | None,
    shutdown_timeout_s: float,
) -> AsyncIterator[None]:
    """Listens while the block runs; on leaving accepts no more, and lets what is under way end."""
    server = Server(receiver.handle, metrics=metrics, limits=receiver.limits)
    runner = web.ServerRunner(server, shutdown_timeout=shutdown_timeout_s)
    await runner.setup()
    site = _Site(runner, bound, ssl_context=tls, backlog=_BACKLOG)
    site.handshake_timeout_s = receiver.limits.silence_timeout_s
    try:
        await start(site)
        try:
            yield
        finally:
            await site.stop()
            # aiohttp's own shutdown stops reading at once, and would cut a body that is half here
            await receiver.drain(shutdown_timeout_s)
    finally:
        await runner.cleanup()


class _Site(web.SockSite):
    """aiohttp's, but a TLS handshake may not take asyncio's whole minute."""

    __slots__ = ("handshake_timeout_s",)
    handshake_timeout_s: float

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            server,
            sock=self._sock,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=self.handshake_timeout_s if self._ssl_context else None,
        )


class Server(web.Server):
    """Makes a protocol for each connection, and knows how many there are."""

    def __init__(self, handler: Any, *, metrics: Metrics, limits: Limits) -> None:
        super().__init__(
            handler,
            access_log=None,
            lingering_time=_LINGERING_S,
            keepalive_timeout=_KEEPALIVE_S,
            max_headers=_MAX_HEADERS,
        )
        self._metrics = metrics
        self._limits = limits

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._metrics, self._limits, loop=self._loop, **self._kwargs)

    @property
    def is_full(self) -> bool:
        """Whether one connection more is one too many."""
        return len(self._connections) >= self._limits.max_connections


class _Connection(web.RequestHandler):
    """What is no HTTP gets our answer: aiohttp's would quote the request, and so would its log.

    A head has a deadline of its own, from its first byte on; so has a peer that does nothing.
    """

    __slots__ = ("_body", "_deadline", "_in_head", "_limits", "_metrics", "_unread")

    def __init__(self, manager: Server, metrics: Metrics, limits: Limits, **options: Any) -> None:
        super().__init__(manager, **options)
        # aiohttp takes 32 requests that nobody has begun, each with half a megabyte of its body
        self._max_msg_queue_size = _MAX_QUEUED
        self._msg_queue_resume_size = _MAX_QUEUED - 1
        self._metrics = metrics
        self._limits = limits
        self._body: StreamReader | None = None
        self._in_head = False
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if cast(Server, self._manager).is_full:
            self._metrics.aborted("too_many_connections")
            cast(asyncio.Transport, transport).abort()
            return
        super().connection_made(transport)
        self._end_after(self._limits.silence_timeout_s, self._abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._deadline, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        count = self._request_count
        _take_in(self, data)
        if self._request_count != count:
            self._head_came()
        elif data and not self._in_head and self._expects_head():
            self._in_head = True
            self._end_after(self._limits.head_timeout_s, self._head_overdue)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._loop.call_later(self._limits.silence_timeout_s, self._abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        # whatever a client does to its connection wakes nobody, and must not be quoted
        log.debug("a connection broke")

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        self._metrics.aborted("bad_http")
        answer = problem(Malformed())
        answer.force_close()
        return answer

    def _head_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._in_head = False
        previous, self._body = self._body, self._messages[-1][1]
        if previous is not None and not previous.is_eof():
            # aiohttp's parser tells of broken framing as if a request came, and lets the body wait
            previous.set_exception(web.RequestPayloadError("broken framing"))
        if self._upgraded:
            self.close()  # after the answer: no other protocol is spoken here

    def _expects_head(self) -> bool:
        if self._close or self._force_close:
            return False
        return self._body is None or self._body.is_eof()

    def _end_after(self, timeout_s: float, end: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(timeout_s, end)

    def _head_overdue(self) -> None:
        self._deadline = None
        self._metrics.aborted("head_timeout")
        if self._waiter is None:
            self.close()  # once the request before it is answered
        else:
            self._abort()

    def _abort(self) -> None:
        # a peer that does nothing does not take part in a goodbye either
        if self.transport is not None:
            self.transport.abort()
