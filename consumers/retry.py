"""Trying again while something outside is not there for the moment."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

Result = TypeVar("Result")

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Which errors are waited out, at what pace, and when that is worth a warning.

    A warning comes every `warn_after_s`.
    """

    over: tuple[type[Exception], ...]
    waiting_for: str
    pause_s: float
    warn_after_s: float


async def retried(
    call: Callable[[], Awaitable[Result]],
    retry: Retry,
    *,
    on_retry: Callable[[], None] = lambda: None,
) -> Result:
    """The call's result, once it gives one; other errors are passed on. Waits without end."""
    clock = asyncio.get_running_loop().time
    began = warned_at = clock()
    while True:
        try:
            return await call()
        except retry.over as error:
            on_retry()
            if clock() - warned_at >= retry.warn_after_s:
                warned_at = clock()
                log.warning(
                    "still waiting",
                    waiting_for=retry.waiting_for,
                    waited_s=round(warned_at - began, 1),
                    error=str(error) or type(error).__name__,
                )
        await asyncio.sleep(retry.pause_s)
