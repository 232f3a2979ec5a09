"""Key sets, and the discipline of fetching them; cooldowns here are a few milliseconds."""

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from structlog.testing import capture_logs

from ingest.errors import TooManyWaitForKeys, UnknownKey
from ingest.verifying.jwks import KeySource, KeysUnavailable, read_key_set
from tests.support.builders import signing_key
from tests.support.keys import SigningKey
from tests.unit.ingest.verifying.scripted import (
    COOLDOWN_S,
    ISSUER,
    JWK,
    OTHER_JWK,
    KeySourceOf,
    always,
    failing_always,
    key_set,
    until,
)


def test_usable_key_is_found_by_its_kid() -> None:
    keys = read_key_set(key_set(JWK, OTHER_JWK))
    assert set(keys) == {signing_key().kid, signing_key("stranger").kid}
    assert keys[JWK["kid"]].public_numbers() == (
        signing_key().private_key.public_key().public_numbers()
    )


@pytest.mark.parametrize("name", ["use", "alg"])
def test_key_that_does_not_say_what_it_is_for_is_usable(name: str) -> None:
    assert read_key_set(key_set({k: v for k, v in JWK.items() if k != name}))


def _short_key() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    return SigningKey(kid="short", private_key=key).jwk()


def _private_key() -> dict[str, Any]:
    import jwt

    made = jwt.algorithms.RSAAlgorithm.to_jwk(signing_key().private_key, as_dict=True)
    return {**made, "kid": "private"}


@pytest.mark.parametrize(
    "member",
    [
        {**JWK, "kty": "EC"},
        {**JWK, "kty": "oct", "k": "c2VjcmV0"},
        {**JWK, "use": "enc"},
        {**JWK, "use": None},
        {**JWK, "alg": "RS512"},
        {**JWK, "alg": "PS256"},
        {**JWK, "kid": 5},
        {k: v for k, v in JWK.items() if k != "kid"},
        {k: v for k, v in JWK.items() if k != "n"},
        {**JWK, "n": 5},
        {**JWK, "n": None},
        {**JWK, "n": ""},
        {**JWK, "n": "!!!"},
        {**JWK, "n": "é"},
        {**JWK, "e": "AA"},
        {**JWK, "e": "Ag"},
        {**JWK, "e": []},
        _short_key(),
        _private_key(),
        {},
        None,
        "text",
        7,
        [],
    ],
    ids=lambda member: repr(member)[:30],
)
def test_unusable_key_is_left_out_and_spoils_no_other(member: Any) -> None:
    assert set(read_key_set(key_set(member, OTHER_JWK))) == {OTHER_JWK["kid"]}
    with pytest.raises(KeysUnavailable):
        read_key_set(key_set(member))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'"keys"',
        b"7",
        b'{"keys":null}',
        b'{"keys":7}',
        b'{"keys":[]}',
        b'{"keys":{}}',
        b'{"keys":"text"}',
        b'{"keys":["\xff"]}',
        b"[" * 10_000,
    ],
)
def test_what_is_no_key_set_gives_no_keys(text: bytes) -> None:
    with pytest.raises(KeysUnavailable):
        read_key_set(text)


async def test_hundred_waiters_share_one_fetch() -> None:
    source = KeySourceOf(always(key_set(JWK)))
    found = await asyncio.gather(*(source.find(JWK["kid"]) for _ in range(100)))
    assert len(source.began_at) == 1
    assert len(set(map(id, found))) == 1
    assert source.known(JWK["kid"]) is found[0]


async def test_nothing_is_known_before_the_first_fetch() -> None:
    source = KeySourceOf(always(key_set(JWK)))
    assert source.known(JWK["kid"]) is None
    assert source.fetched_at is None


async def test_key_is_unknown_only_after_a_successful_fetch() -> None:
    source = KeySourceOf(always(key_set(JWK)))
    with pytest.raises(UnknownKey):
        await source.find("another")
    assert len(source.began_at) == 1


async def test_fetch_that_began_before_the_token_came_does_not_judge_it() -> None:
    release = asyncio.Event()

    async def rotating(count: int) -> bytes:
        if count == 1:
            await release.wait()
            return key_set(JWK)
        return key_set(JWK, OTHER_JWK)

    source = KeySourceOf(rotating)
    early = asyncio.create_task(source.refresh())
    await until(lambda: source.under_way == 1)
    late = asyncio.create_task(source.find(OTHER_JWK["kid"]))
    await asyncio.sleep(0)
    release.set()
    await early
    assert await late is source.known(OTHER_JWK["kid"])
    assert len(source.began_at) == 2


async def test_key_that_an_earlier_fetch_brings_is_used_though_the_next_one_fails() -> None:
    release = asyncio.Event()

    async def once(count: int) -> bytes:
        if count > 1:
            raise KeysUnavailable("status 500")
        await release.wait()
        return key_set(JWK)

    source = KeySourceOf(once)
    early = asyncio.create_task(source.refresh())
    await until(lambda: source.under_way == 1)
    late = asyncio.create_task(source.find(JWK["kid"]))
    await asyncio.sleep(0)
    release.set()
    await early
    assert await late is source.known(JWK["kid"])


