"""A connection's own limits, without a socket: what is open, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from ingest.http.receiver import Limits
from ingest.http.server import Server
from ingest.observing.metrics import Metrics

_SOON_S = 0.05
_REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
_HALF_A_HEAD = b"POST / HTTP/1.1\r\nHost: "
_LIMITS = Limits(body_timeout_s=30, max_in_flight=9, head_timeout_s=30, silence_timeout_s=30)


class _Transport(asyncio.Transport):
    """Notes what is done to it; like a real one, it tells its protocol that it is gone."""

    def __init__(self, listener: _Listener) -> None:
        super().__init__()
        self.protocol = listener.server()
        self.written = b""
        self.reading = True
        self.ended = asyncio.get_running_loop().create_future()
        self.protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def is_closing(self) -> bool:
        return self.ended.done()

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    async def end(self) -> str:
        """How it ended, once it has."""
        async with asyncio.timeout(10):
            how: str = await self.ended
            return how

    async def answers(self, count: int) -> list[int]:
        """The statuses of this many answers."""
        await _until(lambda: self.written.count(b"HTTP/1.1 ") >= count)
        return [int(answer[:3]) for answer in self.written.split(b"HTTP/1.1 ")[1:]]

    def _end(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class _Listener:
    """A server whose handler reads the whole body, and answers once it may."""

    def __init__(self, **limits: Any) -> None:
        self.metrics = Metrics()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.bodies: list[bytes] = []
        self.server = Server(self._answer, metrics=self.metrics, limits=replace(_LIMITS, **limits))

    def connect(self) -> _Transport:
        """A new connection."""
        return _Transport(self)

    def aborted(self, reason: str) -> float:
        """How many requests this reason has ended."""
        labels = {"process": "0", "reason": reason}
        name = "forebay_requests_aborted_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        try:
            self.bodies.append(await request.read())
        except web.RequestPayloadError:
            return web.Response(status=400)
        await self.may_answer.wait()
        return web.Response(status=202)


async def test_head_that_does_not_end_is_cut_and_counted_however_it_drips() -> None:
    listener = _Listener(head_timeout_s=_SOON_S)
    connection = listener.connect()
    connection.protocol.data_received(_HALF_A_HEAD)
    while not connection.ended.done():
        connection.protocol.data_received(b"x")
        await asyncio.sleep(0.01)
    assert await connection.end() == "aborted"
    assert (listener.aborted("head_timeout"), connection.written) == (1, b"")


async def test_connection_that_says_nothing_is_cut_and_not_counted() -> None:
    listener = _Listener(silence_timeout_s=_SOON_S)
    assert await listener.connect().end() == "aborted"
    assert listener.aborted("head_timeout") == 0


async def test_connection_between_two_requests_may_rest() -> None:
    listener = _Listener(head_timeout_s=_SOON_S, silence_timeout_s=_SOON_S)
    connection = listener.connect()
    connection.protocol.data_received(_REQUEST)
    assert await connection.answers(1) == [202]
    await listener.connect().end()  # one that came later is cut first
    connection.protocol.data_received(_REQUEST[:20])
    connection.protocol.data_received(_REQUEST[20:])
    assert await connection.answers(2) == [202, 202]
    await listener.connect().end()
    assert not connection.ended.done()
    assert listener.aborted("head_timeout") == 0


async def test_slow_body_has_no_deadline_of_a_head() -> None:
    listener = _Listener(head_timeout_s=_SOON_S, silence_timeout_s=_SOON_S)
    connection = listener.connect()
    connection.protocol.data_received(_REQUEST[:-1])
    await listener.connect().end()
    connection.protocol.data_received(_REQUEST[-1:])
    assert await connection.answers(1) == [202]
    assert listener.bodies == [b"ok"]


async def test_second_head_is_on_the_clock_too() -> None:
    listener = _Listener(head_timeout_s=_SOON_S)
    connection = listener.connect()
    connection.protocol.data_received(_REQUEST)
    assert await connection.answers(1) == [202]
    connection.protocol.data_received(_HALF_A_HEAD)
    assert await connection.end() == "aborted"
    assert listener.aborted("head_timeout") == 1


async def test_request_under_way_is_answered_although_the_head_behind_it_never_ends() -> None:
    listener = _Listener(head_timeout_s=_SOON_S)
    listener.may_answer.clear()
    connection = listener.connect()
    connection.protocol.data_received(_REQUEST)
    connection.protocol.data_received(_HALF_A_HEAD)
    await _until(lambda: listener.aborted("head_timeout") == 1)
    assert not connection.ended.done()
    listener.may_answer.set()
    assert await connection.answers(1) == [202]
    assert await connection.end() == "closed"


async def test_one_connection_too_many_is_cut_and_counted_and_room_comes_back() -> None:
    listener = _Listener(max_connections=1)
    first, second = listener.connect(), listener.connect()
    assert await second.end() == "aborted"
    assert (listener.aborted("too_many_connections"), first.ended.done()) == (1, False)
    first.close()
    await _until(lambda: not listener.server.is_full)
    third = listener.connect()
    third.protocol.data_received(_REQUEST)
    assert await third.answers(1) == [202]


async def test_broken_framing_ends_the_body_that_is_being_read() -> None:
    connection = _Listener().connect()
    connection.protocol.data_received(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
    )
    await asyncio.sleep(0)
    connection.protocol.data_received(b"zz\r\n")
    assert (await connection.answers(1))[0] == 400
    assert await connection.end() == "closed"


async def test_peer_that_takes_no_answer_is_cut() -> None:
    connection = _Listener(silence_timeout_s=_SOON_S).connect()
    connection.protocol.data_received(_REQUEST)
    connection.protocol.pause_writing()
    assert await connection.end() == "aborted"


async def test_peer_that_takes_its_answer_in_the_end_is_kept() -> None:
    listener = _Listener(silence_timeout_s=_SOON_S)
    connection = listener.connect()
    connection.protocol.data_received(_REQUEST)
    connection.protocol.pause_writing()
    connection.protocol.resume_writing()
    await listener.connect().end()
    assert await connection.answers(1) == [202]
    assert not connection.ended.done()


async def test_little_is_read_ahead_of_the_request_under_way() -> None:
    listener = _Listener()
    listener.may_answer.clear()
    connection = listener.connect()
    sent = 0
    while connection.reading and sent < 20:
        connection.protocol.data_received(_REQUEST)
        sent += 1
        await asyncio.sleep(0)
    assert sent <= 4
    listener.may_answer.set()
    assert await connection.answers(sent) == [202] * sent
    assert connection.reading


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_connection_ends_where_another_protocol_is_asked_for(protocol: bytes) -> None:
    connection = _Listener(head_timeout_s=_SOON_S).connect()
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % protocol
    connection.protocol.data_received(head)
    assert await connection.answers(1) == [202]
    connection.protocol.data_received(b"\x81\x00" * 9)
    assert await connection.end() in {"closed", "aborted"}


async def _until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if check():
                return
            await asyncio.sleep(0.001)
