"""HTTP in, HTTP out: which endpoint a request is for, and what becomes of it.

Source: RFC 9110 for methods.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from aiohttp import web

from ingest.contract.envelope import Source
from ingest.errors import Malformed, MethodNotAllowed, NotDurable, NotFound, Refusal
from ingest.http.admission import Admission, Arrivals, DeadlinePassed, Place
from ingest.http.answers import Judged, accepted, let_go, notices_answer, problem
from ingest.http.body import BodyCut, read_body, read_notices
from ingest.intake import Intake
from ingest.observing.metrics import Metrics
from ingest.shared.logs import place_of
from ingest.spool.deferred import Together
from ingest.values import SignedRequest

log = structlog.get_logger(__name__)

LIVE_EVENT_MAX_BYTES = 2 * 1024 * 1024
NOTICES_MAX_BYTES = 4 * 1024 * 1024

_JUDGED_AT_ONCE = 64

# W3C Trace Context level 1, section 3.2
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one receiver lets in, and for how long.

    Requests: whole bodies within `body_timeout_s`, an answer within `handling_timeout_s` of the
    head; `max_in_flight` whole ones at once, with `max_body_bytes_in_flight` of bodies, and half
    as many bytes again of bodies that are half here. Connections: `max_connections`; a head within
    `head_timeout_s` of its first byte; peers that send nothing at all, or take no answer, for at
    most `silence_timeout_s`. Of one address at most `max_connections_per_address`; behind
    `trusted_proxies`, networks as CIDR, so many requests of one client.
    """

    body_timeout_s: float
    max_in_flight: int
    handling_timeout_s: float = 9.5
    max_body_bytes_in_flight: int = 64 * 1024 * 1024
    head_timeout_s: float = 5.0
    silence_timeout_s: float = 10.0
    max_connections: int = 10_000
    max_connections_per_address: int = 2_000
    trusted_proxies: tuple[str, ...] = ()


class Head(NamedTuple):
    """Of a request's head: its trace context, and the tenant whose own path it came by."""

    traceparent: str | None
    path_of: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path: whose events it takes, how large, and who answers a body and what its head says."""

    source: Source
    max_body_bytes: int
    answer: Callable[[bytes, Head], Awaitable[web.Response]]


class Receiver:
    """The public listener's handler, for `aiohttp.web.Server`.

    `tenant_of_slug` says whose the last part of a path is, where it is some tenant's.
    """

    def __init__(
        self,
        *,
        intake: Intake,
        metrics: Metrics,
        limits: Limits,
        tenant_of_slug: Callable[[str], str | None] = lambda slug: None,
    ) -> None:
        self._intake = intake
        self._tenant_of_slug = tenant_of_slug
        self._metrics = metrics
        self.limits = limits
        self._arrivals = Arrivals(
            max_bytes=limits.max_body_bytes_in_flight // 2, timeout_s=limits.body_timeout_s
        )
        self._admission = Admission(
            max_requests=limits.max_in_flight,
            max_body_bytes=limits.max_body_bytes_in_flight,
            timeout_s=limits.handling_timeout_s,
        )
        self._draining = False
        self._idle = asyncio.Event()
        self._endpoints = {
            "/live-events": Endpoint(
                source="live-events", max_body_bytes=LIVE_EVENT_MAX_BYTES, answer=self._live_events
            ),
            "/pns": Endpoint(source="pns", max_body_bytes=NOTICES_MAX_BYTES, answer=self._pns),
        }

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answers any request."""
        endpoint, path_of = self._endpoints.get(request.path), None
        if endpoint is None:
            endpoint, path_of = self._of_one_tenant(request.path)
        if endpoint is None:
            return problem(NotFound())
        if request.method != "POST":
            return problem(MethodNotAllowed(), headers={"Allow": "POST"})
        answer = await self._answer(endpoint, request, path_of)
        if self._draining:
            answer.force_close()
            if not self._under_way():
                self._idle.set()
        return answer

    async def drain(self, timeout_s: float) -> None:
        """Ends every connection after its next answer; returns when nothing is under way."""
        self._draining = True
        if self._under_way():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._idle.wait()

    def _under_way(self) -> int:
        return self._admission.requests + len(self._arrivals)

    def _of_one_tenant(self, path: str) -> tuple[Endpoint, str] | tuple[None, None]:
        """The endpoint and the tenant of a path that ends in a slug."""
        head, _, slug = path.rpartition("/")
        endpoint = self._endpoints.get(head)
        tenant = self._tenant_of_slug(slug) if endpoint is not None else None
        return (None, None) if endpoint is None or tenant is None else (endpoint, tenant)

    async def _answer(
        self, endpoint: Endpoint, request: web.BaseRequest, path_of: str | None
    ) -> web.Response:
        began_s = time.monotonic()
        place: Place | None = None
        try:
            body = await read_body(
                request, endpoint.source, endpoint.max_body_bytes, self._arrivals
            )
            place = self._admission.enter(endpoint.source, len(body), began_s=began_s)
            with place:
                return await endpoint.answer(body, Head(_traceparent(request), path_of))
        except BodyCut as cut:
            let_go(cut)
            self._metrics.aborted("disconnected")
            return problem(Malformed())
        except Refusal as refusal:
            if place is None:
                self._metrics.aborted(refusal.reason)  # the ledger knows nothing of it
            elif isinstance(refusal, DeadlinePassed):
                log.warning("request took too long, answered 503", source=endpoint.source)
            return _refused(refusal)
        except Exception as error:
            # the answer must be one that makes Canvas try again, whatever our bug is
            return _refused(_our_bug(error))

    async def _live_events(self, body: bytes, head: Head) -> web.Response:
        receipt = await self._intake.accept(
            SignedRequest(
                token=body,
                source="live-events",
                received_at=time.time(),
                traceparent=head.traceparent,
                path_of=head.path_of,
            )
        )
        return accepted(receipt)

    async def _pns(self, body: bytes, head: Head) -> web.Response:
        received_at = time.time()
        try:
            tokens = read_notices(body)
        except Refusal as refusal:
            self._intake.refuse("pns", refusal)
            raise
        together = Together()
        async with asyncio.TaskGroup() as judging:
            tasks = []
            for token in tokens:
                judge = self._judge(token, received_at, head, together)
                tasks.append(judging.create_task(judge))
                if len(tasks) % _JUDGED_AT_ONCE == 0:
                    await asyncio.sleep(0)  # thousands of forged ones shall not stop all others
        return notices_answer([task.result() for task in tasks])

    async def _judge(
        self, token: bytes | None, received_at: float, head: Head, together: Together
    ) -> Judged:
        if token is None:
            return self._intake.refuse("pns", Malformed("a notice without a token"))
        try:
            return await self._intake.accept(
                SignedRequest(
                    token=token,
                    source="pns",
                    received_at=received_at,
                    traceparent=head.traceparent,
                    path_of=head.path_of,
                ),
                together,
            )
        except Refusal as refusal:
            let_go(refusal)
            return refusal
        except Exception as error:
            return _our_bug(error)


def _refused(refusal: Refusal) -> web.Response:
    let_go(refusal)
    return problem(refusal)


def _our_bug(error: Exception) -> Refusal:
    log.error("unexpected error, answered 503", cause=type(error).__name__, at=place_of(error))
    let_go(error)
    return NotDurable()


def _traceparent(request: web.BaseRequest) -> str | None:
    value = request.headers.get("traceparent")
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None
