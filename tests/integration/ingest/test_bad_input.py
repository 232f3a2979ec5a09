"""Whatever is wrong with a request: the right answer, the receiver lives, nothing of it is kept."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from ingest.contract.quarantine import quarantine_record
from ingest.contract.topics import quarantine_topic
from ingest.http.receiver import LIVE_EVENT_MAX_BYTES, NOTICES_MAX_BYTES
from tests.emulator import forgeries
from tests.emulator.deliveries import PATHS
from tests.emulator.forgeries import Forger, Forgery
from tests.emulator.school import School
from tests.integration.ingest.site import Site, eventually, notices
from tests.integration.ingest.wire import (
    Answer,
    chunk,
    connected,
    exchange,
    head,
    post,
    read_answer,
)
from tests.support.each import each_case
from tests.support.keys import SigningKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = b"canary-of-the-bad-requests"
"""Part of bad bodies; to be in no answer and in no topic."""

LIVE, PNS = "/live-events", "/pns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A whole request body, and the answer to it."""

    path: str
    body: Callable[[Site], bytes]
    status: int = 400
    reason: str = "malformed"


BODIES = {
    "text": Bad(path=LIVE, body=lambda site: b"not a token: " + CANARY),
    "empty": Bad(path=LIVE, body=lambda site: b""),
    "white_space": Bad(path=LIVE, body=lambda site: b" \r\n\t"),
    "empty_quotes": Bad(path=LIVE, body=lambda site: b'""'),
    "one_quote": Bad(path=LIVE, body=lambda site: b'"' + site.live_event(901)),
    "two_tokens": Bad(
        path=LIVE, body=lambda site: site.live_event(902) + b"\n" + site.live_event(903)
    ),
    "no_utf8": Bad(path=LIVE, body=lambda site: b"\xff\xfe\x80" + CANARY),
    "no_utf8_json": Bad(path=LIVE, body=lambda site: b'{"a":"\xff' + CANARY + b'"}'),
    "nested_json": Bad(path=LIVE, body=lambda site: b"[" * 100_000),
    "unsigned_json": Bad(
        path=LIVE,
        body=lambda site: b'{"metadata":{},"body":{"a":"' + CANARY + b'"}}',
        status=401,
        reason="unsigned",
    ),
    "largest_body_of_nonsense": Bad(path=LIVE, body=lambda site: b"x" * LIVE_EVENT_MAX_BYTES),
    "one_byte_too_many": Bad(
        path=LIVE,
        body=lambda site: b"x" * (LIVE_EVENT_MAX_BYTES + 1),
        status=413,
        reason="too_large",
    ),
    "notices_empty": Bad(path=PNS, body=lambda site: b""),
    "notices_empty_array": Bad(path=PNS, body=lambda site: b'{"notices":[]}'),
    "notices_no_array": Bad(path=PNS, body=lambda site: b'{"notices":{"jwt":"x"}}'),
    "notices_no_object": Bad(path=PNS, body=lambda site: b'["notices"]'),
    "notices_no_utf8": Bad(
        path=PNS, body=lambda site: b'{"notices":[{"jwt":"\xff' + CANARY + b'"}]}'
    ),
    "notices_lone_surrogate": Bad(path=PNS, body=lambda site: rb'{"notices":[{"jwt":"\ud800"}]}'),
    "notices_nested": Bad(path=PNS, body=lambda site: b'{"notices":' + b"[" * 100_000),
    "notices_bare_token": Bad(path=PNS, body=lambda site: site.notice(904)),
    "notices_without_tokens": Bad(path=PNS, body=lambda site: b'{"notices":[{},null,"x",3]}'),
    "notices_largest_body_of_nonsense": Bad(path=PNS, body=lambda site: b"x" * NOTICES_MAX_BYTES),
    "notices_one_byte_too_many": Bad(
        path=PNS,
        body=lambda site: b"x" * (NOTICES_MAX_BYTES + 1),
        status=413,
        reason="too_large",
    ),
    "launch_token": Bad(path=PNS, body=lambda site: notices([site.launch(905)])),
    "wrong_path": Bad(path="/live-events/", body=lambda site: b"x", status=404, reason="not_found"),
    "admin_path": Bad(path="/metrics", body=lambda site: b"x", status=404, reason="not_found"),
}

FORGERIES = [*forgeries.live_events(), *forgeries.notices()]


def assert_problem(answer: Answer, status: int, reason: str) -> None:
    """A refusal in the one form that refusals have, with nothing of the request in it."""
    said = (answer.status, answer.headers.get("content-type"))
    assert said == (status, "application/problem+json"), answer
    assert answer.json()["status"] == status
    assert answer.json()["reason"] == reason
    assert answer.json().keys() <= {"type", "title", "status", "reason", "notices"}
    assert_says_nothing(answer)


