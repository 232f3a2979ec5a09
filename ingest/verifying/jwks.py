"""An issuer's public keys: fetched, cached, and fetched again when a token names an unknown one.

Source: RFC 7517; Canvas publishes its previous, current and next key side by side.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ingest.contract import strict_json
from ingest.errors import TooManyWaitForKeys, UnknownKey
from ingest.verifying.kept_keys import KeptKeys

log = structlog.get_logger(__name__)

MAX_RESPONSE_BYTES = 256 * 1024
MIN_KEY_BITS = 2048

_STALE_AFTER_REFRESHES = 3
_WARN_EVERY_S = 3600.0


class KeysUnavailable(Exception):
    """The key source gave no usable keys; the text says why, for the log."""


def client_session() -> aiohttp.ClientSession:
    """What key sources fetch through; its `async with` block closes it."""
    return aiohttp.ClientSession()


class KeySource:
    """The keys of one issuer. One fetch at a time, at most one begun per cooldown.

    `wait_s` covers a cooldown and a fetch, so that whoever waits sees how the fetch ends. Keys that
    no fetch has confirmed for `max_age_s` serve nobody. `kept` is where they outlive the process.
    """

    def __init__(
        self,
        *,
        issuer: str,
        url: str,
        session: aiohttp.ClientSession,
        fetch_timeout_s: float = 2.5,
        cooldown_s: float = 3.0,
        wait_s: float = 6.0,
        max_waiters: int = 256,
        max_age_s: float = 7 * 24 * 3600,
        kept: KeptKeys | None = None,
    ) -> None:
        self.issuer = issuer
        self.fetched_at: float | None = None
        """When the last successful fetch began, an earlier process's included, in Unix seconds."""
        self.failing = False
        """Whether the last fetch brought no keys."""
        self.answers = False
        """Whether it did bring them: what this key set lacks does not exist."""
        self._url = url
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=fetch_timeout_s)
        self._cooldown_s = cooldown_s
        self._wait_s = wait_s
        self._max_waiters = max_waiters
        self._max_age_s = max_age_s
        self._kept = kept
        self._warned_at: float | None = None
        self._waiters = 0
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._last_begin: float | None = None
        self._due: asyncio.Task[None] | None = None  # a fetch that has not begun
        self._under_way: asyncio.Task[None] | None = None  # one that has
        self._turn = asyncio.Lock()

    @property
    def age_s(self) -> float | None:
        """Seconds since the last successful fetch began; None where there was none."""
        return None if self.fetched_at is None else time.time() - self.fetched_at

    def recall(self) -> None:
        """Takes up the keys that an earlier process had fetched; once, before anything is asked."""
        if self._kept is None or (found := self._kept.read()) is None:
            return
        text, fetched_at = found
        try:
            self._keys = read_key_set(text)
        except KeysUnavailable as error:
            self._kept.warn(str(error))
            return
        # a time to come, written by a clock that was wrong, would make them young for ever
        self.fetched_at = min(fetched_at, time.time())
        self._drop_if_too_old()

    def known(self, kid: str) -> RSAPublicKey | None:
        """The key if we have it now."""
        return self._keys.get(kid)

    async def find(self, kid: str) -> RSAPublicKey:
        """The key, waiting at most `wait_s` for a fetch that begins after this call.

        Raises UnknownKey only after such a fetch succeeded, TooManyWaitForKeys, or KeysUnavailable
        when the key source does not answer: the token could not be judged. While it is known to
        fail nobody waits for it, a further fetch is only set going.
        """
        if self.failing:
            self._begin_fetch()
            raise KeysUnavailable("the key source does not answer")
        if self._waiters >= self._max_waiters:
            raise TooManyWaitForKeys("too many tokens wait for keys")
        self._waiters += 1
        try:
            until_s = asyncio.get_running_loop().time() + self._wait_s
            return await self._awaited(kid, until_s)
        finally:
            self._waiters -= 1

    async def _awaited(self, kid: str, until_s: float) -> RSAPublicKey:
        if self._under_way is not None:
            # it may bring the key, but as it began earlier it cannot prove that there is none
            await _ended(self._under_way, until_s)
            if self.failing and kid not in self._keys:
                raise KeysUnavailable("the key source does not answer")
        if (key := self._keys.get(kid)) is None:
            fetch = self._begin_fetch()
            await _ended(fetch, until_s)
            fetch.result()
            key = self._keys.get(kid)
        if key is None:
            raise UnknownKey("not in the key set")
        return key

    async def refresh(self) -> None:
        """Joins the next fetch that has not begun. Raises KeysUnavailable."""
        await asyncio.shield(self._begin_fetch())

    async def keep_fresh(self, every_s: float) -> None:
        """Fetches until cancelled, so that withdrawn keys are dropped; sooner after a failure."""
        while True:
            try:
                await self.refresh()
                await asyncio.sleep(every_s)
            except KeysUnavailable as error:
                log.debug("key fetch failed again", issuer=self.issuer, cause=str(error))
                self._warn_if_older_than(_STALE_AFTER_REFRESHES * every_s)
                await asyncio.sleep(min(every_s, self._cooldown_s))

    def close(self) -> None:
        """Gives up what is being fetched."""
        for task in (self._due, self._under_way):
            if task is not None:
                task.cancel()

    def _begin_fetch(self) -> asyncio.Task[None]:
        """The next fetch that has not begun."""
        if self._due is None:
            self._due = asyncio.create_task(self._fetch_in_turn(), name=f"jwks {self.issuer}")
            # a failure is told to whoever waits; nobody may be waiting any more
            self._due.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._due

    async def _fetch_in_turn(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._turn:
            if self._last_begin is not None:
                await asyncio.sleep(self._last_begin + self._cooldown_s - loop.time())
            self._last_begin, begin = loop.time(), time.time()
            # from here on a newcomer needs the fetch after this one
            self._under_way, self._due = self._due, None
            try:
                text = await self._download()
                keys = read_key_set(text)
            except Exception as error:  # one that nobody foresaw proves as little about a key
                if not self.failing:
                    known = isinstance(error, KeysUnavailable)
                    cause = str(error) if known else type(error).__name__
                    log.error(
                        "key fetch failed, the keys at hand stay in use",
                        issuer=self.issuer,
                        cause=cause,
                    )
                self.failing, self.answers = True, False
                self._drop_if_too_old()
                raise
            finally:
                self._under_way = None
        if self.failing:
            log.info("keys can be fetched again", issuer=self.issuer)
            self.failing = False
        if keys.keys() != self._keys.keys():
            log.info("keys changed", issuer=self.issuer, kids=sorted(keys))
        self._keys = keys
        self.fetched_at, self.answers = begin, True
        if self._kept is not None:
            self._kept.write(text, begin)

    def _drop_if_too_old(self) -> None:
        age_s = self.age_s
        if self._keys and age_s is not None and age_s > self._max_age_s:
            log.error(
                "keys are too old to be used, new events wait for a fetch:"
                " check the way to the key source",
                issuer=self.issuer,
                age_s=round(age_s),
            )
            self._keys = {}

    def _warn_if_older_than(self, stale_s: float) -> None:
        now_s, age_s = time.time(), self.age_s
        if age_s is None or age_s <= stale_s:
            return
        if self._warned_at is None or abs(now_s - self._warned_at) >= _WARN_EVERY_S:
            self._warned_at = now_s
            log.warning(
                "keys are old, the key source has not answered for long: check the way to it",
                issuer=self.issuer,
                age_s=round(age_s),
            )

    async def _download(self) -> bytes:
        try:
            async with self._session.get(
                self._url, timeout=self._timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise KeysUnavailable(f"status {response.status}")
                body = await response.content.read(MAX_RESPONSE_BYTES + 1)
                while len(body) <= MAX_RESPONSE_BYTES and not response.content.at_eof():
                    body += await response.content.read(MAX_RESPONSE_BYTES + 1 - len(body))
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise KeysUnavailable(type(error).__name__) from error
        if len(body) > MAX_RESPONSE_BYTES:
            raise KeysUnavailable("response too large")
        return body


async def _ended(fetch: asyncio.Task[None], until_s: float) -> None:
    """Returns once the fetch has ended, however. Raises KeysUnavailable if it takes longer.

    A timeout that cancels would leave a cycle of exceptions for each token, and those hold it.
    """
    await asyncio.wait([fetch], timeout=until_s - asyncio.get_running_loop().time())
    if not fetch.done():
        raise KeysUnavailable("the key source is slow")


def read_key_set(text: bytes) -> dict[str, RSAPublicKey]:
    """The usable RS256 keys of a key set, by kid. Raises KeysUnavailable if there is none."""
    try:
        members = strict_json.loads(text)["keys"]
        entries = [entry for entry in members if isinstance(entry, dict)]
    except (strict_json.NotJSON, KeyError, TypeError) as error:
        raise KeysUnavailable("not a key set") from error
    keys = {entry["kid"]: key for entry in entries if (key := _usable(entry)) is not None}
    if not keys:
        raise KeysUnavailable("a key set without a usable key")
    return keys


def _usable(entry: Mapping[str, Any]) -> RSAPublicKey | None:
    if (
        not isinstance(entry.get("kid"), str)
        or entry.get("kty") != "RSA"
        or entry.get("use", "sig") != "sig"
        or entry.get("alg", "RS256") != "RS256"
    ):
        return None
    try:
        key = jwt.PyJWK(dict(entry), algorithm="RS256").key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    usable = isinstance(key, RSAPublicKey) and key.key_size >= MIN_KEY_BITS
    return key if usable else None
