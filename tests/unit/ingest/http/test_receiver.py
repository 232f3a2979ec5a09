"""HTTP in, HTTP out: answers to whole requests, without a socket."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from ingest.errors import (
    REFUSALS,
    BadSignature,
    Malformed,
    NotDurable,
    Overloaded,
    Refusal,
    TenantNotAllowed,
    Unavailable,
)
from ingest.http.answers import problem
from ingest.http.body import read_notices
from ingest.http.receiver import LIVE_EVENT_MAX_BYTES, NOTICES_MAX_BYTES, Limits, Receiver
from ingest.intake import Intake
from ingest.observing.metrics import Metrics
from ingest.spool.deferred import Together
from ingest.values import Receipt, SignedRequest
from tests.support.each import each_case

_ID = "5a" * 32
_SLUG = "a-slug-that-nobody-guesses"
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_PUBLISHED = Receipt(outcome="published", event_id=_ID)
_KEPT = Receipt(outcome="quarantined", event_id=None, reason="unreadable_claims")

Outcome = Receipt | Exception | None


class _Intake:
    """Answers tokens by a table, None never; whatever is not in it is published."""

    def __init__(self, outcomes: dict[bytes, Outcome] | None = None) -> None:
        self.requests: list[SignedRequest] = []
        self.refused: list[str] = []
        self.given_up: list[bytes] = []
        self.together: list[Together | None] = []
        self._outcomes = outcomes or {}

    async def accept(self, request: SignedRequest, together: Together | None = None) -> Receipt:
        self.requests.append(request)
        self.together.append(together)
        outcome = self._outcomes.get(request.token, _PUBLISHED)
        if outcome is None:
            try:
                await asyncio.Event().wait()
            finally:  # where the ledger settles it
                self.given_up.append(request.token)
            raise AssertionError
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def refuse(self, source: str, refusal: Refusal) -> Refusal:
        self.refused.append(refusal.reason)
        return refusal


def _stream(pieces: tuple[bytes | Exception | None, ...], *, late: bool) -> StreamReader:
    """A request's body, there from the start or still on its way; an exception ends it early, and
    after None nothing comes."""
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(asyncio.Transport())
    stream = StreamReader(protocol, limit=1 << 26, loop=loop)

    def feed() -> None:
        for piece in pieces:
            if piece is None:
                return
            if isinstance(piece, Exception):
                stream.set_exception(piece)
                return
            stream.feed_data(piece)
        stream.feed_eof()

    if late:
        loop.call_soon(feed)
    else:
        feed()
    return stream


async def _ask(
    intake: _Intake,
    *pieces: bytes | Exception | None,
    path: str = "/live-events",
    method: str = "POST",
    headers: dict[str, str] | None = None,
    max_in_flight: int = 5,
    late: bool = False,
    metrics: Metrics | None = None,
    **limits: Any,
) -> web.Response:
    receiver = Receiver(
        intake=cast(Intake, intake),
        metrics=metrics or Metrics(),
        limits=replace(Limits(body_timeout_s=1, max_in_flight=max_in_flight), **limits),
        tenant_of_slug={_SLUG: "north"}.get,
    )
    payload = _stream(pieces, late=late)
    return await receiver.handle(
        make_mocked_request(method, path, headers=headers, payload=payload)
    )


def _aborted(metrics: Metrics, reason: str) -> float | None:
    labels = {"process": "0", "reason": reason}
    return metrics.registry.get_sample_value("forebay_requests_aborted_total", labels)


def _content(response: web.Response) -> Any:
    assert isinstance(response.body, bytes)
    return orjson.loads(response.body)


def _batch(*tokens: str) -> bytes:
    return orjson.dumps({"notices": [{"jwt": token} for token in tokens]})


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.reason)
def test_refusal_is_answered_by_the_table(kind: type[Refusal]) -> None:
    response = problem(kind("secret detail"))
    assert (response.status, response.content_type) == (kind.status, "application/problem+json")
    content = _content(response)
    assert (content["status"], content["reason"]) == (kind.status, kind.reason)
    assert content["title"]
    assert "secret" not in response.body.decode()  # type: ignore[union-attr]
    assert ("Retry-After" in response.headers) == (kind.status == 503)
    assert 400 <= kind.status < 600
    assert kind.status != 429


def test_table_is_the_contracts() -> None:
    assert {kind.reason: kind.status for kind in REFUSALS} == {
        "malformed": 400,
        "unsigned": 401,
        "bad_signature": 401,
        "unknown_key": 401,
        "wrong_issuer": 401,
        "algorithm_not_allowed": 401,
        "tenant_not_allowed": 403,
        "not_found": 404,
        "method_not_allowed": 405,
        "request_timeout": 408,
        "too_large": 413,
        "encoding_not_allowed": 415,
        "not_durable": 503,
        "overloaded": 503,
    }


@pytest.mark.parametrize(
    ("receipt", "content"),
    [
        (_PUBLISHED, {"event_id": _ID, "outcome": "published"}),
        (_KEPT, {"outcome": "quarantined", "reason": "unreadable_claims"}),
        (Receipt(outcome="deferred", event_id=None), {"outcome": "deferred"}),
    ],
)
async def test_durable_event_is_answered_202(receipt: Receipt, content: dict[str, str]) -> None:
    response = await _ask(_Intake({b"t": receipt}), b"t")
    assert (response.status, response.content_type) == (202, "application/json")
    assert _content(response) == content


@pytest.mark.parametrize("late", [False, True])
async def test_body_reaches_the_intake_as_it_came_whatever_its_type(late: bool) -> None:
    intake = _Intake()
    headers = {"Content-Type": "text/strange", "traceparent": _TRACE}
    await _ask(intake, b' "to', b'ken" \n', headers=headers, late=late)
    assert [(r.token, r.source, r.traceparent) for r in intake.requests] == [
        (b' "token" \n', "live-events", _TRACE)
    ]


@pytest.mark.parametrize(
    "value",
    ["", "x", _TRACE.upper(), _TRACE + "-x", "00-" + "0" * 32 + _TRACE[35:], "ff" + _TRACE[2:]],
)
async def test_broken_trace_context_is_dropped(value: str) -> None:
    intake = _Intake()
    await _ask(intake, b"t", headers={"traceparent": value})
    assert intake.requests[0].traceparent is None


@pytest.mark.parametrize("kind", [BadSignature, TenantNotAllowed, NotDurable, Overloaded])
async def test_refused_event_is_answered_by_the_table(kind: type[Refusal]) -> None:
    response = await _ask(_Intake({b"t": kind("secret")}), b"t")
    assert (response.status, _content(response)["reason"]) == (kind.status, kind.reason)


async def test_our_own_bug_asks_for_another_try() -> None:
    response = await _ask(_Intake({b"t": KeyError("secret")}), b"t")
    assert (response.status, _content(response)["reason"]) == (503, "not_durable")
    assert b"secret" not in cast(bytes, response.body)


@pytest.mark.parametrize("path", ["/", "/live-events/", "/Live-Events", "/pns/x", "/metrics"])
async def test_other_paths_are_not_found(path: str) -> None:
    assert (await _ask(_Intake(), path=path)).status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS"])
async def test_other_methods_are_not_allowed(method: str) -> None:
    response = await _ask(_Intake(), path="/pns", method=method)
    assert (response.status, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("path", "limit"), [("/live-events", LIVE_EVENT_MAX_BYTES), ("/pns", NOTICES_MAX_BYTES)]
)
async def test_body_beyond_the_limit_is_too_large_declared_or_not(
    path: str, limit: int, late: bool
) -> None:
    intake = _Intake()
    declared = {"Content-Length": str(limit + 1)}
    for headers, pieces in ((declared, ()), ({}, (b"x" * limit, b"x"))):
        response = await _ask(intake, *pieces, path=path, headers=headers, late=late)
        assert response.status == 413
    assert (intake.requests, intake.refused) == ([], [])


@pytest.mark.parametrize("late", [False, True])
async def test_body_of_exactly_the_limit_is_taken(late: bool) -> None:
    assert (await _ask(_Intake(), b"x" * LIVE_EVENT_MAX_BYTES, late=late)).status == 202


@pytest.mark.parametrize(
    "error", [TimeoutError("the peer's"), web.RequestPayloadError("broken"), ValueError()]
)
async def test_body_that_does_not_come_whole_reaches_no_intake(error: Exception) -> None:
    intake = _Intake()
    assert (await _ask(intake, b"t", error, late=True)).status == 400
    assert intake.requests == []


async def test_body_under_any_encoding_is_refused_and_in_no_ledger() -> None:
    with each_case() as case:
        for header in (
            {"Content-Encoding": "gzip"},
            {"Content-Encoding": "deflate"},
            {"Content-Encoding": "br, identity"},
            {"Content-Encoding": "what-is-this"},
            {"Content-Encoding": ""},
            {"Transfer-Encoding": "gzip, chunked"},
            {"Transfer-Encoding": "chunked, chunked"},
        ):
            with case(header):
                metrics, intake = Metrics(), _Intake()
                response = await _ask(intake, b"t", headers=header, metrics=metrics)
                assert (response.status, response.keep_alive) == (415, False)
                assert _content(response)["reason"] == "encoding_not_allowed"
                assert (intake.requests, intake.refused) == ([], [])
                assert _aborted(metrics, "encoding_not_allowed") == 1


@pytest.mark.parametrize(
    "header", [{"Content-Encoding": "Identity"}, {"Transfer-Encoding": "Chunked"}]
)
async def test_body_that_is_as_it_is_said_to_be_is_taken(header: dict[str, str]) -> None:
    assert (await _ask(_Intake(), b"t", headers=header)).status == 202


def test_connection_ends_after_every_refusal_that_is_not_our_own_trouble() -> None:
    with each_case() as case:
        for kind in REFUSALS:
            with case(kind.reason):
                ends = problem(kind()).keep_alive is False
                assert ends == (kind.status < 500 or kind is Overloaded)


async def test_body_that_takes_too_long_is_given_up_and_counted() -> None:
    metrics = Metrics()
    response = await _ask(_Intake(), None, late=True, metrics=metrics, body_timeout_s=0.01)
    assert (response.status, _content(response)["reason"]) == (408, "request_timeout")
    assert _aborted(metrics, "request_timeout") == 1


async def test_too_many_requests_at_once_are_turned_away() -> None:
    response = await _ask(_Intake(), b"t", max_in_flight=0)
    assert (response.status, _content(response)["reason"]) == (503, "overloaded")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("path", "room"), [("/live-events", 70), ("/pns", 80)])
async def test_bodies_beyond_the_room_for_them_are_turned_away(
    path: str, room: int, late: bool
) -> None:
    """Notices may use all of it, Live Events seven eighths; of those half here, half of that."""
    metrics, intake = Metrics(), _Intake()
    response = await _ask(
        intake,
        b"x" * (room // 2 if late else room),
        b"x",
        path=path,
        late=late,
        metrics=metrics,
        max_body_bytes_in_flight=80,
    )
    assert (response.status, _content(response)["reason"]) == (503, "overloaded")
    assert response.headers["Retry-After"]
    assert (intake.requests, intake.refused) == ([], [])
    assert _aborted(metrics, "overloaded") == 1


@pytest.mark.parametrize("late", [False, True])
async def test_bodies_that_fill_the_room_are_taken(late: bool) -> None:
    pieces = (b"x" * 30, b"x" * 5) if late else (b"x" * 60, b"x" * 10)
    assert (await _ask(_Intake(), *pieces, late=late, max_body_bytes_in_flight=80)).status == 202


@pytest.mark.parametrize(
    ("path", "body"), [("/live-events", b"t"), ("/pns", _batch("a", "t", "b"))]
)
async def test_stage_that_hangs_is_answered_before_canvas_gives_up(path: str, body: bytes) -> None:
    intake = _Intake({b"t": None})
    response = await _ask(intake, body, path=path, handling_timeout_s=0.05)
    assert intake.given_up == [b"t"]
    assert (response.status, _content(response)["reason"]) == (503, "not_durable")
    assert response.headers["Retry-After"]


def test_notices_are_read_in_order() -> None:
    assert read_notices(b' {"notices":[{"jwt":"a","x":1},{"jwt":"b"}],"more":{}} ') == [b"a", b"b"]


@pytest.mark.parametrize(
    "notice", [b"{}", b"null", b'"a.b.c"', b'{"jwt":5}', b'{"JWT":"a"}', b"[]"]
)
def test_notice_without_a_token_keeps_its_place(notice: bytes) -> None:
    assert read_notices(b'{"notices":[{"jwt":"a"},%s]}' % notice) == [b"a", None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b"null",
        b'"a.b.c"',
        b"{}",
        b'{"notices":[]}',
        b'{"notices":null}',
        b'{"notices":{"jwt":"a"}}',
        b'{"notices":[{"jwt":"\\ud800"}]}',
        b'{"notices":[{"jwt":"\xff"}]}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_body_without_notices_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_notices(body)
    intake = _Intake()
    response = await _ask(intake, body, path="/pns")
    assert (response.status, _content(response)["reason"]) == (400, "malformed")
    assert intake.refused == ["malformed"]


def test_body_of_very_many_parts_is_not_parsed() -> None:
    with each_case() as case:
        for part in (b"{}", b"[]", b'""', b"1", b'{"jwt":"a"}'):
            with case(part), pytest.raises(Malformed, match="too many parts"):
                read_notices(b'{"notices":[' + part + (b"," + part) * 40_000 + b"]}")
    token = b"x" * 1_800
    large = orjson.dumps({"notices": [{"jwt": token.decode(), "a": [1, 2]}] * 2_000})
    assert read_notices(large) == [token] * 2_000


async def test_others_have_their_turn_while_many_notices_are_judged() -> None:
    intake = _Intake()
    judged_before: list[int] = []

    async def other() -> None:
        for _ in range(20):
            judged_before.append(len(intake.requests))
            await asyncio.sleep(0)

    asked = asyncio.create_task(_ask(intake, _batch(*map(str, range(1_000))), path="/pns"))
    await asyncio.gather(other(), asked)
    assert [count for count in judged_before if 0 < count < 1_000]


async def test_notices_are_answered_in_order() -> None:
    intake = _Intake({b"b": BadSignature(), b"c": _KEPT})
    response = await _ask(intake, _batch("a", "b", "c"), path="/pns")
    assert response.status == 202
    assert _content(response) == {
        "notices": [
            {"outcome": "published", "event_id": _ID},
            {"outcome": "rejected", "reason": "bad_signature"},
            {"outcome": "quarantined", "reason": "unreadable_claims"},
        ]
    }


async def test_notices_of_one_request_share_their_places_in_the_deferred_lane() -> None:
    intake = _Intake()
    for batch in (_batch("a", "b"), _batch("c", "d")):
        await _ask(intake, batch, path="/pns")
    first, second = intake.together[:2], intake.together[2:]
    assert None not in intake.together
    assert (first[0] is first[1], second[0] is second[1], first[0] is second[0]) == (
        True,
        True,
        False,
    )


@pytest.mark.parametrize(
    "trouble", [NotDurable("disk"), Overloaded("queue"), RuntimeError("secret bug")]
)
async def test_one_notice_that_is_not_durable_fails_them_all(trouble: Exception) -> None:
    intake = _Intake({b"a": BadSignature(), b"c": trouble})
    response = await _ask(intake, _batch("a", "b", "c"), path="/pns")
    assert response.status == 503
    assert "Retry-After" in response.headers
    assert b"secret" not in cast(bytes, response.body)
    outcomes = [notice["outcome"] for notice in _content(response)["notices"]]
    assert outcomes == ["rejected", "published", "not_durable"]


async def test_refused_notices_are_answered_with_the_first_refusal() -> None:
    intake = _Intake({b"a": TenantNotAllowed(), b"b": BadSignature()})
    response = await _ask(intake, _batch("a", "b"), path="/pns")
    assert (response.status, _content(response)["reason"]) == (403, "tenant_not_allowed")
    assert len(_content(response)["notices"]) == 2


async def test_notice_without_a_token_is_counted_and_refused() -> None:
    intake = _Intake()
    response = await _ask(intake, b'{"notices":[{},{"jwt":"a"}]}', path="/pns")
    assert response.status == 202
    assert intake.refused == ["malformed"]
    assert _content(response)["notices"][0] == {"outcome": "rejected", "reason": "malformed"}


async def test_large_batch_is_judged_whole_and_in_order() -> None:
    intake = _Intake({b"t-250": BadSignature()})
    response = await _ask(intake, _batch(*(f"t-{n}" for n in range(301))), path="/pns")
    outcomes = [notice["outcome"] for notice in _content(response)["notices"]]
    assert [n for n, outcome in enumerate(outcomes) if outcome != "published"] == [250]
    assert len({r.received_at for r in intake.requests}) == 1


def test_only_our_own_trouble_is_worth_another_try() -> None:
    assert {kind.status for kind in REFUSALS if issubclass(kind, Unavailable)} == {503}


@pytest.mark.parametrize("endpoint", ["/live-events", "/pns"])
async def test_slug_in_the_path_says_whose_path_it_is(endpoint: str) -> None:
    body = _batch("t") if endpoint == "/pns" else b"t"
    for path, path_of in ((endpoint, None), (f"{endpoint}/{_SLUG}", "north")):
        intake = _Intake()
        assert (await _ask(intake, body, path=path)).status == 202
        assert [request.path_of for request in intake.requests] == [path_of]


@pytest.mark.parametrize(
    "path",
    [
        "/live-events/unknown-slug-of-nobody",
        "/live-events/",
        f"/live-events/{_SLUG}/",
        f"/live-events/x/{_SLUG}",
        f"/livez/{_SLUG}",
        f"/{_SLUG}",
        _SLUG,
        f"/live-events/%0a{_SLUG}",
    ],
)
async def test_path_that_ends_in_no_slug_is_no_path(path: str) -> None:
    intake = _Intake()
    response = await _ask(intake, b"t", path=path)
    assert (response.status, _content(response)["reason"]) == (404, "not_found")
    assert intake.requests == []
