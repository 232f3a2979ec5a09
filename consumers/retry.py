"""Retry with backoff while something outside cannot be had for the moment."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from consumers.errors import SinkBusy
from ingest.shared.kafka.clients import KafkaUnreachable

Result = TypeVar("Result")

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Which errors are retried, after which pauses, and when that is worth a warning.

    The pause doubles up to `longest_pause_s`; a warning comes every `warn_after_s`.
    """

    over: tuple[type[Exception], ...]
    waiting_for: str
    pause_s: float
    longest_pause_s: float
    warn_after_s: float


SINK_RETRY = Retry(
    over=(SinkBusy,),
    waiting_for="the store to be free",
    pause_s=0.05,
    longest_pause_s=0.05,
    warn_after_s=10.0,
)
KAFKA_RETRY = Retry(
    over=(KafkaUnreachable,),
    waiting_for="Kafka to answer",
    pause_s=0.5,
    longest_pause_s=10.0,
    warn_after_s=5.0,
)


async def retried(
    call: Callable[[], Awaitable[Result]],
    retry: Retry,
    *,
    on_retry: Callable[[], None] = lambda: None,
) -> Result:
    """The call's result, once it gives one; other errors are passed on. Waits without end."""
    clock = asyncio.get_running_loop().time
    began = warned_at = clock()
    pause_s = retry.pause_s
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
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, retry.longest_pause_s)
