"""A key source that asks a function in place of the network, and keys for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp
import orjson

from ingest.verifying.jwks import KeySource, KeysUnavailable
from ingest.verifying.kept_keys import KeptKeys
from tests.support.builders import signing_key

ISSUER, URL = "https://issuer.example.edu", "https://keys.example.edu"
COOLDOWN_S = 0.03
JWK = signing_key().jwk()
OTHER_JWK = signing_key("stranger").jwk()


def key_set(*members: Any) -> bytes:
    return orjson.dumps({"keys": list(members)})


Download = Callable[[int], Awaitable[bytes]]


class KeySourceOf(KeySource):
    """Asks a function of ours in place of the network; it is told how often it was asked."""

    def __init__(
        self,
        download: Download,
        *,
        cooldown_s: float = COOLDOWN_S,
        wait_s: float = 2.0,
        max_waiters: int = 256,
        max_age_s: float = 10_000,
        kept: KeptKeys | None = None,
    ) -> None:
        super().__init__(
            issuer=ISSUER,
            url=URL,
            session=cast(aiohttp.ClientSession, None),
            cooldown_s=cooldown_s,
            wait_s=wait_s,
            max_waiters=max_waiters,
            max_age_s=max_age_s,
            kept=kept,
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


def always(text: bytes) -> Download:
    async def answer(count: int) -> bytes:
        return text

    return answer


async def failing_always(count: int) -> bytes:
    raise KeysUnavailable("status 500")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - a key source tells nobody
            await asyncio.sleep(0.001)
