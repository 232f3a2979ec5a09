"""Kafka: one producer at a time, replaced after any batch of unknown fate.

Only `generation`, `partitioner`, `topic_admin` and `topic_reader` know aiokafka.
"""

import asyncio
from typing import Any

import structlog

from ingest.contract.record import Record
from ingest.errors import NotDurable, Overloaded
from ingest.publishing.kafka.producer import Generation

log = structlog.get_logger(__name__)

_MAX_WAITING = 10_000
_RETRY_START_S = (0.2, 0.5, 1.0, 2.0)
_MAX_RETIRING = 4


class KafkaLog:
    """Publishes; the producer is started in the background, and started anew when it failed.

    `client_options` are aiokafka's own.
    """

    def __init__(self, *, client_options: dict[str, Any], publish_timeout_s: float) -> None:
        self._options = client_options
        self._publish_timeout_s = publish_timeout_s
        self._current: Generation | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._failure: str | None = "not connected to Kafka yet"
        self._starting = asyncio.create_task(self._start(), name="kafka producer")

    async def append(self, record: Record) -> None:
        """Returns once all in-sync replicas have the record."""
        generation = self._current
        if generation is None:
            raise NotDurable(self._failure)
        if self._waiting >= _MAX_WAITING:
            raise Overloaded("too many records wait for Kafka")
        self._waiting += 1
        try:
            await generation.append(record)
        except NotDurable as error:
            self._replace(generation, str(error))
            raise
        finally:
            self._waiting -= 1

    async def health(self) -> tuple[bool, str]:
        """Whether there is a producer that has not failed."""
        return self._failure is None, self._failure or "Kafka acknowledges records"

    async def close(self) -> None:
        """Stops the producer; records that were taken get their answer first."""
        self._starting.cancel()
        generation, self._current = self._current, None
        if generation is not None:
            await generation.finish(2 * self._publish_timeout_s)
            await generation.close()
        if self._retiring:
            await asyncio.wait(self._retiring)

    def _replace(self, failed: Generation, cause: str) -> None:
        """Lets go of a producer whose batch may have arrived or not, and starts another."""
        if failed is not self._current:
            return
        log.error("kafka does not acknowledge", cause=cause)
        self._current, self._failure = None, cause
        retiring = asyncio.create_task(failed.close(), name="kafka producer, old")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
        self._starting = asyncio.create_task(self._start(), name="kafka producer")

    async def _start(self) -> None:
        attempt = 0
        while True:
            if len(self._retiring) >= _MAX_RETIRING:  # each of them may hold what it could not send
                await asyncio.wait(self._retiring, return_when=asyncio.FIRST_COMPLETED)
            try:
                generation = await Generation.start(
                    self._options, publish_timeout_s=self._publish_timeout_s
                )
            except Exception as error:  # connection, authentication, TLS: each may heal
                if attempt == 0:
                    log.error("kafka does not answer", cause=repr(error))
                self._failure = f"not connected to Kafka: {type(error).__name__}"
                await asyncio.sleep(_RETRY_START_S[min(attempt, len(_RETRY_START_S) - 1)])
                attempt += 1
            else:
                log.info("connected to kafka")
                self._current, self._failure = generation, None
                return