async def test_fetches_keep_the_cooldown_and_never_overlap() -> None:
    source = KeySourceOf(always(key_set(JWK)))
    for _ in range(3):
        with pytest.raises(UnknownKey):
            await source.find("another")
    gaps = [b - a for a, b in zip(source.began_at, source.began_at[1:], strict=False)]
    assert len(gaps) == 2
    assert min(gaps) >= COOLDOWN_S * 0.99
    assert source.most_under_way == 1


async def test_cooldown_counts_after_a_failure_too() -> None:
    source = KeySourceOf(failing_always)
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            await source.refresh()
    assert source.began_at[1] - source.began_at[0] >= COOLDOWN_S * 0.99


@pytest.mark.parametrize("text", [b"<html>", key_set(), b'{"keys":["\xff"]}'])
async def test_token_cannot_be_judged_by_a_broken_key_set(text: bytes) -> None:
    source = KeySourceOf(always(text))
    with pytest.raises(KeysUnavailable):
        await source.find("any")


async def test_failed_fetch_keeps_the_keys_that_were_known() -> None:
    async def once(count: int) -> bytes:
        if count > 1:
            raise KeysUnavailable("status 500")
        return key_set(JWK)

    source = KeySourceOf(once)
    await source.refresh()
    fetched_at = source.fetched_at
    with pytest.raises(KeysUnavailable):
        await source.find("another")
    assert source.known(JWK["kid"]) is not None
    assert source.fetched_at == fetched_at


async def test_source_that_recovers_is_used_again() -> None:
    async def second_time(count: int) -> bytes:
        if count == 1:
            raise KeysUnavailable("status 500")
        return key_set(JWK)

    source = KeySourceOf(second_time)
    with pytest.raises(KeysUnavailable):
        await source.find(JWK["kid"])
    failing = [source.failing]
    await source.refresh()
    assert [*failing, source.failing] == [True, False]
    assert await source.find(JWK["kid"])


async def test_nobody_waits_for_a_source_that_is_known_to_fail_but_it_is_asked_again() -> None:
    release = asyncio.Event()

    async def then_slow(count: int) -> bytes:
        if count == 1:
            raise KeysUnavailable("status 500")
        await release.wait()
        return key_set(JWK)

    source = KeySourceOf(then_slow)
    with pytest.raises(KeysUnavailable):
        await source.refresh()
    for _ in range(100):
        async with asyncio.timeout(COOLDOWN_S / 2):
            with pytest.raises(KeysUnavailable):
                await source.find(JWK["kid"])
    await until(lambda: source.under_way == 1)
    release.set()
    await until(lambda: not source.failing)
    assert source.known(JWK["kid"]) is not None
    assert len(source.began_at) == 2


