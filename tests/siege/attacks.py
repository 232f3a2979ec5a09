"""The attacks, byte by byte. Each is what somebody would try who has read the documentation."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import zlib
from collections.abc import Awaitable, Callable
from typing import Final

from tests.integration.ingest.wire import head, post
from tests.siege.enemy import Enemy, many, paced

LIVE, PNS = "/live-events", "/pns"
MB: Final = 1024 * 1024

Attack = Callable[[Enemy], Awaitable[None]]

_SMUGGLING: Final = (
    ("Content-Length: 5", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ("Transfer-Encoding: chunked, identity",),
    ("Transfer-Encoding: gzip, chunked",),
    ("Transfer-Encoding : chunked",),
    ("Content-Length: 5", "Content-Length: 6"),
    ("Content-Length: +5",),
    ("Content-Length: -5",),
    ("Content-Length: 0x5",),
)


async def plain_bodies(enemy: Enemy) -> None:
    """A thousand bodies of 3.9 MB that are no JSON, for the endpoint that takes the largest."""
    request = post(PNS, b"x" * 3_900_000)
    await _thousand(enemy, request)


async def packed_bodies(enemy: Enemy) -> None:
    """The same as gzip: a thousand times 3.8 KB."""
    await _thousand(enemy, post(PNS, packed(3_900_000), "Content-Encoding: gzip"))


async def bombs(enemy: Enemy) -> None:
    """20 a second, each 100 MB in 97 KB."""
    requests = itertools.cycle(
        [
            post(PNS, packed(100 * MB), "Content-Encoding: gzip"),
            post(LIVE, packed(100 * MB, gzip=False), "Content-Encoding: deflate"),
        ]
    )
    await paced(enemy, 20, lambda: enemy.request(next(requests)))


async def bombs_at_once(enemy: Enemy) -> None:
    """400 connections with 10 MB in 9.8 KB each, the last byte of which comes late."""
    request = post(PNS, packed(10 * MB), "Content-Encoding: gzip")

    async def one() -> None:
        with contextlib.suppress(OSError):
            ends = await enemy.connect()
            await enemy.write(ends, request[:-1])
            await asyncio.sleep(2)
            await enemy.answered(request[-1:], ends)

    while enemy.goes_on:
        await many(400, one)


async def forged_notices(enemy: Enemy) -> None:
    """POSTs of 2,000 notices whose claims anybody reads in a launch, each with a key id of its own.

    The bodies are used again and again: whoever keeps one keeps megabytes.
    """
    bodies = itertools.cycle(enemy.bodies("notices"))

    async def one() -> None:
        while enemy.goes_on:
            await enemy.post(PNS, next(bodies))

    await many(2, one)


async def unknown_keys(enemy: Enemy) -> None:
    """Live Events that name the right school, with random key ids, 200 a second."""
    bodies = itertools.cycle(enemy.bodies("unknown"))
    await paced(enemy, 200, lambda: enemy.post(LIVE, next(bodies)))


async def slow_bodies(enemy: Enemy) -> None:
    """Bodies that are announced large and come in drops: 200 KB/s over 500 connections."""

    async def one() -> None:
        with contextlib.suppress(OSError):
            ends = await enemy.connect()
            try:
                await enemy.write(ends, head("POST", LIVE, f"Content-Length: {2 * MB}"))
                while enemy.goes_on:
                    await enemy.write(ends, b"x" * 40)
                    await asyncio.sleep(0.1)
            finally:
                ends[1].transport.abort()

    await _again_and_again(enemy, 500, one)


async def slow_heads(enemy: Enemy) -> None:
    """500 connections, each with a head that never ends."""

    async def one() -> None:
        with contextlib.suppress(OSError):
            ends = await enemy.connect()
            try:
                await enemy.write(ends, head("POST", LIVE, "X-Long: ").rstrip())
                while enemy.goes_on:
                    await enemy.write(ends, b"x")
                    await asyncio.sleep(0.1)
            finally:
                ends[1].transport.abort()

    await _again_and_again(enemy, 500, one)


async def idle_connections(enemy: Enemy) -> None:
    """10,000 connections that are kept alive after one 404 each, as fast as they can be had."""
    request = head("GET", "/nothing-here", "Connection: keep-alive")
    opening = asyncio.Semaphore(64)

    async def one() -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with opening:
                ends = await enemy.connect()
                await enemy.write(ends, request)
            await enemy.hold(ends)

    await many(10_000, one)


async def silent_connections(enemy: Enemy) -> None:
    """3,000 connections on which nothing is said, opened again when they are closed."""

    async def one() -> None:
        while enemy.goes_on:
            with contextlib.suppress(OSError):
                await enemy.hold(await enemy.connect())
            await asyncio.sleep(0.2)

    await many(3_000, one)


async def unfinished_handshakes(enemy: Enemy) -> None:
    """3,000 TLS handshakes of which only the first bytes come."""

    async def one() -> None:
        while enemy.goes_on:
            with contextlib.suppress(OSError):
                ends = await enemy.connect()
                await enemy.write(ends, b"\x16\x03\x01\x02\x00\x01")
                await enemy.hold(ends)
            await asyncio.sleep(0.2)

    await many(3_000, one)


async def unreadable_claims(enemy: Enemy) -> None:
    """Tokens for `/pns` whose claims are no JSON, 100 a second."""
    bodies = itertools.cycle(enemy.bodies("unreadable"))
    await paced(enemy, 100, lambda: enemy.post(PNS, next(bodies)))


async def replays(enemy: Enemy) -> None:
    """What was signed once, again and again: expired, valid, and of no tenant; 300 a second."""
    bodies = itertools.cycle(enemy.bodies("replay"))
    await paced(enemy, 300, lambda: enemy.post(LIVE, next(bodies)))


async def endless_heads(enemy: Enemy) -> None:
    """200 connections with heads of half a megabyte that are not finished."""
    lines = [f"X-{number}: {'x' * 7_700}" for number in range(63)]
    request = head("POST", LIVE, *lines)[:-2]

    async def one() -> None:
        with contextlib.suppress(OSError):
            ends = await enemy.connect()
            with contextlib.suppress(OSError):
                await enemy.write(ends, request)
            await enemy.hold(ends)

    await _again_and_again(enemy, 200, one)


async def wide_events(enemy: Enemy) -> None:
    """Truly signed, and made to be slow: 100,000 unknown fields, 20,000 claims of one name."""
    live = itertools.cycle(enemy.bodies("wide-live"))
    notices = itertools.cycle(enemy.bodies("wide-notices"))

    async def both() -> None:
        await enemy.post(LIVE, next(live))
        await enemy.post(PNS, next(notices))

    await paced(enemy, 1, both)


async def smuggling(enemy: Enemy) -> None:
    """Shapes by which two servers disagree on where a request ends, 200 a second."""
    shapes = itertools.cycle(_SMUGGLING)

    async def one() -> None:
        hidden = post(LIVE, b"x")
        await enemy.request(head("POST", LIVE, *next(shapes)) + b"0\r\n\r\n" + hidden)

    await paced(enemy, 200, one)


async def garbage(enemy: Enemy) -> None:
    """Bytes that are no HTTP, and requests for what is not here, 300 a second."""
    draws = random.Random(7)

    async def one() -> None:
        kind = draws.randrange(3)
        if kind == 0:
            await enemy.request(draws.randbytes(2_000) + b"\r\n\r\n")
        elif kind == 1:
            await enemy.post("/" + "a" * draws.randrange(4_000), b"x" * 100_000)
        else:
            await enemy.request(head("PUT", LIVE, "Content-Length: 100000") + b"x" * 1_000)

    await paced(enemy, 300, one)


def packed(size: int, *, gzip: bool = True) -> bytes:
    """So many zeros, compressed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if gzip else 15)
    pieces = [packer.compress(bytes(min(MB, size - start))) for start in range(0, size, MB)]
    return b"".join(pieces) + packer.flush()


async def _thousand(enemy: Enemy, request: bytes) -> None:
    left = iter(range(1_000))

    async def one() -> None:
        for _ in left:
            await enemy.request(request)

    await many(8, one)


async def _again_and_again(enemy: Enemy, count: int, one: Callable[[], Awaitable[None]]) -> None:
    async def kept_up() -> None:
        while enemy.goes_on:
            await one()
            await asyncio.sleep(0.1)

    await many(count, kept_up)


ATTACKS: Final[dict[str, Attack]] = {
    attack.__name__: attack
    for attack in (
        plain_bodies,
        packed_bodies,
        bombs,
        bombs_at_once,
        forged_notices,
        unknown_keys,
        slow_bodies,
        slow_heads,
        idle_connections,
        silent_connections,
        unfinished_handshakes,
        unreadable_claims,
        replays,
        endless_heads,
        wide_events,
        smuggling,
        garbage,
    )
}
