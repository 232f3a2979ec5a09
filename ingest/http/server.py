"""The public listener: an accept loop of its own, so that every socket counts from the start.

asyncio's server tells nobody of a TLS handshake under way or failed, and when file descriptors run
out it waits in silence.
"""

import asyncio
import contextlib
import heapq
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import structlog
from aiohttp import web

from ingest.http.clients import Clients, Handler, Proxies
from ingest.http.connection import Connection
from ingest.http.connections import Connections, site_of
from ingest.http.receiver import Limits, Receiver
from ingest.observing.metrics import Metrics
from ingest.shared.admin_listener import listen

log = structlog.get_logger(__name__)

_BACKLOG = 1024
_ACCEPTS_AT_ONCE = 64
_NO_DESCRIPTOR_PAUSE_S = 0.05
_COMPLAIN_EVERY_S = 60.0
_TLS_SHUTDOWN_S = 2.0
# an unfinished one takes ten times the memory of a plain connection, and costs a stranger nothing
_HANDSHAKES_SHARE = 10
_ENDED_SHARE = 32
_LINGERING_S = 2.0
_KEEPALIVE_S = 15.0
# a proxy keeps connections for a minute, and what it sends on one that we are closing is lost
_PROXY_KEEPALIVE_S = 75.0
_MAX_HEADERS = 64
_READ_AHEAD_BYTES = 64 * 1024


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
    metrics.watch_connections(lambda: len(server.open))
    listen(bound, _BACKLOG)
    accepting = _Accepting(server, metrics, bound, _handshake(tls, receiver.limits))
    accepting.start()
    try:
        try:
            yield
        finally:
            accepting.stop()
            # aiohttp's own shutdown stops reading at once, and would cut a body that is half here
            await receiver.drain(shutdown_timeout_s)
    finally:
        server.pre_shutdown()
        await server.shutdown(shutdown_timeout_s)
        await accepting.end()


class Server(web.Server):
    """Makes a protocol for each connection, and knows who is there."""

    def __init__(self, handler: Handler, *, metrics: Metrics, limits: Limits) -> None:
        super().__init__(
            handler,
            access_log=None,
            auto_decompress=False,
            lingering_time=_LINGERING_S,
            keepalive_timeout=_KEEPALIVE_S,
            max_headers=_MAX_HEADERS,
            read_bufsize=_READ_AHEAD_BYTES,
        )
        self.max_connections = limits.max_connections
        self._metrics = metrics
        self._limits = limits
        self._proxies = Proxies(limits.trusted_proxies)
        self._clients = Clients(
            handler,
            self._proxies,
            max_requests=limits.max_connections_per_address,
            aborted=metrics.aborted,
        )
        self.open = Connections(
            max_open=limits.max_connections,
            max_per_address=limits.max_connections_per_address,
            aborted=metrics.aborted,
        )

    def admit(self, host: str) -> Connection | None:
        """A protocol for a connection from this address; None where there is no room for it."""
        is_proxy = self._proxies.has(host)
        address = None if is_proxy else site_of(host)
        if not self.open.has_room(address):
            return None
        connection = Connection(
            self, self.open, self._metrics, self._limits, loop=self._loop, **self._kwargs
        )
        if is_proxy:
            connection._request_handler = self._clients.handle
            connection._keepalive_timeout = _PROXY_KEEPALIVE_S
        self.open.add(connection, address)
        return connection


class _Accepting:
    """Takes connections from a listening socket, and sees them through their handshakes."""

    def __init__(
        self, server: Server, metrics: Metrics, bound: socket.socket, handshake: dict[str, Any]
    ) -> None:
        self._server = server
        self._metrics = metrics
        self._bound = bound
        self._handshake = handshake
        self._loop = asyncio.get_running_loop()
        self._opening: dict[asyncio.Task[None], Connection] = {}
        most = server.max_connections
        self._max_opening = max(_ACCEPTS_AT_ONCE, most // _HANDSHAKES_SHARE, min(most // 2, 1_000))
        self._again: asyncio.TimerHandle | None = None
        self._complained_at = float("-inf")

    def start(self) -> None:
        self._bound.setblocking(False)
        self._loop.add_reader(self._bound, self._accept)

    def stop(self) -> None:
        """Accepts no more."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._bound)
        self._bound.close()

    async def end(self) -> None:
        """Ends unfinished handshakes."""
        for connection in self._opening.values():
            connection.evict()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                accepted, peer = self._bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._no_descriptor(error)
                return
            connection = self._server.admit(peer[0])
            if connection is None:
                accepted.close()
                continue
            accepted.setblocking(False)
            connection.handshake = accepted
            task = self._loop.create_task(self._open(connection, accepted))
            self._opening[task] = connection
            task.add_done_callback(lambda task: self._opening.pop(task, None))
            if len(self._opening) > self._max_opening:
                self._end_some()

    def _end_some(self) -> None:
        """The oldest handshakes of those addresses that have the most connections."""
        there = self._server.open
        first = heapq.nsmallest(
            max(1, self._max_opening // _ENDED_SHARE),
            self._opening,
            key=lambda task: -there.beside(self._opening[task]),
        )
        for task in first:
            connection = self._opening.pop(task)
            self._metrics.aborted("tls_handshake")
            there.discard(connection)
            connection.evict()

    async def _open(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, accepted, **self._handshake
            )
        except OSError:
            if connection in self._server.open:
                self._metrics.aborted("tls_handshake")
        finally:
            connection.handshake = None
            if not connection.is_open:
                self._server.open.discard(connection)

    def _no_descriptor(self, error: OSError) -> None:
        """Makes room and tries again soon; the kernel keeps who waits."""
        evicted = self._server.open.evict("no_descriptor")
        self._loop.remove_reader(self._bound)
        self._again = self._loop.call_later(_NO_DESCRIPTOR_PAUSE_S, self.start)
        if time.monotonic() - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = time.monotonic()
            log.error(
                "connections cannot be accepted, idle ones are closed:"
                " raise the limit of file descriptors, or lower FOREBAY_HTTP__MAX_CONNECTIONS",
                cause=error.strerror,
                open=len(self._server.open),
                closed=evicted,
            )


def _handshake(tls: ssl.SSLContext | None, limits: Limits) -> dict[str, Any]:
    if tls is None:
        return {}
    return {
        "ssl": tls,
        # asyncio's own are a minute and half a minute
        "ssl_handshake_timeout": limits.silence_timeout_s,
        "ssl_shutdown_timeout": _TLS_SHUTDOWN_S,
    }
