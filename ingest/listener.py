"""The public listener: aiohttp's server, whose own errors answer as ours do and log nothing."""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import structlog
from aiohttp import web

from ingest.contract.operating.admin import start
from ingest.errors import Malformed
from ingest.metrics import Metrics
from ingest.receiver import Receiver, problem

log = structlog.get_logger(__name__)

_BACKLOG = 1024
_LINGERING_S = 2.0


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
    server = _Server(receiver.handle, metrics=metrics)
    runner = web.ServerRunner(server, shutdown_timeout=shutdown_timeout_s)
    await runner.setup()
    site = web.SockSite(runner, bound, ssl_context=tls, backlog=_BACKLOG)
    try:
        await start(site)
        yield
        await site.stop()
        # aiohttp's own shutdown stops reading at once, and would cut a body that is half here
        await receiver.drain(shutdown_timeout_s)
    finally:
        await runner.cleanup()


class _Server(web.Server):
    def __init__(self, handler: Any, *, metrics: Metrics) -> None:
        super().__init__(handler, access_log=None, lingering_time=_LINGERING_S)
        self._metrics = metrics

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._metrics, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """What is no HTTP gets our answer: aiohttp's would quote the request, and so would its log."""

    __slots__ = ("_metrics",)

    def __init__(self, manager: web.Server, metrics: Metrics, **options: Any) -> None:
        super().__init__(manager, **options)
        self._metrics = metrics

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
