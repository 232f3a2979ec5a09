"""Requests byte by byte, for what no HTTP client would send."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

ANSWER_TIMEOUT_S = 15.0
"""As long as Canvas waits (Canvas documentation: Live Events set-up)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(
    port: int, *, tls: ssl.SSLContext | None = None, name: str | None = None
) -> AsyncIterator[Connection]:
    """A connection to 127.0.0.1, closed again; by TLS to a server of this name."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def sending(
    writer: asyncio.StreamWriter, pieces: Iterator[bytes], *, pause_s: float = 0
) -> AsyncIterator[None]:
    """Sends piece after piece while the block runs, until the other side takes no more."""

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def exchange(port: int, request: bytes) -> Answer:
    """Sends these bytes on a connection of their own, and reads one answer."""
    async with connected(port) as (reader, writer):
        writer.write(request)
        return await read_answer(reader)


def head(method: str, path: str, *lines: str) -> bytes:
    """The head of a request, with its empty line."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def post(path: str, body: bytes, *lines: str) -> bytes:
    """A whole POST request."""
    return head("POST", path, f"Content-Length: {len(body)}", *lines) + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer on a connection."""
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(status=int(status_line.split()[1]), headers=headers, body=body)
