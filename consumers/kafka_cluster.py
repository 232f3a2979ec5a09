"""What source and dead letters share of Kafka: an admin client, and retry with a cluster."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from consumers.retry import Retry

KAFKA_RETRY = Retry(
    over=(KafkaError, OSError, TimeoutError),
    waiting_for="Kafka to answer",
    pause_s=1.0,
    warn_after_s=5.0,
)

STOP_TIMEOUT_S = 10.0

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Client(Protocol):
    """What all aiokafka clients have in common."""

    async def stop(self) -> None:
        """Disconnects; may hang while the cluster does not answer."""
        ...


async def stop(client: Client) -> None:
    """Disconnects, or gives up: all that matters was acknowledged before."""
    # in a task, for aiokafka 0.14 lets a cancellation of its own out while no broker answers
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait({stopping}, timeout=STOP_TIMEOUT_S)
    if not stopping.done():
        stopping.cancel()
        log.warning("Kafka did not see us off in time", client=type(client).__name__)
    elif stopping.cancelled() or stopping.exception():
        log.warning("Kafka did not see us off", client=type(client).__name__)


@asynccontextmanager
async def admin_client(client_options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises KafkaError if nobody answers."""
    admin = AIOKafkaAdminClient(**client_options)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
