"""A connection's own limits, without a socket: what is open, and for how long."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from ingest.errors import TooLarge
from ingest.http import connections, server
from ingest.http.answers import problem
from ingest.http.connection import Connection
from ingest.http.receiver import Limits
from ingest.http.server import Server
from ingest.observing.metrics import Metrics
from tests.support.each import each_case

_SOON_S = 0.05
_STATUS = re.compile(rb"HTTP/1\.[01] (\d+) ")
_REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
_HALF_A_HEAD = b"POST / HTTP/1.1\r\nHost: "
_LIMITS = Limits(body_timeout_s=30, max_in_flight=9, head_timeout_s=30, silence_timeout_s=30)


class _Transport(asyncio.Transport):
    """Notes what is done to it; like a real one, it tells its protocol that it is gone."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.reading = True
        self.ends_at_close = True  # as where the peer takes what is written
        self.ended = asyncio.get_running_loop().create_future()
        self.protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def is_closing(self) -> bool:
        return self.ended.done()

    def close(self) -> None:
        if self.ends_at_close:
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
        await _until(lambda: len(_STATUS.findall(self.written)) >= count)
        return [int(status) for status in _STATUS.findall(self.written)]

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

    def connect(self, host: str = "192.0.2.1") -> _Transport:
        """A new connection."""
        connection = self.server.admit(host)
        assert connection is not None
        return _Transport(connection)

    def aborted(self, reason: str) -> float:
        """How many requests this reason has ended."""
        labels = {"process": "0", "reason": reason}
        name = "forebay_requests_aborted_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/early":
            return problem(TooLarge())
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