def assert_says_nothing(answer: Answer) -> None:
    """No answer shows what we are made of, or sends the request back."""
    assert answer.headers["server"] == "forebay"
    for trace in (b"Traceback", b"Error", b"Exception", b"aiohttp", b".py", b"eyJ", CANARY):
        assert trace not in answer.body


def refused(site: Site, body: bytes) -> bytes:
    """Notes for the last test that nothing of this body may be in a topic."""
    site.refused.update(part for part in body.split(b".") if len(part) > 300)
    return body


async def accept_one(site: Site, number: int) -> str:
    """A good event, to see that the receiver still works; its id."""
    answer = await site.post(LIVE, site.live_event(number))
    assert answer.status == 202, answer
    event_id: str = answer.json()["event_id"]
    site.accepted.add(event_id)
    return event_id


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body_is_refused_with_its_reason(site: Site, name: str) -> None:
    bad = BODIES[name]
    answer = await site.post(bad.path, refused(site, bad.body(site)))
    assert_problem(answer, bad.status, bad.reason)


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: f"{forgery.lane}-{forgery.name}")
async def test_a_forgery_is_answered_rightly_and_not_sent_back(
    site: Site, forgery: Forgery
) -> None:
    forged = forgery.make(_forger(site, forgery), 1_000 + FORGERIES.index(forgery))
    answer = await site.post(PATHS[forgery.lane], forgery.body(forged))
    right = forgery.expected[0]
    if right.status >= 300:
        refused(site, forged.token)
        assert_problem(answer, right.status, right.says)
        return
    assert_says_nothing(answer)
    said = answer.json().get("notices", [answer.json()])[0]
    assert (answer.status, said["outcome"]) == (right.status, right.says)
    site.accepted.add(said["event_id"])


async def test_the_emulators_forgeries_are_all_judged_rightly(site: Site) -> None:
    report = await site.canvas.send_forgeries(site.url)
    assert report.misjudged_forgeries == 0, report.examples
    quarantined = site.canvas.oracle.quarantined
    assert site.canvas.oracle.accepted == quarantined
    site.accepted.update(quarantined)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_another_method_is_not_allowed(site: Site, method: str) -> None:
    async with connected(site.port) as (reader, writer):
        writer.write(head(method, LIVE, "Content-Length: 0", "Connection: close"))
        answer = await reader.read()
    status_line, *_ = answer.partition(b"\r\n")
    assert status_line.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: POST\r\n" in answer


@pytest.mark.parametrize(
    ("path", "length"), [(LIVE, LIVE_EVENT_MAX_BYTES + 1), (PNS, NOTICES_MAX_BYTES + 1)]
)
async def test_a_body_announced_as_too_large_is_refused_unread(
    site: Site, path: str, length: int
) -> None:
    answer = await exchange(site.port, head("POST", path, f"Content-Length: {length}"))
    assert_problem(answer, 413, "too_large")


