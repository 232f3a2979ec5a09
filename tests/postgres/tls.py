"""TLS in front of a PostgreSQL server that was built without it.

A client asks for TLS with eight bytes of its own and goes on once it reads an `S` (PostgreSQL
documentation, "SSL Session Encryption").
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trustme

_ASKS_FOR_TLS = (8).to_bytes(4) + (80877103).to_bytes(4)


class TlsFront:
    """Listens on 127.0.0.1; `was_encrypted` says of each connection so far whether it was."""

    def __init__(self, upstream_port: int, authority: trustme.CA) -> None:
        self.was_encrypted: list[bool] = []
        self._upstream_port = upstream_port
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Its port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readexactly(8)
            is_encrypted = head == _ASKS_FOR_TLS
            if is_encrypted:
                writer.write(b"S")
                await writer.start_tls(self._context)
                head = await reader.readexactly(8)
            self.was_encrypted.append(is_encrypted)
            upstream, server = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            server.write(head)
            await asyncio.gather(_pump(reader, server), _pump(upstream, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while read := await reader.read(65_536):
            writer.write(read)
            await writer.drain()
    writer.close()
