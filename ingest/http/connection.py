"""One connection: aiohttp's protocol, bounded in bytes and seconds at every step.

aiohttp bounds neither the time that a head may take, nor a head as a whole, nor what it reads after
an early answer; and what is no HTTP it would quote in its answer and its log.
"""

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from ingest.errors import Malformed
from ingest.http.answers import let_go, problem
from ingest.http.connections import Connections, Rank
from ingest.http.receiver import Limits
from ingest.observing.metrics import Metrics

log = structlog.get_logger(__name__)

_MAX_HEAD_BYTES = 32 * 1024
# what a first packet brings: of a head in two packets nothing more is ever unfinished
_USUAL_HEAD_BYTES = 1536
# the smallest chunk has five bytes for its one: what is around a body may be so many times as large
_MAX_FRAMING = 8
# read and thrown away after an early answer, lest a reset overtakes it; the rest is not read at all
_MAX_LINGERING_BYTES = 64 * 1024
_MAX_QUEUED = 2

_take_in = web.RequestHandler.data_received  # once for every request, and super() is not free


class Connection(web.RequestHandler):
    """What is no HTTP gets our answer; a head has a deadline of its own, from its first byte on;
    so has a peer that does nothing."""

    __slots__ = (
        "_body",
        "_connections",
        "_deadline",
        "_in_head",
        "_large",
        "_limits",
        "_metrics",
        "_received",
        "_since",
        "_unread",
        "_wire",
        "handshake",
    )

    def __init__(
        self,
        manager: web.Server,
        connections: Connections,
        metrics: Metrics,
        limits: Limits,
        **options: Any,
    ) -> None:
        super().__init__(manager, **options)
        # aiohttp takes 32 requests that nobody has begun, each with a part of its body
        self._max_msg_queue_size = _MAX_QUEUED
        self._msg_queue_resume_size = _MAX_QUEUED - 1
        self._connections = connections
        self._metrics = metrics
        self._limits = limits
        self._body: StreamReader | None = None
        self._in_head = False
        self._large = 0  # of an unfinished head, beyond a usual one's
        self._received = 0  # of what is under way: a head, a body, or what is thrown away
        self._since = self._loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._wire: asyncio.Transport | None = None
        self.handshake: socket.socket | None = None
        """Its socket, while nothing else of it is there."""

    def rank(self) -> Rank | None:
        is_idle = self._waiter is not None and not self._waiter.done()
        # a body behind a whole request may be half here too
        is_whole = not is_idle and (bool(self._messages) or not self._is_half_here())
        if is_whole and self._wire is not None and not self._wire.is_closing():
            return None
        answered = self._request_count - (0 if is_idle else 1)
        latest = self._next_keepalive_close_time - self._keepalive_timeout
        return answered > 0, max(self._since, latest)

    @property
    def is_open(self) -> bool:
        """Whether its handshake is behind it, and its end still to come."""
        return self._wire is not None

    def evict(self) -> None:
        if self._wire is not None:
            self._wire.abort()
        elif self.handshake is not None:
            # to cancel what waits for it would leave the socket open in uvloop, were it just begun
            with contextlib.suppress(OSError):
                self.handshake.shutdown(socket.SHUT_RDWR)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        self._end_after(self._limits.silence_timeout_s, self.evict)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end_head()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().connection_lost(exc)
        self._connections.discard(self)
        self._wire = None

    async def start(self) -> None:
        try:
            await super().start()
        finally:
            # the bodies in them know their connection: a cycle, with all that was not read
            self._messages.clear()
            self._body = None
            if self._wire is not None:
                # closing waits for the peer to take what is written, however long that takes
                self._end_after(self._limits.silence_timeout_s, self.evict)

    def data_received(self, data: bytes) -> None:
        count = self._request_count
        _take_in(self, data)
        if self._request_count != count:
            self._head_came(len(data), self._request_count - count)
        elif data:
            self._more_came(len(data))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self._loop.call_later(self._limits.silence_timeout_s, self.evict)

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
        return problem(Malformed())

    def _process_keepalive(self) -> None:
        # timers run before sockets are read: a request that came meanwhile would be lost unread
        if self._has_more_to_read():
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def _has_more_to_read(self) -> bool:
        """Whether the kernel has something of the peer's that nobody has read, or its end."""
        wire = self._wire.get_extra_info("socket") if self._wire is not None else None
        if wire is None or wire.fileno() < 0:
            return False
        ready = select.poll()
        ready.register(wire.fileno(), select.POLLIN)
        return bool(ready.poll(0))

    def _head_came(self, size: int, heads: int) -> None:
        self._end_head()
        message, body = self._messages[-1]
        if type(message) is _ErrInfo:
            let_go(message.exc)  # aiohttp's own frame holds it, and the data
        previous, self._body = self._body, body
        if previous is not None and not previous.is_eof():
            # aiohttp's parser tells of broken framing as if a request came, and lets the body wait
            previous.set_exception(web.RequestPayloadError("broken framing"))
        if self._received + size > _MAX_HEAD_BYTES and self._has_large_head(heads):
            for _ in range(heads):
                self._messages.pop()
            self._refuse_head()
        self._received = 0
        if self._upgraded:
            self.close()  # after the answer: no other protocol is spoken here

    def _more_came(self, size: int) -> None:
        """More of what is under way, or the beginning of a head."""
        if not self._keepalive:  # answered, and only here to read it
            self._received += size
            if self._received > _MAX_LINGERING_BYTES and not self._buffer_paused:
                self._pause_reading_for_buffer()
        elif self._is_half_here():
            self._received += size
            self._bound_framing()
        elif not self._close and not self._force_close:
            if not self._in_head:
                self._in_head = True
                self._received = 0
                self._end_after(self._limits.head_timeout_s, self._head_overdue)
            self._received += size
            if self._received > _MAX_HEAD_BYTES or not self._may_grow():
                self._refuse_head()

    def _may_grow(self) -> bool:
        """A usual head may always come in pieces; what is larger shares room with all such."""
        more = self._received - _USUAL_HEAD_BYTES - self._large
        if more <= 0:
            return True
        if not self._connections.may_grow(more):
            return False
        self._large += more
        return True

    def _end_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._in_head = False
        if self._large:
            self._connections.may_grow(-self._large)
            self._large = 0

    def _is_half_here(self) -> bool:
        return self._body is not None and not self._body.is_eof()

    def _bound_framing(self) -> None:
        """Chunk extensions and trailers: they are no body, and the parser keeps some of them."""
        assert self._body is not None
        if self._received > _MAX_HEAD_BYTES + _MAX_FRAMING * self._body.total_bytes:
            self._body.set_exception(web.RequestPayloadError("framing without a body"))

    def _has_large_head(self, heads: int) -> bool:
        messages = (self._messages[at][0] for at in range(-heads, 0))
        return any(
            len(message.path) + sum(len(name) + len(value) for name, value in message.raw_headers)
            > _MAX_HEAD_BYTES
            for message in messages
            if not isinstance(message, _ErrInfo)
        )

    def _refuse_head(self) -> None:
        """Answers what has come of it as no HTTP, and takes in no more."""
        error = BadHttpMessage("too large a head")
        self._messages.append((_ErrInfo(status=400, exc=error, message=""), EMPTY_PAYLOAD))
        self._request_count += 1
        self._body = EMPTY_PAYLOAD
        self._end_head()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._close = True

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
            self.evict()
