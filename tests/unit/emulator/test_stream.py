"""Sending without an end, and what can be asked meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import jwt
import orjson
import pytest

from tests.emulator.canvas import Canvas
from tests.emulator.key_store import Keys
from tests.emulator.oracle import Counts
from tests.unit.emulator.receiver_stub import accept, eventually, receiver_stub


@pytest.fixture
async def canvas(keys: Keys) -> AsyncIterator[Canvas]:
    async with Canvas(seed=3, keys=keys, timeout_s=5) as canvas:
        yield canvas


async def test_it_goes_on_until_told_to_stop_and_can_be_watched(canvas: Canvas) -> None:
    stop = asyncio.Event()
    async with receiver_stub(accept) as receiver:
        sending = asyncio.create_task(
            canvas.stream(receiver.url, rate=300, until=stop, notice_share=0.3, notice_batch=2)
        )
        await eventually(lambda: canvas.oracle.counts().accepted >= 100)
        assert canvas.oracle.counts().lost == 0
        stop.set()
        report = await asyncio.wait_for(sending, 2)
        posts = len(receiver.requests)
    events, notices = canvas.oracle.counts("live-events"), canvas.oracle.counts("pns")
    assert report.events == report.accepted == canvas.oracle.counts().sent
    assert (report.lanes["live-events"].events, report.lanes["pns"].events) == (
        events.sent,
        notices.sent,
    )
    assert posts == events.sent + notices.sent / 2
    assert 0.15 < notices.sent / 2 / posts < 0.45
    assert events == Counts(sent=events.sent, accepted=events.sent, undecided=0, lost=0)


async def test_it_keeps_its_rate_notices_included(canvas: Canvas) -> None:
    clock = asyncio.get_running_loop().time
    async with receiver_stub(accept) as receiver:
        began_s = clock()
        report = await canvas.stream(
            receiver.url, rate=200, duration_s=0.5, notice_share=0.5, notice_batch=4
        )
    # never more than the time that it took allows, and a few that it began with
    assert 50 <= report.events <= 200 * (clock() - began_s) + 25


async def test_a_slow_receiver_does_not_slow_the_stream(canvas: Canvas) -> None:
    hold = asyncio.Event()
    server_posts = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal server_posts
        server_posts += 1
        await hold.wait()
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sending = asyncio.create_task(canvas.stream(url, rate=200, duration_s=1.0))
        try:
            # a stream that waited for answers would send one, or as many as it has connections
            await eventually(lambda: server_posts >= 20)
            assert canvas.oracle.counts().sent == 0
        finally:
            hold.set()  # from Python 3.12 on a server's end waits for its connections
        report = await sending
    assert report.accepted == report.events == server_posts


async def test_a_stream_without_an_end_is_refused(canvas: Canvas) -> None:
    with pytest.raises(ValueError, match="until"):
        await canvas.stream("http://127.0.0.1:9", rate=1)


async def test_streams_side_by_side_send_different_events(canvas: Canvas) -> None:
    async with receiver_stub(accept) as receiver:
        reports = await asyncio.gather(
            *(canvas.stream(receiver.url, rate=100, duration_s=0.2) for _ in range(2)),
            canvas.send_events(receiver.url, count=10),
        )
    assert canvas.oracle.counts().sent == sum(report.events for report in reports)


async def test_repeats_after_2xx_may_come_much_later_and_signed_anew(canvas: Canvas) -> None:
    tokens: dict[str, list[bytes]] = defaultdict(list)
    times_s: dict[str, list[float]] = defaultdict(list)

    def take(path: str, body: bytes) -> tuple[int, Any]:
        claims = jwt.decode(body, options={"verify_signature": False})
        event = orjson.dumps([claims["metadata"], claims["body"]]).decode()
        tokens[event].append(body)
        times_s[event].append(time.monotonic())
        return 202, {"outcome": "published"}

    async with receiver_stub(take) as receiver:
        report = await canvas.send_events(
            receiver.url, count=40, repeat_share=0.5, repeat_delay_s=1.0
        )
    twice = {event: both for event, both in tokens.items() if len(both) == 2}
    assert report.events == report.accepted == len(tokens) == 40
    assert 10 <= report.repeats == len(twice) <= 30
    assert all(times_s[event][1] - times_s[event][0] >= 0.7 for event in twice)
    last_new_s = max(first for first, *_ in times_s.values())
    assert all(times_s[event][1] > last_new_s for event in twice)
    assert 0 < sum(first != second for first, second in twice.values()) < len(twice)