async def test_token_that_waits_while_a_fetch_fails_is_not_judged() -> None:
    release = asyncio.Event()

    async def failing_late(count: int) -> bytes:
        await release.wait()
        raise KeysUnavailable("status 500")

    source = KeySourceOf(failing_late)
    early = asyncio.create_task(source.refresh())
    await until(lambda: source.under_way == 1)
    waiting = asyncio.create_task(source.find("any"))
    await asyncio.sleep(0)
    release.set()
    outcomes = await asyncio.gather(early, waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [KeysUnavailable] * 2


async def test_withdrawn_key_is_dropped_with_the_next_fetch() -> None:
    async def rotating(count: int) -> bytes:
        return key_set(JWK if count == 1 else OTHER_JWK)

    source = KeySourceOf(rotating)
    await source.refresh()
    await source.refresh()
    assert source.known(JWK["kid"]) is None
    assert source.known(OTHER_JWK["kid"]) is not None


async def test_slow_source_is_waited_for_so_long_and_no_longer() -> None:
    release = asyncio.Event()

    async def slow(count: int) -> bytes:
        await release.wait()
        return key_set(JWK)

    source = KeySourceOf(slow, wait_s=0.02)
    with pytest.raises(KeysUnavailable):
        await source.find(JWK["kid"])
    release.set()
    await until(lambda: source.known(JWK["kid"]) is not None)


class _Body:
    """What a request brought."""


async def test_what_waited_in_vain_is_gone_without_the_garbage_collector() -> None:
    async def never(count: int) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    source = KeySourceOf(never, wait_s=0.001)

    async def seek(body: _Body) -> None:
        assert isinstance(body, _Body)
        await source.find(JWK["kid"])

    bodies = [_Body() for _ in range(10)]
    left = [weakref.ref(body) for body in bodies]
    gc.disable()
    try:
        seeking = [asyncio.create_task(seek(bodies.pop())) for _ in left]
        await asyncio.wait(seeking)
        assert [type(task.exception()) for task in seeking] == [KeysUnavailable] * 10
        del seeking
        assert [body() for body in left] == [None] * 10
    finally:
        gc.enable()
        source.close()


async def test_closed_source_gives_up_its_fetches_without_a_word() -> None:
    async def never(count: int) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    source = KeySourceOf(never)
    first = asyncio.create_task(source.refresh())
    await until(lambda: source.under_way == 1)
    second = asyncio.create_task(source.refresh())  # it waits for its turn
    await asyncio.sleep(0)
    with capture_logs() as lines:
        source.close()
        await asyncio.wait([first, second])
    assert (first.cancelled(), second.cancelled(), source.under_way) == (True, True, 0)
    assert (len(source.began_at), lines) == (1, [])


async def test_failure_that_nobody_foresaw_is_the_sources() -> None:
    async def fail(count: int) -> bytes:
        raise ZeroDivisionError

    source = KeySourceOf(fail)
    with pytest.raises(ZeroDivisionError):
        await source.find(JWK["kid"])
    assert source.failing
    with pytest.raises(KeysUnavailable):
        await source.find(JWK["kid"])


async def test_too_many_waiters_are_turned_away_at_once_and_places_come_free() -> None:
    release = asyncio.Event()

    async def slow(count: int) -> bytes:
        await release.wait()
        return key_set(JWK)

    source = KeySourceOf(slow, max_waiters=2)
    waiting = [asyncio.create_task(source.find(JWK["kid"])) for _ in range(2)]
    await until(lambda: source.under_way == 1)
    with pytest.raises(TooManyWaitForKeys):
        await source.find(JWK["kid"])
    release.set()
    await asyncio.gather(*waiting)
    with pytest.raises(UnknownKey):
        await source.find("another")


async def test_waiter_that_gives_up_takes_the_fetch_from_nobody() -> None:
    release = asyncio.Event()

    async def slow(count: int) -> bytes:
        await release.wait()
        return key_set(JWK)

    source = KeySourceOf(slow)
    leaving, staying = (asyncio.create_task(source.find(JWK["kid"])) for _ in range(2))
    await until(lambda: source.under_way == 1)
    leaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving
    release.set()
    assert await staying
    assert len(source.began_at) == 1


@pytest.mark.parametrize("first", [b"<html>", b'{"keys":["\xff"]}'])
async def test_background_refresh_outlives_a_broken_key_set(first: bytes) -> None:
    async def second_time(count: int) -> bytes:
        return first if count == 1 else key_set(JWK)

    source = KeySourceOf(second_time)
    keeping = asyncio.create_task(source.keep_fresh(COOLDOWN_S))
    try:
        await until(lambda: source.known(JWK["kid"]) is not None or keeping.done())
        assert not keeping.done()
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        _ = keeping.cancelled() or keeping.exception()


async def test_flood_of_random_key_ids_makes_one_fetch_per_cooldown() -> None:
    """Against a real server, and with the genuine new key among them."""
    fetched: list[float] = []

    async def serve(request: web.BaseRequest) -> web.Response:
        fetched.append(asyncio.get_running_loop().time())
        return web.json_response({"keys": [JWK, OTHER_JWK]})

    async with _listening(serve) as url, aiohttp.ClientSession() as session:
        source = KeySource(
            issuer=ISSUER, url=url, session=session, cooldown_s=0.2, fetch_timeout_s=5, wait_s=9
        )
        began = asyncio.get_running_loop().time()
        outcomes: Counter[type] = Counter()
        for start in range(0, 10_000, 1_000):
            seeking = [source.find(f"{n:016x}") for n in range(start, start + 1_000)]
            genuine = source.find(OTHER_JWK["kid"]) if start == 0 else None
            found = await asyncio.gather(
                *([genuine] if genuine is not None else []), *seeking, return_exceptions=True
            )
            outcomes.update(map(type, found))
        took_s = asyncio.get_running_loop().time() - began
    assert outcomes[UnknownKey] + outcomes[TooManyWaitForKeys] == 10_000
    assert outcomes[UnknownKey] >= 2_000
    assert sum(outcomes.values()) == 10_001
    assert source.known(OTHER_JWK["kid"]) is not None
    assert len(fetched) <= took_s / 0.2 + 1


async def test_next_key_is_known_before_it_is_used() -> None:
    shown = [JWK]

    async def serve(request: web.BaseRequest) -> web.Response:
        return web.json_response({"keys": shown})

    async with _listening(serve) as url, aiohttp.ClientSession() as session:
        source = KeySource(issuer=ISSUER, url=url, session=session, cooldown_s=0.01)
        keeping = asyncio.create_task(source.keep_fresh(0.01))
        await until(lambda: source.known(JWK["kid"]) is not None)
        shown.append(OTHER_JWK)
        await until(lambda: source.known(OTHER_JWK["kid"]) is not None)
        keeping.cancel()
        source.close()
        await asyncio.wait([keeping])


@contextlib.asynccontextmanager
async def _listening(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/jwks"
    finally:
        await runner.cleanup()
