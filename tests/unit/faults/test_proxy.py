"""Each way to break a link does what its name says, and healing ends it."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.faults.proxy import HOST, PRODUCE, Proxy

METADATA = 3
SOON_S = 5.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self.got += data
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, HOST, 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy(target_port=echo.port) as proxy:
        yield proxy


@pytest.fixture
async def kafka_link(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy(target_port=echo.port, kafka=True) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def echoed(connection: Connection, data: bytes) -> float:
    """Seconds until all of it was back."""
    reader, writer = connection
    began = time.monotonic()
    writer.write(data)
    async with asyncio.timeout(SOON_S):
        assert await reader.readexactly(len(data)) == data
    return time.monotonic() - began


async def assert_reset(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(SOON_S):
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while True:
            if check():
                return
            await asyncio.sleep(0.005)


def request(api_key: int, text: bytes) -> bytes:
    """A message with the head of a Kafka request; the echo of it stands for the answer."""
    content = struct.pack(">hhi", api_key, 0, 7) + text
    return struct.pack(">i", len(content)) + content


async def test_bytes_come_through_both_ways_and_the_end_too(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as (reader, writer):
        await echoed((reader, writer), b"water" * 100_000)
        writer.write_eof()
        async with asyncio.timeout(SOON_S):
            assert await reader.read() == b""
    await until(lambda: proxy.connections == 0)


async def test_a_delay_is_added_once_however_many_pieces_come(proxy: Proxy, echo: Echo) -> None:
    proxy.delay(0.2)
    async with connected(proxy) as (reader, writer):
        began = time.monotonic()
        for _ in range(100):
            writer.write(b"drop")
            await asyncio.sleep(0.001)
        async with asyncio.timeout(SOON_S):  # added to each piece, it were 20 s
            assert await reader.readexactly(400) == b"drop" * 100
        assert time.monotonic() - began >= 0.2
        proxy.delay(60)
        writer.write(b"late")
        await until(lambda: echo.got.endswith(b"late"))
        await proxy.heal()
        async with asyncio.timeout(SOON_S):
            assert await reader.readexactly(4) == b"late"


async def test_a_throttled_link_carries_so_many_bytes_a_second(proxy: Proxy) -> None:
    async with connected(proxy) as connection:
        proxy.throttle(2_000, of=["requests"])
        assert await echoed(connection, b"x" * 1_000) > 0.4
        await proxy.heal()
        await echoed(connection, b"x" * 100_000)  # throttled, it were 50 s


async def test_a_blackhole_forwards_nothing_until_it_is_healed(proxy: Proxy, echo: Echo) -> None:
    proxy.blackhole(of=["requests"])
    async with connected(proxy) as (reader, writer):
        writer.write(b"kept")
        async with connected(proxy):
            await until(lambda: proxy.connections == 2)
        assert echo.got == b""
        await proxy.heal()
        async with asyncio.timeout(SOON_S):
            assert await reader.readexactly(4) == b"kept"


async def test_what_a_client_sent_into_a_blackhole_arrives_though_the_client_has_gone(
    proxy: Proxy, echo: Echo
) -> None:
    proxy.blackhole(of=["requests"])
    _, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"orphan")
    writer.close()
    await until(lambda: proxy.connections == 1)
    await proxy.heal()
    await until(lambda: echo.got == b"orphan")


async def test_a_link_that_refuses_cuts_what_is_open_and_takes_nothing(proxy: Proxy) -> None:
    async with connected(proxy) as connection:
        await echoed(connection, b"first")
        await proxy.refuse()
        await assert_reset(connection[0])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, proxy.port)
    await proxy.heal()
    async with connected(proxy) as connection:
        await echoed(connection, b"again")


async def test_cutting_resets_what_is_open_and_takes_the_next(proxy: Proxy) -> None:
    async with connected(proxy) as connection:
        await echoed(connection, b"first")
        proxy.cut()
        await assert_reset(connection[0])
    async with connected(proxy) as connection:
        await echoed(connection, b"second")


async def test_an_answer_is_cut_in_its_middle_once(proxy: Proxy, echo: Echo) -> None:
    proxy.cut_next_answer(after_bytes=3)
    async with connected(proxy) as (reader, writer):
        writer.write(b"answer")
        async with asyncio.timeout(SOON_S):
            assert await reader.readexactly(3) == b"ans"
        await assert_reset(reader)
    assert echo.got == b"answer"
    async with connected(proxy) as connection:
        await echoed(connection, b"whole")


async def test_lost_answers_are_those_of_the_chosen_requests_alone(
    kafka_link: Proxy, echo: Echo
) -> None:
    kafka_link.answers("lost")
    sent = [request(METADATA, b"a"), request(PRODUCE, b"b" * 100_000), request(METADATA, b"c")]
    async with connected(kafka_link) as (reader, writer):
        writer.write(b"".join(sent))
        async with asyncio.timeout(SOON_S):
            assert await reader.readexactly(len(sent[0] + sent[2])) == sent[0] + sent[2]
        assert bytes(echo.got) == b"".join(sent)
        await kafka_link.heal()
        await echoed((reader, writer), request(PRODUCE, b"d"))


async def test_an_answer_can_cut_its_connection(kafka_link: Proxy, echo: Echo) -> None:
    kafka_link.answers("cut")
    async with connected(kafka_link) as (reader, writer):
        await echoed((reader, writer), request(METADATA, b"a"))
        writer.write(request(PRODUCE, b"b"))
        await assert_reset(reader)
    assert bytes(echo.got).endswith(b"b")
