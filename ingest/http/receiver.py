"""HTTP in, HTTP out: the only stage that sees a request, and the only one that knows a status.

Source: RFC 9110 for methods and status codes, RFC 9457 for problem details.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from aiohttp import web

from ingest.contract import strict_json
from ingest.contract.envelope import Source
from ingest.errors import (
    Malformed,
    MethodNotAllowed,
    NotDurable,
    NotFound,
    Overloaded,
    Refusal,
    RequestTimeout,
    TooLarge,
    Unavailable,
)
from ingest.http.admission import Admission, DeadlinePassed, Place
from ingest.intake import Intake
from ingest.observing.metrics import Metrics
from ingest.shared.logs import place_of
from ingest.values import Receipt, SignedRequest

log = structlog.get_logger(__name__)

LIVE_EVENT_MAX_BYTES = 2 * 1024 * 1024
NOTICES_MAX_BYTES = 4 * 1024 * 1024

# ten times what fits into the 256 KB of the queue that Canvas sends notices through
_MAX_NOTICES = 2_000
# W3C Trace Context level 1, section 3.2
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

# without it aiohttp names its own version
_HEADERS = {"Server": "forebay"}

Judged = Receipt | Refusal


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


class BrokenBody(Malformed):
    """The body's framing or encoding is broken."""


class BodyCut(Exception):
    """The client went away before its body was complete; nobody waits for an answer."""


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
            log.warning("a request took too long", source=endpoint.source)
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
            log.error("unexpected error", cause=type(error).__name__, at=place_of(error))
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
        return _json(202, _receipt_members(receipt))

    async def _pns(self, body: bytes, traceparent: str | None) -> web.Response:
        received_at = time.time()
        try:
            tokens = read_notices(body)
        except Refusal as refusal:
            raise self._intake.refuse("pns", refusal) from None
        judged = await asyncio.gather(
            *(self._judge(token, received_at, traceparent) for token in tokens)
        )
        return _notices_answer(judged)

    async def _judge(
        self, token: bytes | None, received_at: float, traceparent: str | None
    ) -> Judged:
        if token is None:
            return self._intake.refuse("pns", Malformed("a notice without a token"))
        try:
            return await self._intake.accept(
                SignedRequest(
                    token=token, source="pns", received_at=received_at, traceparent=traceparent
                )
            )
        except Refusal as refusal:
            return refusal
        except Exception as error:
            log.error("unexpected error", cause=type(error).__name__, at=place_of(error))
            return NotDurable()

    async def _body(self, request: web.BaseRequest, max_bytes: int, place: Place) -> bytes:
        """The whole body. Raises TooLarge, RequestTimeout, Overloaded, Malformed or BodyCut."""
        try:
            length = request.content_length or 0
            if length > max_bytes:
                raise TooLarge
            if request.content.is_eof():  # it came with the head, as most bodies do
                body = _bounded(request.content.read_nowait(), max_bytes)
                place.hold(len(body))
                return body
            place.expect(length)
            async with asyncio.timeout(self.limits.body_timeout_s):
                return await _read(request, max_bytes, place)
        except TimeoutError:
            refusal: Refusal = RequestTimeout()
        except (TooLarge, Overloaded) as error:
            refusal = error
        except ConnectionError as error:
            raise BodyCut from error
        except (web.RequestPayloadError, ValueError):
            refusal = BrokenBody()
        self._metrics.aborted(refusal.reason)
        raise refusal


def read_notices(body: bytes) -> list[bytes | None]:
    """The tokens of `{"notices":[{"jwt": …}, …]}`, None for what is none.

    Raises Malformed, or TooLarge for more notices than Canvas can send at once.
    """
    try:
        message = strict_json.loads(body)
    except strict_json.NotJSON as error:
        raise Malformed("not JSON") from error
    notices = message.get("notices") if isinstance(message, dict) else None
    if not isinstance(notices, list) or not notices:
        raise Malformed("no notices")
    if len(notices) > _MAX_NOTICES:
        raise TooLarge("too many notices")
    return [_notice_token(notice) for notice in notices]


def problem(
    refusal: Refusal, *, headers: dict[str, str] | None = None, **members: Any
) -> web.Response:
    """The answer to a refusal: RFC 9457, a fixed text, nothing of the request or of our insides."""
    headers = {**_HEADERS, **(headers or {})}
    if isinstance(refusal, Unavailable):
        headers["Retry-After"] = str(refusal.retry_after_s)
    content = {
        "type": f"urn:forebay:problem:{refusal.reason}",
        "title": refusal.title,
        "status": refusal.status,
        "reason": refusal.reason,
        **members,
    }
    response = web.Response(
        status=refusal.status,
        body=orjson.dumps(content),
        content_type="application/problem+json",
        headers=headers,
    )
    if isinstance(refusal, TooLarge | RequestTimeout | Overloaded | BrokenBody):
        response.force_close()  # what follows is not worth reading, or cannot be told apart
    return response


async def _read(request: web.BaseRequest, max_bytes: int, place: Place) -> bytes:
    content = request.content
    body = bytearray()  # a list of chunks would cost fifty times the body where each is a byte
    while not content.at_eof():
        chunk = await content.readany()
        if len(body) + len(chunk) > max_bytes:
            raise TooLarge
        place.hold(len(chunk))
        body += chunk
    return bytes(body)


def _bounded(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise TooLarge
    return body


def _notice_token(notice: Any) -> bytes | None:
    token = notice.get("jwt") if isinstance(notice, dict) else None
    return token.encode() if isinstance(token, str) else None


def _traceparent(request: web.BaseRequest) -> str | None:
    value = request.headers.get("traceparent")
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None


def _notices_answer(judged: Sequence[Judged]) -> web.Response:
    """One answer for all notices: never 2xx while one that we want is not durable."""
    members = [_judged_members(one) for one in judged]
    refusals = [one for one in judged if isinstance(one, Refusal)]
    for refusal in refusals:
        if isinstance(refusal, Unavailable):
            return problem(refusal, notices=members)
    if len(refusals) == len(judged):
        return problem(refusals[0], notices=members)
    return _json(202, {"notices": members})


def _judged_members(judged: Judged) -> dict[str, str]:
    if isinstance(judged, Receipt):
        return _receipt_members(judged)
    outcome = "not_durable" if isinstance(judged, Unavailable) else "rejected"
    return {"outcome": outcome, "reason": judged.reason}


def _receipt_members(receipt: Receipt) -> dict[str, str]:
    members = {"outcome": str(receipt.outcome)}
    if receipt.event_id is not None:
        members["event_id"] = receipt.event_id
    if receipt.reason is not None:
        members["reason"] = receipt.reason
    return members


def _json(status: int, content: Any) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(content),
        headers=_HEADERS,
        content_type="application/json",
    )
