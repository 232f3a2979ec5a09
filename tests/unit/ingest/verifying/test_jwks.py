"""Key sets, and the discipline of fetching them; cooldowns here are a few milliseconds."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from structlog.testing import capture_logs

from ingest.errors import Overloaded, UnknownKey
from ingest.verifying.jwks import KeySource, KeysUnavailable, read_key_set
from tests.support.builders import signing_key
from tests.support.keys import SigningKey

_JWK = signing_key().jwk()
_OTHER_JWK = signing_key("stranger").jwk()
_COOLDOWN_S = 0.03


def _key_set(*members: Any) -> bytes:
    return orjson.dumps({"keys": list(members)})


def test_usable_key_is_found_by_its_kid() -> None:
    keys = read_key_set(_key_set(_JWK, _OTHER_JWK))
    assert set(keys) == {signing_key().kid, signing_key("stranger").kid}
    assert keys[_JWK["kid"]].public_numbers() == (
        signing_key().private_key.public_key().public_numbers()
    )


@pytest.mark.parametrize("name", ["use", "alg"])
def test_key_that_does_not_say_what_it_is_for_is_usable(name: str) -> None:
    assert read_key_set(_key_set({k: v for k, v in _JWK.items() if k != name}))


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
        {**_JWK, "kty": "EC"},
        {**_JWK, "kty": "oct", "k": "c2VjcmV0"},
        {**_JWK, "use": "enc"},
        {**_JWK, "use": None},
        {**_JWK, "alg": "RS512"},
        {**_JWK, "alg": "PS256"},
        {**_JWK, "kid": 5},
        {k: v for k, v in _JWK.items() if k != "kid"},
        {k: v for k, v in _JWK.items() if k != "n"},
        {**_JWK, "n": 5},
        {**_JWK, "n": None},
        {**_JWK, "n": ""},
        {**_JWK, "n": "!!!"},
        {**_JWK, "n": "é"},
        {**_JWK, "e": "AA"},
        {**_JWK, "e": "Ag"},
        {**_JWK, "e": []},
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
    assert set(read_key_set(_key_set(member, _OTHER_JWK))) == {_OTHER_JWK["kid"]}
    with pytest.raises(KeysUnavailable):
        read_key_set(_key_set(member))


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


Download = Callable[[int], Awaitable[bytes]]


class _Source(KeySource):
    """Asks a function of ours in place of the network; it is told how often it was asked."""

    def __init__(self, download: Download, *, wait_s: float = 2.0, max_waiters: int = 256) -> None:
        super().__init__(
            issuer="https://issuer.example.edu",
            url="https://keys.example.edu",
            session=cast(aiohttp.ClientSession, None),
            cooldown_s=_COOLDOWN_S,
            wait_s=wait_s,
            max_waiters=max_waiters,
        )
        self._answer = download
        self.began_at: list[float] = []
        self.under_way = 0
        self.most_under_way = 0

    async def _download(self) -> bytes:
        self.began_at.append(asyncio.get_running_loop().time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._answer(len(self.began_at))
        finally:
            self.under_way -= 1


def _always(text: bytes) -> Download:
    async def answer(count: int) -> bytes:
        return text

    return answer


async def _failing(count: int) -> bytes:
    raise KeysUnavailable("status 500")


async def test_hundred_waiters_share_one_fetch() -> None:
    source = _Source(_always(_key_set(_JWK)))
    found = await asyncio.gather(*(source.find(_JWK["kid"]) for _ in range(100)))
    assert len(source.began_at) == 1
    assert len(set(map(id, found))) == 1
    assert source.known(_JWK["kid"]) is found[0]


async def test_nothing_is_known_before_the_first_fetch() -> None:
    source = _Source(_always(_key_set(_JWK)))
    assert source.known(_JWK["kid"]) is None
    assert source.fetched_at is None


async def test_key_is_unknown_only_after_a_successful_fetch() -> None:
    source = _Source(_always(_key_set(_JWK)))
    with pytest.raises(UnknownKey):
        await source.find("another")
    assert len(source.began_at) == 1


async def test_fetch_that_began_before_the_token_came_does_not_judge_it() -> None:
    release = asyncio.Event()

    async def rotating(count: int) -> bytes:
        if count == 1:
            await release.wait()
            return _key_set(_JWK)
        return _key_set(_JWK, _OTHER_JWK)

    source = _Source(rotating)
    early = asyncio.create_task(source.refresh())
    await _until(lambda: source.under_way == 1)
    late = asyncio.create_task(source.find(_OTHER_JWK["kid"]))
    await asyncio.sleep(0)
    release.set()
    await early
    assert await late is source.known(_OTHER_JWK["kid"])
    assert len(source.began_at) == 2


async def test_key_that_an_earlier_fetch_brings_is_used_though_the_next_one_fails() -> None:
    release = asyncio.Event()

    async def once(count: int) -> bytes:
        if count > 1:
            raise KeysUnavailable("status 500")
        await release.wait()
        return _key_set(_JWK)

    source = _Source(once)
    early = asyncio.create_task(source.refresh())
    await _until(lambda: source.under_way == 1)
    late = asyncio.create_task(source.find(_JWK["kid"]))
    await asyncio.sleep(0)
    release.set()
    await early
    assert await late is source.known(_JWK["kid"])


async def test_fetches_keep_the_cooldown_and_never_overlap() -> None:
    source = _Source(_always(_key_set(_JWK)))
    for _ in range(3):
        with pytest.raises(UnknownKey):
            await source.find("another")
    gaps = [b - a for a, b in zip(source.began_at, source.began_at[1:], strict=False)]
    assert len(gaps) == 2
    assert min(gaps) >= _COOLDOWN_S * 0.99
    assert source.most_under_way == 1


async def test_cooldown_counts_after_a_failure_too() -> None:
    source = _Source(_failing)
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            await source.refresh()
    assert source.began_at[1] - source.began_at[0] >= _COOLDOWN_S * 0.99


@pytest.mark.parametrize("text", [b"<html>", _key_set(), b'{"keys":["\xff"]}'])
async def test_token_cannot_be_judged_by_a_broken_key_set(text: bytes) -> None:
    source = _Source(_always(text))
    with pytest.raises(KeysUnavailable):
        await source.find("any")


async def test_failed_fetch_keeps_the_keys_that_were_known() -> None:
    async def once(count: int) -> bytes:
        if count > 1:
            raise KeysUnavailable("status 500")
        return _key_set(_JWK)

    source = _Source(once)
    await source.refresh()
    fetched_at = source.fetched_at
    with pytest.raises(KeysUnavailable):
        await source.find("another")
    assert source.known(_JWK["kid"]) is not None
    assert source.fetched_at == fetched_at


async def test_source_that_recovers_is_used_again() -> None:
    async def second_time(count: int) -> bytes:
        if count == 1:
            raise KeysUnavailable("status 500")
        return _key_set(_JWK)

    source = _Source(second_time)
    with pytest.raises(KeysUnavailable):
        await source.find(_JWK["kid"])
    failing = [source.failing]
    await source.refresh()
    assert [*failing, source.failing] == [True, False]
    assert await source.find(_JWK["kid"])


async def test_nobody_waits_for_a_source_that_is_known_to_fail_but_it_is_asked_again() -> None:
    release = asyncio.Event()

    async def then_slow(count: int) -> bytes:
        if count == 1:
            raise KeysUnavailable("status 500")
        await release.wait()
        return _key_set(_JWK)

    source = _Source(then_slow)
    with pytest.raises(KeysUnavailable):
        await source.refresh()
    for _ in range(100):
        async with asyncio.timeout(_COOLDOWN_S / 2):
            with pytest.raises(KeysUnavailable):
                await source.find(_JWK["kid"])
    await _until(lambda: source.under_way == 1)
    release.set()
    await _until(lambda: not source.failing)
    assert source.known(_JWK["kid"]) is not None
    assert len(source.began_at) == 2


async def test_token_that_waits_while_a_fetch_fails_is_not_judged() -> None:
    release = asyncio.Event()

    async def failing_late(count: int) -> bytes:
        await release.wait()
        raise KeysUnavailable("status 500")

    source = _Source(failing_late)
    early = asyncio.create_task(source.refresh())
    await _until(lambda: source.under_way == 1)
    waiting = asyncio.create_task(source.find("any"))
    await asyncio.sleep(0)
    release.set()
    outcomes = await asyncio.gather(early, waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [KeysUnavailable] * 2


async def test_withdrawn_key_is_dropped_with_the_next_fetch() -> None:
    async def rotating(count: int) -> bytes:
        return _key_set(_JWK if count == 1 else _OTHER_JWK)

    source = _Source(rotating)
    await source.refresh()
    await source.refresh()
    assert source.known(_JWK["kid"]) is None
    assert source.known(_OTHER_JWK["kid"]) is not None


async def test_slow_source_is_waited_for_so_long_and_no_longer() -> None:
    release = asyncio.Event()

    async def slow(count: int) -> bytes:
        await release.wait()
        return _key_set(_JWK)

    source = _Source(slow, wait_s=0.02)
    with pytest.raises(KeysUnavailable):
        await source.find(_JWK["kid"])
    release.set()
    await _until(lambda: source.known(_JWK["kid"]) is not None)


async def test_closed_source_gives_up_its_fetches_without_a_word() -> None:
    async def never(count: int) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    source = _Source(never)
    first = asyncio.create_task(source.refresh())
    await _until(lambda: source.under_way == 1)
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

    source = _Source(fail)
    with pytest.raises(ZeroDivisionError):
        await source.find(_JWK["kid"])
    assert source.failing
    with pytest.raises(KeysUnavailable):
        await source.find(_JWK["kid"])


async def test_too_many_waiters_are_turned_away_at_once_and_places_come_free() -> None:
    release = asyncio.Event()

    async def slow(count: int) -> bytes:
        await release.wait()
        return _key_set(_JWK)

    source = _Source(slow, max_waiters=2)
    waiting = [asyncio.create_task(source.find(_JWK["kid"])) for _ in range(2)]
    await _until(lambda: source.under_way == 1)
    with pytest.raises(Overloaded):
        await source.find(_JWK["kid"])
    release.set()
    await asyncio.gather(*waiting)
    with pytest.raises(UnknownKey):
        await source.find("another")


async def test_waiter_that_gives_up_takes_the_fetch_from_nobody() -> None:
    release = asyncio.Event()

    async def slow(count: int) -> bytes:
        await release.wait()
        return _key_set(_JWK)

    source = _Source(slow)
    leaving, staying = (asyncio.create_task(source.find(_JWK["kid"])) for _ in range(2))
    await _until(lambda: source.under_way == 1)
    leaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving
    release.set()
    assert await staying
    assert len(source.began_at) == 1


@pytest.mark.parametrize("first", [b"<html>", b'{"keys":["\xff"]}'])
async def test_background_refresh_outlives_a_broken_key_set(first: bytes) -> None:
    async def second_time(count: int) -> bytes:
        return first if count == 1 else _key_set(_JWK)

    source = _Source(second_time)
    keeping = asyncio.create_task(source.keep_fresh(_COOLDOWN_S))
    try:
        await _until(lambda: source.known(_JWK["kid"]) is not None or keeping.done())
        assert not keeping.done()
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        _ = keeping.cancelled() or keeping.exception()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - a key source tells nobody
            await asyncio.sleep(0.001)
