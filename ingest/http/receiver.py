"""HTTP in, HTTP out: which endpoint a request is for, and what becomes of it.

Source: RFC 9110 for methods.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

from ingest.contract.envelope import Source
from ingest.errors import Malformed, MethodNotAllowed, NotDurable, NotFound, Overloaded, Refusal
from ingest.http.admission import Admission, DeadlinePassed, Place
from ingest.http.answers import Judged, accepted, notices_answer, problem
from ingest.http.body import BodyCut, read_body, read_notices
from ingest.intake import Intake
from ingest.observing.metrics import Metrics
from ingest.shared.logs import place_of
from ingest.spool.deferred import Together
from ingest.values import SignedRequest

log = structlog.get_logger(__name__)

LIVE_EVENT_MAX_BYTES = 2 * 1024 * 1024
NOTICES_MAX_BYTES = 4 * 1024 * 1024

# W3C Trace Context level 1, section 3.2
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one receiver lets in, and for how long.

    Requests: whole bodies within `body_timeout_s`, an answer within `handling_timeout_s` of the
    head; `max_in_flight` at once, with `max_body_bytes_in_flight` of bodies. Connections:
    `max_connections`; a head within `head_timeout_s` of its first byte; peers that send nothing
    at all, or take no answer, for at most `silence_timeout_s`.
    """

    body_timeout_s: float
    max_in_flight: int
    handling_timeout_s: float = 9.5
    max_body_bytes_in_flight: int = 64 * 1024 * 1024
    head_timeout_s: float = 5.0
    silence_timeout_s: float = 10.0
    max_connections: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path: whose events it takes, how large, and who answers a body and its traceparent."""

    source: Source
    max_body_bytes: int
    answer: Callable[[bytes, str | None], Awaitable[web.Response]]


class Receiver:
    """The public listener's handler, for `aiohttp.web.Server`."""

    def __init__(self, *, intake: Intake, metrics: Metrics, limits: Limits) -> None:
        self._intake = intake
        self._metrics = metrics
        self.limits = limits
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
        endpoint = self._endpoints.get(request.path)
        if endpoint is None:
            return problem(NotFound())
        if request.method != "POST":
            return problem(MethodNotAllowed(), headers={"Allow": "POST"})
        try:
            with self._admission.enter(endpoint.source) as place:
                answer = await self._answer(endpoint, request, place)
        except Overloaded as refusal:
            self._metrics.aborted(refusal.reason)
            return problem(refusal)
        except DeadlinePassed as refusal:
            log.warning("request took too long, answered 503", source=endpoint.source)
            answer = problem(refusal)
        if self._draining:
            answer.force_close()
            if not self._admission.requests:
                self._idle.set()
        return answer

    async def drain(self, timeout_s: float) -> None:
        """Ends every connection after its next answer; returns when nothing is under way."""
        self._draining = True
        if self._admission.requests:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._idle.wait()

    async def _answer(
        self, endpoint: Endpoint, request: web.BaseRequest, place: Place
    ) -> web.Response:
        try:
            body = await self._body(request, endpoint.max_body_bytes, place)
            return await endpoint.answer(body, _traceparent(request))
        except BodyCut:
            self._metrics.aborted("disconnected")
            return problem(Malformed())
        except Refusal as refusal:
            return problem(refusal)
        except Exception as error:
            # the answer must be one that makes Canvas try again, whatever our bug is
            log.error(
                "unexpected error, answered 503", cause=type(error).__name__, at=place_of(error)
            )
            return problem(NotDurable())

    async def _live_events(self, body: bytes, traceparent: str | None) -> web.Response:
        receipt = await self._intake.accept(
            SignedRequest(
                token=body,
                source="live-events",
                received_at=time.time(),
                traceparent=traceparent,
            )
        )
        return accepted(receipt)

    async def _pns(self, body: bytes, traceparent: str | None) -> web.Response:
        received_at = time.time()
        try:
            tokens = read_notices(body)
        except Refusal as refusal:
            raise self._intake.refuse("pns", refusal) from None
        together = Together()
        judged = await asyncio.gather(
            *(self._judge(token, received_at, traceparent, together) for token in tokens)
        )
        return notices_answer(judged)

    async def _judge(
        self, token: bytes | None, received_at: float, traceparent: str | None, together: Together
    ) -> Judged:
        if token is None:
            return self._intake.refuse("pns", Malformed("a notice without a token"))
        try:
            return await self._intake.accept(
                SignedRequest(
                    token=token, source="pns", received_at=received_at, traceparent=traceparent
                ),
                together,
            )
        except Refusal as refusal:
            return refusal
        except Exception as error:
            log.error(
                "unexpected error, answered 503", cause=type(error).__name__, at=place_of(error)
            )
            return NotDurable()

    async def _body(self, request: web.BaseRequest, max_bytes: int, place: Place) -> bytes:
        """The whole body. Raises BodyCut, or a Refusal, which is counted."""
        try:
            timeout_s = self.limits.body_timeout_s
            return await read_body(request, max_bytes, place, timeout_s=timeout_s)
        except Refusal as refusal:
            self._metrics.aborted(refusal.reason)
            raise


def _traceparent(request: web.BaseRequest) -> str | None:
    value = request.headers.get("traceparent")
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None
