"""Row 17 of the fault matrix, and too much at once: the right answers, and memory stays flat.

Sources: RFC 9112 sections 6.1 and 7.1 (framing), 9.3.2 (pipelining).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from ingest.http.receiver import LIVE_EVENT_MAX_BYTES
from tests.integration.ingest.site import Scrape, Site, notices, running_site
from tests.integration.ingest.wire import (
    Answer,
    chunk,
    connected,
    exchange,
    head,
    post,
    read_answer,
    sending,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIVE, PNS = "/live-events", "/pns"
MB = 1024 * 1024
FLAT_BYTES = 64 * MB
OPEN_S = 24.0
"""No request is open longer, measured from outside."""

_PIECE = b"x" * 65_536


def large(*, chunked: bool) -> Iterator[bytes]:
    """A body of 100 MB, behind its head."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {100 * MB}"
    yield head("POST", LIVE, length)
    for _ in range(100 * MB // len(_PIECE)):
        yield chunk(_PIECE) if chunked else _PIECE


def bomb(path: str, encoding: str) -> Iterator[bytes]:
    """256 MB of zeros in a quarter of a MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    packed = b"".join(packer.compress(bytes(MB)) for _ in range(256)) + packer.flush()
    assert len(packed) < MB / 2
    yield post(path, packed, f"Content-Encoding: {encoding}")


def crumbs(body: bytes) -> Iterator[bytes]:
    """A body in chunks of one byte."""
    yield head("POST", LIVE, "Transfer-Encoding: chunked")
    pieces = [chunk(bytes([byte])) for byte in body]
    for start in range(0, len(pieces), 1_000):
        yield b"".join(pieces[start : start + 1_000])
    yield b"0\r\n\r\n"


def many_headers(count: int) -> bytes:
    """A request with this many headers of its own."""
    return post(LIVE, b"x", *(f"X-{n}: {n}" for n in range(count)))


Send = Callable[[Site], Iterator[bytes]]

HOSTILE: dict[str, tuple[Send, int, str]] = {
    "large_with_a_length": (lambda site: large(chunked=False), 413, "too_large"),
    "large_without_a_length": (lambda site: large(chunked=True), 413, "too_large"),
    "bomb_gzip": (lambda site: bomb(LIVE, "gzip"), 415, "encoding_not_allowed"),
    "bomb_deflate": (lambda site: bomb(LIVE, "deflate"), 415, "encoding_not_allowed"),
    "bomb_of_notices": (lambda site: bomb(PNS, "gzip"), 415, "encoding_not_allowed"),
    "crumbs_of_nonsense": (lambda site: crumbs(b"x" * 100_000), 400, "malformed"),
    "ten_thousand_headers": (lambda site: iter([many_headers(10_000)]), 400, "malformed"),
    "length_then_chunks": (
        lambda site: iter(
            [head("POST", LIVE, "Content-Length: 5", "Transfer-Encoding: chunked"), b"0\r\n\r\n"]
        ),
        400,
        "malformed",
    ),
    "chunks_then_length": (
        lambda site: iter(
            [head("POST", LIVE, "Transfer-Encoding: chunked", "Content-Length: 5"), b"0\r\n\r\n"]
        ),
        400,
        "malformed",
    ),
    "chunks_twice": (
        lambda site: iter(
            [head("POST", LIVE, "Transfer-Encoding: chunked, identity"), b"0\r\n\r\n"]
        ),
        400,
        "malformed",
    ),
}


@contextlib.asynccontextmanager
async def unharmed(
    site: Site, number: int, *, grows_by_less_than: int = FLAT_BYTES
) -> AsyncIterator[None]:
    """After the block a good event is accepted, the ledger balances, and memory is as it was."""
    await accept(site, number)
    before = await site.metrics()
    yield
    await accept(site, number + 1)
    after = await site.metrics()
    assert_balances(after)
    assert after.value("forebay_events_held") == 0
    assert rss(after) - rss(before) < grows_by_less_than
    assert after.settled()["not_durable", "internal"] == 0


def rss(scrape: Scrape) -> float:
    """Resident memory of the receiver, in bytes."""
    bytes_ = scrape.value("process_resident_memory_bytes")
    assert bytes_ > MB
    return bytes_


def assert_balances(scrape: Scrape) -> None:
    """Every event that came in is somewhere."""
    assert [scrape.imbalance(source) for source in ("live-events", "pns")] == [0, 0]


def assert_refused(answer: Answer, status: int, reason: str) -> None:
    """One of our own refusals; 503 says when to come back."""
    assert (answer.status, answer.json()["reason"]) == (status, reason), answer
    assert ("retry-after" in answer.headers) == (status == 503)


async def accept(site: Site, number: int) -> None:
    """A good event, on a connection of its own."""
    answer = await exchange(site.port, post(LIVE, site.live_event(number)))
    assert answer.status == 202, answer


async def aborted(site: Site, reason: str) -> float:
    """How many requests this reason has ended so far."""
    scrape = await site.metrics()
    return scrape.value("forebay_requests_aborted_total", reason=reason)


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_request_is_refused_and_memory_stays_flat(site: Site, name: str) -> None:
    pieces, status, reason = HOSTILE[name]
    number = 100 + 10 * list(HOSTILE).index(name)
    async with (
        unharmed(site, number),
        connected(site.port) as (reader, writer),
        sending(writer, pieces(site)),
    ):
        assert_refused(await read_answer(reader), status, reason)


async def test_good_event_in_chunks_of_one_byte_is_taken(site: Site) -> None:
    async with unharmed(site, 300), connected(site.port) as (reader, writer):
        writer.write(b"".join(crumbs(site.live_event(302))))
        assert (await read_answer(reader)).status == 202


async def test_slow_heads_are_cut_and_counted(site: Site) -> None:
    before = await aborted(site, "head_timeout")
    async with unharmed(site, 310):
        open_s = await asyncio.gather(*(_open_s(site, drips=True) for _ in range(50)))
        assert min(open_s) > 3
        assert await aborted(site, "head_timeout") == before + 50


async def test_connection_that_says_nothing_is_cut(site: Site) -> None:
    async with unharmed(site, 320):
        assert await _open_s(site, drips=False) > 3


async def test_slow_bodies_are_given_up_and_counted(site: Site) -> None:
    before = await aborted(site, "request_timeout")

    async def slow() -> Answer:
        async with connected(site.port) as (reader, writer):
            writer.write(head("POST", LIVE, "Content-Length: 5000"))
            async with sending(writer, iter(lambda: b"x", None), pause_s=0.2):
                return await read_answer(reader)

    async with unharmed(site, 330):
        for answer in await asyncio.gather(*(slow() for _ in range(50))):
            assert_refused(answer, 408, "request_timeout")
    assert await aborted(site, "request_timeout") == before + 50


async def test_pipelined_events_are_all_answered_in_order_up_to_a_bad_one(site: Site) -> None:
    tokens = [site.live_event(n) if n < 499 else b"x" for n in range(400, 501)]
    async with unharmed(site, 340), connected(site.port) as (reader, writer):
        writer.write(b"".join(post(LIVE, token) for token in tokens))
        statuses = [(await read_answer(reader)).status for _ in range(400, 500)]
        assert await reader.read() == b""
    assert statuses == [202] * 99 + [400]


async def test_nothing_hides_behind_a_pipelined_event(site: Site) -> None:
    """What follows broken framing is nobody's request: else one client could speak for another."""
    smuggled = post(LIVE, site.live_event(352))
    broken = head("POST", LIVE, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n"
    async with unharmed(site, 350), connected(site.port) as (reader, writer):
        writer.write(post(LIVE, site.live_event(353)))
        assert (await read_answer(reader)).status == 202
        writer.write(broken + smuggled)
        assert_refused(await read_answer(reader), 400, "malformed")
        assert await reader.read() == b""


async def test_bodies_half_here_are_bounded_and_the_oldest_go_first(site: Site) -> None:
    """32 MiB by default: 14 bodies of 2 MiB are seven eighths of that."""
    almost = head("POST", LIVE, f"Content-Length: {LIVE_EVENT_MAX_BYTES}")
    body = b"x" * (LIVE_EVENT_MAX_BYTES - 1)
    async with unharmed(site, 360, grows_by_less_than=2 * FLAT_BYTES):
        async with contextlib.AsyncExitStack() as stack:
            readers = []
            for _ in range(40):
                reader, writer = await stack.enter_async_context(connected(site.port))
                await stack.enter_async_context(sending(writer, iter([almost, body])))
                readers.append(asyncio.create_task(read_answer(reader)))
            await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
            event = await exchange(site.port, post(LIVE, site.live_event(363)))
            notice = await exchange(site.port, post(PNS, notices([site.notice(362)])))
            answers = await asyncio.gather(*readers)
        assert (event.status, notice.status) == (202, 202)
        refused = [answer for answer in answers if answer.status == 503]
        for answer in refused:
            assert_refused(answer, 503, "overloaded")
        assert {answer.status for answer in answers} == {408, 503}
        assert 26 <= len(refused) < 40


async def test_slow_bodies_take_no_places(tmp_path: Path) -> None:
    settings = {"FOREBAY_HTTP__MAX_IN_FLIGHT": "8"}
    async with running_site(tmp_path, settings=settings) as site, contextlib.AsyncExitStack() as on:
        held = []
        for path in (LIVE, PNS) * 50:
            reader, writer = await on.enter_async_context(connected(site.port))
            writer.write(head("POST", path, "Content-Length: 5") + b"x")
            held.append(reader)
        for number in range(5):
            await accept(site, number)
            notice = await exchange(site.port, post(PNS, notices([site.notice(number)])))
            assert notice.status == 202
        for reader in held:
            assert_refused(await read_answer(reader), 408, "request_timeout")
        assert_balances(await site.metrics())


async def test_genuine_traffic_goes_on_while_strangers_fill_the_connections(
    tmp_path: Path,
) -> None:
    """Idle ones, unfinished heads and bodies: the genuine sender keeps his, or gets a new one."""
    settings = {"FOREBAY_HTTP__MAX_CONNECTIONS": "64"}
    beginnings = (b"", b"POST /live-ev", head("POST", LIVE, "Content-Length: 5") + b"x")
    async with running_site(tmp_path, settings=settings) as site, contextlib.AsyncExitStack() as on:
        reader, kept = await on.enter_async_context(connected(site.port))
        for number in range(10):
            for nth in range(60):
                _, stranger = await on.enter_async_context(connected(site.port))
                stranger.write(beginnings[nth % 3])
            await accept(site, 2 * number)
            kept.write(post(LIVE, site.live_event(2 * number + 1)))
            assert (await read_answer(reader)).status == 202
        assert await aborted(site, "too_many_connections") > 400
        assert (await site.metrics()).value("forebay_open_connections") <= 64


async def _open_s(site: Site, *, drips: bool) -> float:
    """How long a connection stays open on which no head ever ends."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    drops = _endless_head() if drips else iter([b""])
    try:
        async with sending(writer, drops, pause_s=0.2), asyncio.timeout(OPEN_S):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
    finally:
        writer.close()
        await _gone(writer.wait_closed())
    return time.monotonic() - began


def _endless_head() -> Iterator[bytes]:
    yield head("POST", LIVE, "X-Long: ").rstrip()
    while True:
        yield b"x"


async def _gone(closing: Awaitable[None]) -> None:
    with contextlib.suppress(OSError):
        await closing