@pytest.mark.parametrize(
    ("path", "limit"), [(LIVE, LIVE_EVENT_MAX_BYTES), (PNS, NOTICES_MAX_BYTES)]
)
async def test_a_body_without_a_length_is_read_up_to_the_limit_only(
    site: Site, path: str, limit: int
) -> None:
    piece = chunk(b"x" * 65_536)
    async with connected(site.port) as (reader, writer):
        writer.write(head("POST", path, "Transfer-Encoding: chunked"))
        for _ in range(limit // 65_536):
            writer.write(piece)
        writer.write(chunk(b"x"))
        answer = await read_answer(reader)
    assert_problem(answer, 413, "too_large")


async def test_a_cut_body_is_counted_and_the_next_request_is_answered(site: Site) -> None:
    async def aborted() -> float:
        scrape = await site.metrics()
        return scrape.value("forebay_requests_aborted_total", reason="disconnected")

    async def counted() -> bool:
        return await aborted() == before + 1

    before = await aborted()
    token = site.live_event(910)
    async with connected(site.port) as (_, writer):
        writer.write(post(LIVE, token)[:-100])
        await writer.drain()
    await eventually(counted)
    refused(site, token)
    await accept_one(site, 911)


async def test_a_body_that_never_ends_is_given_up(site: Site) -> None:
    async with connected(site.port) as (reader, writer):
        writer.write(head("POST", LIVE, "Content-Length: 5000"))
        dripping = asyncio.create_task(_drip(writer))
        answer = await read_answer(reader)
        dripping.cancel()
    assert_problem(answer, 408, "request_timeout")
    scrape = await site.metrics()
    assert scrape.value("forebay_requests_aborted_total", reason="request_timeout") >= 1


NOT_HTTP = {
    "chunk_size": head("POST", LIVE, "Transfer-Encoding: chunked") + b"zz" + CANARY + b"\r\n",
    "chunk_end": head("POST", LIVE, "Transfer-Encoding: chunked") + b"3\r\nabcdef\r\n",
    "two_lengths": head("POST", LIVE, "Content-Length: 3", "Content-Length: 4") + b"abc",
    "length_and_chunks": head("POST", LIVE, "Content-Length: 3", "Transfer-Encoding: chunked"),
    "negative_length": head("POST", LIVE, "Content-Length: -1"),
    "header_without_colon": head("POST", LIVE, CANARY.decode()),
    "header_with_nul": head("POST", LIVE, f"X-Bad: {CANARY.decode()}\0"),
    "header_too_long": head("POST", LIVE, f"X-Bad: {CANARY.decode() * 1000}"),
    "no_method": head("BREW", LIVE),
    "no_request_line": CANARY + b"\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + CANARY + b"\r\n\r\n",
    "http_2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", NOT_HTTP)
async def test_what_is_no_http_is_malformed(site: Site, name: str) -> None:
    assert_problem(await exchange(site.port, NOT_HTTP[name]), 400, "malformed")


async def test_framing_that_breaks_after_the_head_is_never_taken_for_an_end(site: Site) -> None:
    async with connected(site.port) as (reader, writer):
        writer.write(head("POST", LIVE, "Transfer-Encoding: chunked") + chunk(b"eyJ"))
        await writer.drain()
        await site.admin("/livez")  # time enough for the head to be read by itself
        writer.write(b"zz" + CANARY + b"\r\n")
        answer = await read_answer(reader)
        # as the next request would be read from the middle of this one's body
        assert await reader.read() == b""
    assert_problem(answer, 400, "malformed")


@pytest.mark.parametrize("path", [LIVE, PNS])
async def test_a_packed_body_is_refused_at_the_head_whatever_is_in_it(
    site: Site, path: str
) -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    genuine = gzip.compress(site.live_event(906))
    with each_case() as case:
        for name, request in (
            ("bomb", post(path, bomb, "Content-Encoding: gzip")),
            ("genuine", post(path, genuine, "Content-Encoding: GZIP")),
            ("broken", post(path, CANARY, "Content-Encoding: deflate")),
            ("unknown", post(path, CANARY, "Content-Encoding: what-is-this")),
            ("second", post(path, CANARY, "Content-Encoding: identity, br")),
            ("only the head", head("POST", path, "Content-Length: 9", "Content-Encoding: gzip")),
            ("transfer", head("POST", path, "Transfer-Encoding: gzip, chunked") + chunk(genuine)),
        ):
            with case(name):
                answer = await exchange(site.port, request)
                assert_problem(answer, 415, "encoding_not_allowed")
                assert answer.headers["connection"] == "close"
    scrape = await site.metrics()
    aborted = scrape.value("forebay_requests_aborted_total", reason="encoding_not_allowed")
    assert aborted >= 7


async def test_a_client_that_asks_first_is_told_to_go_on(site: Site) -> None:
    token = site.live_event(907)
    lines = f"Content-Length: {len(token)}", "Expect: 100-Continue"
    async with connected(site.port) as (reader, writer):
        writer.write(head("POST", LIVE, *lines))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(token)
        answer = await read_answer(reader)
    assert answer.status == 202
    site.accepted.add(answer.json()["event_id"])


async def test_a_client_that_asks_first_is_told_at_once_where_it_may_not(site: Site) -> None:
    length = f"Content-Length: {LIVE_EVENT_MAX_BYTES + 1}"
    with each_case() as case:
        for path, line, status, reason in (
            (LIVE, length, 413, "too_large"),
            (LIVE, "Content-Length: 5\r\nContent-Encoding: gzip", 415, "encoding_not_allowed"),
            ("/elsewhere", "Content-Length: 5", 404, "not_found"),
        ):
            with case(reason):
                asked = head("POST", path, line, "Expect: 100-continue")
                assert_problem(await exchange(site.port, asked), status, reason)


async def test_a_connection_ends_after_a_refusal(site: Site) -> None:
    with each_case() as case:
        for name, request in (
            ("path", post("/", b"x")),
            ("method", head("GET", LIVE)),
            ("body", post(LIVE, b"x")),
            ("notices", post(PNS, notices([None]))),
        ):
            with case(name):
                async with connected(site.port) as (reader, writer):
                    writer.write(request)
                    assert (await read_answer(reader)).status in {400, 404, 405}
                    assert await reader.read() == b""


async def test_claims_that_nobody_can_read_are_kept_if_the_signature_is_genuine(
    site: Site,
) -> None:
    deep = b'{"iss":"x","body":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    for payload in (deep, b'{"iss":"\xff"}', b'{"iss":' + b"9" * 5_000 + b"}", b"[]", b""):
        token = site.signed_text(payload)
        answer = await site.post(LIVE, token)
        said = {"outcome": "quarantined", "reason": "unreadable_claims"}
        assert (answer.status, answer.json()) == (202, said), payload[:20]
        key = quarantine_record(
            "canvas", token.decode(), reason="unreadable_claims", source="live-events"
        ).key
        assert key in {r.key for r in site.log() if r.topic == quarantine_topic("canvas")}


async def test_claims_that_nobody_can_read_nor_trust_are_malformed(site: Site) -> None:
    genuine = site.signed_text(b'{"iss":"\xff"}')
    stranger = SigningKey.generate(site.canvas.keys.live_events.current.kid)
    token = stranger.sign_text(b'{"alg":"RS256","kid":"x"}', b'{"iss":"\xff"}').encode()
    mixed = b".".join([*genuine.split(b".")[:2], token.split(b".")[2]])
    for forged in (token, mixed):
        assert_problem(await site.post(LIVE, refused(site, forged)), 400, "malformed")


async def test_each_notice_of_a_mixed_batch_gets_its_own_answer_in_order(site: Site) -> None:
    good, other = site.notice(920), site.notice(921)
    broken = refused(site, site.notice(922)[:-4] + b"AAAA")
    foreign = refused(site, site.notice(923, aud="someone-else", azp="someone-else"))
    answer = await site.post(PNS, notices([broken, good, None, foreign, other]))
    assert answer.status == 202
    members = answer.json()["notices"]
    assert [(one["outcome"], one.get("reason")) for one in members] == [
        ("rejected", "bad_signature"),
        ("published", None),
        ("rejected", "malformed"),
        ("rejected", "tenant_not_allowed"),
        ("published", None),
    ]
    assert ["event_id" in one for one in members] == [False, True, False, False, True]
    site.accepted.update(one["event_id"] for one in members if "event_id" in one)


async def test_a_batch_of_bad_notices_gets_the_first_ones_status(site: Site) -> None:
    foreign = refused(site, site.notice(924, aud="someone-else", azp="someone-else"))
    answer = await site.post(PNS, notices([foreign, None, b"x"]))
    assert_problem(answer, 403, "tenant_not_allowed")
    reasons = [one["reason"] for one in answer.json()["notices"]]
    assert reasons == ["tenant_not_allowed", "malformed", "malformed"]


async def test_a_thousand_notices_in_one_request_are_all_kept(site: Site) -> None:
    tokens = await asyncio.to_thread(lambda: [site.notice(n) for n in range(2_000, 3_000)])
    answer = await site.post(PNS, notices(tokens))
    members = answer.json()["notices"]
    assert {one["outcome"] for one in members} == {"published"}
    ids = {one["event_id"] for one in members}
    assert len(ids) == 1_000
    site.accepted.update(ids)


async def test_a_notice_that_is_there_twice_has_one_id(site: Site) -> None:
    token = site.notice(925)
    answer = await site.post(PNS, notices([token, token]))
    first, second = answer.json()["notices"]
    assert first == second
    site.accepted.add(first["event_id"])


async def test_nothing_of_the_bad_requests_is_in_any_topic(site: Site) -> None:
    """The last test of this file: looks at what all others have left."""
    marker = await accept_one(site, 999)
    records = await asyncio.to_thread(site.log)
    assert records[-1].key.decode() == marker or marker.encode() in records[-1].value
    kept = b"\n".join(part for r in records for part in (r.key, r.value, repr(r.headers).encode()))
    assert not [text[:40] for text in site.refused if text in kept]
    assert CANARY not in kept
    trusted = {dict(r.headers)["ce_id"].decode() for r in records if b"ce_id" in _names(r.headers)}
    assert trusted <= site.accepted
    assert not trusted & site.canvas.oracle.forged
    scrape = await site.metrics()
    for source in ("live-events", "pns"):
        assert scrape.imbalance(source) == 0
        assert scrape.value("forebay_events_held", source=source) == 0
    assert scrape.settled()["not_durable", "internal"] == 0
    log = site.program.log_file.read_text()
    assert "unexpected error" not in log
    assert "Traceback" not in log
    assert CANARY.decode() not in log


def _names(headers: tuple[tuple[str, bytes], ...]) -> Iterator[bytes]:
    return (name.encode() for name, _ in headers)


def _forger(site: Site, forgery: Forgery) -> Forger:
    keys = site.canvas.keys
    lanes = (keys.live_events.current, keys.platform.current)
    key, elsewhere = lanes if forgery.lane == "live-events" else lanes[::-1]
    return Forger(
        key=key,
        key_elsewhere=elsewhere,
        other_key=SigningKey.generate(key.kid),
        school=site.canvas.school,
        stranger=School.from_seed(site.canvas.school.seed + 1, name="elsewhere"),
        now_s=int(time.time()),
    )


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:  # a byte now and then must not buy more time
        writer.write(b"x")
        await asyncio.sleep(0.2)
