"""A receiver that is not ready when it should be is found, and one that is when it should not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.faults.readiness import LAG_S, Readiness


class Bench:
    """A receiver that answers as it is told, and a clock that goes as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.process: int | None = 1
        self.now_s = 100.0

    async def answer(self, request: web.Request) -> web.Response:
        return web.Response(status=self.status, text="so it is")


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest_asyncio.fixture
async def readiness(bench: Bench) -> AsyncIterator[Readiness]:
    app = web.Application()
    app.router.add_get("/readyz", bench.answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Readiness(
            session,
            admin_url=str(server.make_url("")).rstrip("/"),
            process=lambda: bench.process,
            clock=lambda: bench.now_s,
        )


async def said(readiness: Readiness, bench: Bench, *statuses: int) -> list[str]:
    for bench.status in statuses:
        await readiness.look()
    return [violation.seen for violation in readiness.violations]


async def test_who_stays_ready_is_in_order(readiness: Readiness, bench: Bench) -> None:
    assert await said(readiness, bench, 503, 200, 200, 200) == []


async def test_one_no_in_between_is_found(readiness: Readiness, bench: Bench) -> None:
    (seen,) = await said(readiness, bench, 200, 200, 503, 200)
    assert seen.startswith("not ready")


async def test_each_process_may_take_its_time_to_start(readiness: Readiness, bench: Bench) -> None:
    assert await said(readiness, bench, 200, 200) == []
    bench.process = 2
    assert await said(readiness, bench, 503, 503, 200, 200) == []
    bench.process = None
    assert await said(readiness, bench, 503) == []


async def test_ready_while_nothing_is_durable_is_found(readiness: Readiness, bench: Bench) -> None:
    await said(readiness, bench, 200, 200)
    with readiness.lost():
        assert await said(readiness, bench, 200, 503) == [], "it may take a moment to find out"
        bench.now_s += LAG_S + 1
        (seen,) = await said(readiness, bench, 503, 200, 503)
    assert seen.startswith("ready")


async def test_nothing_is_expected_while_it_is_undecided(
    readiness: Readiness, bench: Bench
) -> None:
    await said(readiness, bench, 200)
    with readiness.undecided():
        assert await said(readiness, bench, 503, 200, 503) == []
    (seen,) = await said(readiness, bench, 503)
    assert seen.startswith("not ready")


async def test_a_case_in_which_nobody_answered_proves_nothing(
    readiness: Readiness, bench: Bench
) -> None:
    (seen,) = await said(readiness, bench, 200)
    assert seen.startswith("no process")