async def test_idle_connection_is_closed_soon_and_a_proxys_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a proxy sends on a connection that we are closing is lost."""
    monkeypatch.setattr(server, "_KEEPALIVE_S", _SOON_S)
    listener = _Listener(trusted_proxies=("10.0.0.0/8",))
    direct, proxy = listener.connect(), listener.connect("10.0.0.1")
    for connection in (proxy, direct):
        connection.protocol.data_received(_REQUEST)
        assert await connection.answers(1) == [202]
    assert await direct.end() == "closed"
    assert not proxy.ended.done()


async def test_idle_connection_is_not_closed_over_a_request_that_nobody_has_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_KEEPALIVE_S", _SOON_S)
    listener = _Listener()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = listener.connect()
        connection._extra["socket"] = ours  # type: ignore[attr-defined]
        connection.protocol.data_received(_REQUEST)
        assert await connection.answers(1) == [202]
        theirs.send(_REQUEST)
        later = listener.connect()
        later.protocol.data_received(_REQUEST)
        assert await later.end() == "closed"
        assert not connection.ended.done()
        connection.protocol.data_received(ours.recv(1024))
        assert await connection.answers(2) == [202, 202]
        assert await connection.end() == "closed"


async def test_nothing_is_unpacked() -> None:
    listener = _Listener()
    packed = gzip.compress(b"x" * 10_000)
    request = _REQUEST.replace(b"2\r\n\r\nok", b"%d\r\n" % len(packed))
    connection = listener.connect()
    connection.protocol.data_received(request + b"Content-Encoding: gzip\r\n\r\n" + packed)
    assert await connection.answers(1) == [202]
    assert listener.bodies == [packed]


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


async def test_longest_idle_connection_goes_for_the_newcomer() -> None:
    listener = _Listener(max_connections=2)
    first, second = listener.connect(), listener.connect()
    await asyncio.sleep(0)  # their tasks begin to wait for a head
    third = listener.connect()
    assert await first.end() == "aborted"
    assert listener.aborted("too_many_connections") == 1
    for connection in (second, third):
        connection.protocol.data_received(_REQUEST)
        assert await connection.answers(1) == [202]


async def test_connection_that_an_event_was_accepted_on_goes_last() -> None:
    listener = _Listener(max_connections=2)
    genuine = listener.connect()
    genuine.protocol.data_received(_REQUEST)
    assert await genuine.answers(1) == [202]
    stranger = listener.connect()
    stranger.protocol.data_received(_REQUEST[:-1])
    await asyncio.sleep(0)
    listener.connect()
    assert await stranger.end() == "aborted"
    await asyncio.sleep(0)
    assert not genuine.ended.done()


async def test_who_has_many_connections_goes_before_who_has_one() -> None:
    listener = _Listener(max_connections=3)
    genuine = listener.connect("192.0.2.7")
    many = [listener.connect("192.0.2.8") for _ in range(2)]
    await asyncio.sleep(0)
    listener.connect("192.0.2.9")
    assert await many[0].end() == "aborted"
    await asyncio.sleep(0)
    assert not genuine.ended.done()


async def test_whole_request_is_never_cut_for_a_newcomer() -> None:
    listener = _Listener(max_connections=2)
    listener.may_answer.clear()
    busy, pipelined = listener.connect(), listener.connect()
    busy.protocol.data_received(_REQUEST)
    pipelined.protocol.data_received(_REQUEST + _REQUEST[:-1])
    for _ in range(3):  # not before it is begun, and not while it is handled
        assert listener.server.admit("192.0.2.2") is None
        await asyncio.sleep(0)
    assert listener.aborted("too_many_connections") == 3
    listener.may_answer.set()
    assert (await busy.answers(1), await pipelined.answers(1)) == ([202], [202])


async def test_connections_of_one_address_are_bounded_whoever_else_is_there() -> None:
    listener = _Listener(max_connections_per_address=2)
    listener.may_answer.clear()
    other = listener.connect("198.51.100.7")
    both = [listener.connect(), listener.connect()]
    for connection in both:
        connection.protocol.data_received(_REQUEST)
    assert listener.server.admit("192.0.2.1") is None
    assert listener.aborted("too_many_from_address") == 1
    listener.connect("192.0.2.2")
    listener.may_answer.set()
    assert [await each.answers(1) for each in both] == [[202], [202]]
    listener.connect("192.0.2.1")  # its idle ones make room
    assert [each.ended.done() for each in [*both, other]] == [True, False, False]


async def test_host_with_many_ipv6_addresses_is_one() -> None:
    listener = _Listener(max_connections_per_address=2)
    listener.may_answer.clear()
    for host in ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"):
        listener.connect(host).protocol.data_received(_REQUEST)
    assert listener.server.admit("2001:db8:1:2:3::") is None
    assert listener.server.admit("2001:db8:1:3::1") is not None
    assert listener.server.admit("::ffff:192.0.2.1") is not None


async def test_closed_connections_leave_room() -> None:
    listener = _Listener(max_connections_per_address=1)
    for _ in range(3):
        connection = listener.connect()
        connection.protocol.data_received(_REQUEST)
        assert await connection.answers(1) == [202]
        connection.close()
        await _until(lambda: not len(listener.server.open))
    assert listener.aborted("too_many_from_address") == 0


async def test_proxy_may_have_many_connections_and_its_clients_are_told_apart() -> None:
    listener = _Listener(
        max_connections_per_address=2, trusted_proxies=("10.0.0.0/8", "2001:db8::/32")
    )
    listener.may_answer.clear()

    def ask(*headers: str) -> _Transport:
        connection = listener.connect("10.0.0.1")
        lines = "".join(f"{header}\r\n" for header in headers).encode()
        connection.protocol.data_received(_REQUEST.replace(b"Host", lines + b"Host"))
        return connection

    same = (
        ["X-Forwarded-For: 192.0.2.1"],
        # what is left of the last stranger is made up, what is right of it are proxies of ours
        ["X-Forwarded-For: 198.51.100.7, 192.0.2.1:4711, 10.9.9.9"],
        ["X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 192.0.2.1"],
        ['Forwarded: for=198.51.100.7, for="192.0.2.1:99";proto=https, for="[2001:db8::1]:1"'],
        ["Forwarded: for=198.51.100.7", "X-Forwarded-For: 192.0.2.1"],
    )
    under_way = [ask(*headers) for headers in same[:2]]
    await _until(lambda: len(listener.bodies) == 2)
    with each_case() as case:
        for headers in same:
            with case(headers):
                assert await ask(*headers).answers(1) == [503]
    assert listener.aborted("too_many_from_address") == len(same)
    others = [ask("X-Forwarded-For: 192.0.2.2"), ask("Forwarded: for=_hidden")]
    others += [ask() for _ in range(4)]  # of whom nothing is told
    listener.may_answer.set()
    for connection in (*under_way, *others):
        assert await connection.answers(1) == [202]
    assert await ask("X-Forwarded-For: 192.0.2.1").answers(1) == [202]


async def test_stranger_is_not_believed_about_his_address() -> None:
    listener = _Listener(max_connections_per_address=1, trusted_proxies=("10.0.0.0/8",))
    listener.may_answer.clear()
    request = _REQUEST.replace(b"Host", b"X-Forwarded-For: 198.51.100.7\r\nHost")
    listener.connect().protocol.data_received(request)
    assert listener.server.admit("192.0.2.1") is None


async def test_head_is_bounded_as_a_whole_whatever_its_shape() -> None:
    long = b"x" * 8_000
    headers = [b"X-%d: %b\r\n" % (n, long) for n in range(4)]
    line = b"POST /%b HTTP/1.1\r\nHost: x\r\n" % long
    with each_case() as case:
        for name, pieces, status in (
            ("whole", [line + b"".join(headers) + b"\r\n"], 400),
            ("in pieces", [line, *headers, b"\r\n"], 400),
            ("without an end", [line, *headers, b"X-5: " + long], 400),
            ("after a request", [_REQUEST + line + b"".join(headers) + b"\r\n"], 400),
            ("almost", [line, *headers[:3], b"\r\n"], 202),
            (
                "before a large body",
                [_REQUEST.replace(b"2\r\n\r\nok", b"40000\r\n\r\n" + b"x" * 40_000)],
                202,
            ),
        ):
            with case(name):
                listener = _Listener()
                connection = listener.connect()
                for piece in pieces:
                    connection.protocol.data_received(piece)
                assert (await connection.answers(1))[-1] == status
                if status == 400:
                    assert await connection.end() == "closed"
                    assert listener.aborted("bad_http") == 1


async def test_unfinished_heads_are_bounded_together_but_for_usual_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "_MAX_LARGE_HEAD_BYTES", 10_000)
    listener = _Listener()
    start, end = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n", b"\r\n\r\n"
    large, small = b"X-Large: " + b"x" * 4_500, b"X-Small: " + b"x" * 1_300

    def begun(line: bytes) -> _Transport:
        connection = listener.connect()
        connection.protocol.data_received(start)
        connection.protocol.data_received(line)
        return connection

    held = [begun(large) for _ in range(3)]
    assert await begun(large).answers(1) == [400]
    usual = [begun(small) for _ in range(5)]
    for connection in [*usual, held.pop()]:
        connection.protocol.data_received(end)
        assert await connection.answers(1) == [202]
    held.pop().abort()
    await asyncio.sleep(0)
    held += [begun(large), begun(large)]  # in the room of those two
    for connection in held:
        connection.protocol.data_received(end)
        assert await connection.answers(1) == [202]
    assert listener.server.open._large_head_bytes == 0


async def test_framing_without_a_body_is_bounded() -> None:
    """Chunk extensions and trailers count as no body, and the parser keeps some of them."""
    start = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
    long = b"x" * 8_000
    with each_case() as case:
        for name, pieces in (
            ("extension", [b"1;", *[long] * 5]),
            ("trailers", [b"0\r\n", *(b"X-%d: %b\r\n" % (n, long) for n in range(5))]),
        ):
            with case(name):
                connection = _Listener().connect()
                for piece in (start, *pieces):
                    connection.protocol.data_received(piece)
                assert (await connection.answers(1))[0] == 400
                assert await connection.end() == "closed"


async def test_little_is_read_after_an_early_answer() -> None:
    listener = _Listener()
    connection = listener.connect()
    connection.protocol.data_received(
        b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
    )
    assert await connection.answers(1) == [413]
    sent = 0
    while connection.reading and sent < 4_000_000:
        connection.protocol.data_received(b"x" * 8_000)
        sent += 8_000
        await asyncio.sleep(0)
    assert 0 < sent <= 80_000
    assert await connection.end() in {"closed", "aborted"}


async def test_peer_that_does_not_take_its_last_answer_is_cut() -> None:
    connection = _Listener(silence_timeout_s=_SOON_S).connect()
    connection.ends_at_close = False
    connection.protocol.data_received(b"POST /early HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await connection.answers(1) == [413]
    assert await connection.end() == "aborted"


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
