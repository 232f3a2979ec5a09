"""A crowd posts at its pace over connections that it keeps, and says what became of each event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.emulator.deliveries import Delivery
from tests.emulator.traffic import SignedEvent
from tests.faults.crowd import Crowd, crowding

FAST = 5_000.0


class Bench:
    """A receiver that answers what it is told, and remembers who asked."""

    def __init__(self) -> None:
        self.url = ""
        self.tokens: list[str] = []
        self.peers: set[object] = set()
        self.asked = asyncio.Queue[None]()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.breaks = False

    async def answer(self, request: web.Request) -> web.Response:
        self.peers.add(request.transport and request.transport.get_extra_info("peername"))
        self.tokens.append(await request.text())
        self.asked.put_nowait(None)
        await self.may_answer.wait()
        if self.breaks and request.transport is not None:
            request.transport.abort()
        said = {"event_id": self.tokens[-1], "outcome": "published"}
        return web.json_response(said, status=202)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    bench, app = Bench(), web.Application()
    app.router.add_post("/live-events", bench.answer)
    async with TestServer(app) as server:
        bench.url = str(server.make_url("")).rstrip("/")
        yield bench


async def signed(keys: Iterable[str]) -> AsyncIterator[SignedEvent]:
    for number, key in enumerate(keys):
        yield SignedEvent(number=number, name="logged_in", content_key=key, token=key.encode())


async def posted(bench: Bench, keys: Iterable[str], *, connections: int = 8) -> list[Delivery]:
    seen: list[Delivery] = []
    async with Crowd(bench.url, seen.append, connections=connections) as crowd:
        await crowd.post(signed(keys), rate=FAST, until=asyncio.Event())
    return seen


async def test_each_event_is_posted_once_and_told_with_its_answer(bench: Bench) -> None:
    keys = [f"key-{n}" for n in range(30)]
    seen = await posted(bench, keys)
    assert sorted(bench.tokens) == sorted(keys)
    assert {(d.content_key, d.event_id, d.status, d.outcome) for d in seen} == {
        (key, key, 202, "published") for key in keys
    }
    assert {each.role for each in seen} == {"genuine"}


async def test_an_event_that_comes_again_is_a_repeat(bench: Bench) -> None:
    seen = await posted(bench, ["a", "b", "a"], connections=1)
    assert [(each.content_key, each.role) for each in seen] == [
        ("a", "genuine"),
        ("b", "genuine"),
        ("a", "repeat"),
    ]


async def test_connections_are_kept_and_bounded(bench: Bench) -> None:
    await posted(bench, map(str, range(50)), connections=3)
    assert 1 <= len(bench.peers) <= 3


async def test_an_event_without_an_answer_is_told_as_such(bench: Bench) -> None:
    bench.breaks = True
    (seen,) = await posted(bench, ["a"])
    assert seen.status is None
    assert seen.error
    assert not seen.accepted


async def test_the_last_answers_are_waited_for(bench: Bench) -> None:
    seen: list[Delivery] = []
    bench.may_answer.clear()
    async with Crowd(bench.url, seen.append) as crowd:
        async with crowding(crowd, signed(map(str, range(10**6))), rate=100.0):
            await bench.asked.get()
            assert not seen
            bench.may_answer.set()
        assert sorted(bench.tokens) == sorted(str(each.content_key) for each in seen)


async def test_no_more_come_than_the_pace_allows(bench: Bench) -> None:
    seen: list[Delivery] = []
    async with Crowd(bench.url, seen.append) as crowd:
        began_s = time.monotonic()
        async with crowding(crowd, signed(map(str, range(10**6))), rate=50.0):
            for _ in range(10):
                await bench.asked.get()
            # the tenth is due nine gaps after the first, and may be a timer's grain early
            assert time.monotonic() - began_s > 9 / 50.0 - 0.01
