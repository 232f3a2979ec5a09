"""The ways in which a key server can fail, as a client sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.emulator.key_server import HUGE_BYTES, LIVE_EVENTS_PATH, KeyServer, Mode
from tests.emulator.key_store import Keys
from tests.unit.emulator.receiver_stub import eventually


@pytest.fixture
async def server(keys: Keys) -> AsyncIterator[KeyServer]:
    async with KeyServer(keys) as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


async def _assert_well(server: KeyServer, client: aiohttp.ClientSession, keys: Keys) -> None:
    async with client.get(server.live_events_url) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.json() == keys.live_events.jwks()
    async with client.get(server.platform_url) as answer:
        assert await answer.json() == keys.platform.jwks()


@pytest.mark.parametrize("mode", Mode)
async def test_after_every_misbehaviour_all_is_well_at_the_same_address(
    server: KeyServer, client: aiohttp.ClientSession, keys: Keys, mode: Mode
) -> None:
    url = server.live_events_url
    await server.misbehave(mode)
    server.fail_with(500)
    server.delay(30)
    await server.behave()
    assert server.live_events_url == url
    await _assert_well(server, client, keys)


@pytest.mark.parametrize(
    ("mode", "status", "body"),
    [(Mode.ERROR, 500, b"told to fail"), (Mode.EMPTY, 200, b'{"keys": []}')],
)
async def test_errors_and_empty_sets(
    server: KeyServer, client: aiohttp.ClientSession, mode: Mode, status: int, body: bytes
) -> None:
    await server.misbehave(mode)
    async with client.get(server.live_events_url) as answer:
        assert answer.status == status
        assert body in await answer.read()


async def test_garbage_is_not_json(server: KeyServer, client: aiohttp.ClientSession) -> None:
    await server.misbehave(Mode.GARBAGE)
    async with client.get(server.live_events_url) as answer:
        assert answer.status == 200
        with pytest.raises(ValueError, match=r"."):
            await answer.json()


async def test_a_wrong_type_has_the_right_keys(
    server: KeyServer, client: aiohttp.ClientSession, keys: Keys
) -> None:
    await server.misbehave(Mode.WRONG_TYPE)
    async with client.get(server.live_events_url) as answer:
        assert answer.content_type == "text/html"
        assert await answer.json(content_type=None) == keys.live_events.jwks()


async def test_a_redirect_leads_to_the_keys_and_following_it_shows(
    server: KeyServer, client: aiohttp.ClientSession, keys: Keys
) -> None:
    await server.misbehave(Mode.REDIRECT)
    async with client.get(server.live_events_url, allow_redirects=False) as answer:
        assert answer.status == 302
    async with client.get(server.live_events_url) as answer:
        assert await answer.json() == keys.live_events.jwks()
    assert server.requests == {LIVE_EVENTS_PATH: 2, f"/moved{LIVE_EVENTS_PATH}": 1}


async def test_a_huge_body_comes_in_pieces_of_unannounced_length(
    server: KeyServer, client: aiohttp.ClientSession
) -> None:
    await server.misbehave(Mode.HUGE)
    size = 0
    async with client.get(server.live_events_url) as answer:
        assert answer.content_length is None
        async for piece in answer.content.iter_chunked(2**20):
            size += len(piece)
    assert abs(size - HUGE_BYTES) <= 65_536


async def test_a_client_may_hang_up_on_a_huge_body(
    server: KeyServer, client: aiohttp.ClientSession, keys: Keys
) -> None:
    await server.misbehave(Mode.HUGE)
    async with client.get(server.live_events_url) as answer:
        await answer.content.readexactly(1000)
        answer.close()
    await server.behave()
    await _assert_well(server, client, keys)


async def test_hanging_says_nothing_and_ends_without_an_answer(
    server: KeyServer, client: aiohttp.ClientSession
) -> None:
    await server.misbehave(Mode.HANG)
    # a client of its own, for aiohttp's would ask a second time
    port = int(server.live_events_url.split(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {LIVE_EVENTS_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = asyncio.create_task(reader.read())
    await eventually(lambda: server.requests.total() == 1)
    async with client.get(f"http://127.0.0.1:{port}/elsewhere") as later:
        assert later.status == 404
    assert not answer.done()
    await server.behave()
    assert await asyncio.wait_for(answer, 2) == b""
    writer.close()


async def test_refusing_cuts_what_is_connected_and_holds_the_port(
    server: KeyServer, client: aiohttp.ClientSession, keys: Keys
) -> None:
    await _assert_well(server, client, keys)  # leaves a connection open
    await server.misbehave(Mode.REFUSE)
    for _ in range(2):
        with pytest.raises(aiohttp.ClientConnectorError, match="Cannot connect"):
            await client.get(server.live_events_url)
    await server.behave()
    await _assert_well(server, client, keys)


async def test_it_can_be_left_while_it_misbehaves(keys: Keys) -> None:
    for mode in (Mode.REFUSE, Mode.HANG):
        async with KeyServer(keys) as server:
            await server.misbehave(mode)


async def test_one_misbehaviour_follows_another(
    server: KeyServer, client: aiohttp.ClientSession
) -> None:
    for mode in (Mode.REFUSE, Mode.ERROR):
        await server.misbehave(mode)
    async with client.get(server.live_events_url) as answer:
        assert answer.status == 500
