"""A receiver that answers as it is told and keeps what it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Answer = Callable[[str, bytes], tuple[int, Any]]
"""From path and body to status and JSON answer."""


@dataclass(slots=True, kw_only=True)
class ReceiverStub:
    url: str = ""
    requests: list[tuple[str, bytes, str | None]] = field(default_factory=list)

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body, _ in self.requests]


@asynccontextmanager
async def receiver_stub(answer: Answer) -> AsyncIterator[ReceiverStub]:
    stub = ReceiverStub()

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        stub.requests.append((request.path, body, request.headers.get("Content-Type")))
        status, said = answer(request.path, body)
        return web.json_response(said, status=status)

    app = web.Application(client_max_size=8 * 2**20)
    app.router.add_post("/{path:.*}", handle)
    async with TestServer(app, host="127.0.0.1") as server:
        stub.url = str(server.make_url("/"))
        yield stub


async def eventually(reached: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait until `reached` says so; TimeoutError when it never does."""
    async with asyncio.timeout(within_s):
        # what is waited for is a count, which nobody announces
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def accept(path: str, body: bytes) -> tuple[int, Any]:
    """Take everything, say nothing of ids."""
    return 202, {"outcome": "published"}
