"""Waiting for what happens elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

POLL_S = 0.1


async def until(check: Callable[[], bool | Awaitable[bool]], *, timeout_s: float = 30.0) -> None:
    """Asks again and again until the answer is yes. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            answer = check()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(POLL_S)
