"""Kafka: a lane per partition with one batch under way, acknowledged by all replicas in sync.

Only this file and `topic_admin` know aiokafka.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from ingest.contract.record import Record
from ingest.contract.topics import MAX_MESSAGE_BYTES
from ingest.delivering.gathering import Gathering
from ingest.delivering.partitioner import partition_of
from ingest.errors import NotDurable, Overloaded

log = structlog.get_logger(__name__)

_MAX_BATCH_BYTES = 256 * 1024
_MAX_WAITING = 10_000
_RETRY_START_S = 2.0
_CLOSE_TIMEOUT_S = 5.0
_PROBE_TIMEOUT_S = 1.0
_METADATA_MAX_AGE_MS = 30_000


class KafkaLog:
    """Publishes through one producer, which is started in the background and kept.

    `client_options` are aiokafka's own. A record is durable, or failed, within two times
    `publish_timeout_s`: its own batch and the one before it.
    """

    def __init__(self, *, client_options: dict[str, Any], publish_timeout_s: float) -> None:
        self._options = client_options
        self._publish_timeout_s = publish_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._lanes: dict[tuple[str, int], Gathering] = {}
        self._waiting = 0
        self._failure: str | None = "not connected to Kafka yet"
        self._starting = asyncio.create_task(self._start(), name="kafka producer")

    async def append(self, record: Record) -> None:
        """Returns once all in-sync replicas have the record."""
        producer = self._producer
        if producer is None:
            raise NotDurable(self._failure)
        if self._waiting >= _MAX_WAITING:
            raise Overloaded("too many records wait for Kafka")
        self._waiting += 1
        try:
            partition = partition_of(record.key, await self._partitions(producer, record.topic))
            lane = self._lanes.get((record.topic, partition))
            if lane is None:
                send = partial(self._send, producer, record.topic, partition)
                lane = self._lanes[record.topic, partition] = Gathering(send)
            await lane.append(record)
        finally:
            self._waiting -= 1

    async def health(self) -> tuple[bool, str]:
        """The outcome of the latest batch; after a failure, whether Kafka answers again."""
        if self._failure is not None and self._producer is not None and await self._answers():
            self._failure = None
        return self._failure is None, self._failure or "Kafka acknowledges records"

    async def close(self) -> None:
        """Stops the producer; records that were taken get their answer first."""
        self._starting.cancel()
        until_s = 2 * self._publish_timeout_s
        await asyncio.gather(*(lane.finish(until_s) for lane in self._lanes.values()))
        producer, self._producer = self._producer, None
        if producer is not None:
            # aiokafka can hang here after failed batches
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await producer.stop()

    async def _send(
        self, producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record]
    ) -> int:
        """Sends one batch and waits for its acknowledgement. Raises NotDurable."""
        batch = _batch(producer, records)
        try:
            async with asyncio.timeout(self._publish_timeout_s):
                await (await producer.send_batch(batch, topic, partition=partition))
        except Exception as error:  # whatever aiokafka raises here, the outcome is unknown
            if self._failure is None:
                log.error("kafka does not acknowledge", topic=topic, cause=repr(error))
            self._failure = f"{topic}: {type(error).__name__}"
            raise NotDurable(self._failure) from error
        if self._failure is not None:
            log.info("kafka acknowledges")
            self._failure = None
        return int(batch.record_count())

    async def _answers(self) -> bool:
        assert self._producer is not None
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await self._producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError):
            return False
        return True

    async def _partitions(self, producer: AIOKafkaProducer, topic: str) -> int:
        known = producer.client.cluster.partitions_for_topic(topic)
        if not known:
            try:
                async with asyncio.timeout(self._publish_timeout_s):
                    known = await producer.partitions_for(topic)
            except (KafkaError, TimeoutError) as error:
                # no such topic, or no answer at all: `health` finds out which
                self._failure = f"{topic}: {type(error).__name__}"
                raise NotDurable(self._failure) from error
        return len(known)

    async def _start(self) -> None:
        while True:
            producer = self._new_producer()
            try:
                await producer.start()
            except Exception as error:  # connection, authentication, TLS: each may heal
                await producer.stop()
                self._failure = f"not connected to Kafka: {type(error).__name__}"
                log.error("kafka does not answer", cause=repr(error))
                await asyncio.sleep(_RETRY_START_S)
            else:
                self._producer, self._failure = producer, None
                return

    def _new_producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._options,
            acks="all",
            max_batch_size=_MAX_BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
            request_timeout_ms=int(self._publish_timeout_s * 1000),
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
        )


def _batch(producer: AIOKafkaProducer, records: Iterable[Record]) -> BatchBuilder:
    """As many of the records as one batch holds."""
    batch = producer.create_batch()
    for record in records:
        added = batch.append(
            key=record.key, value=record.value, headers=list(record.headers), timestamp=None
        )
        if added is None:
            break
    batch.close()
    return batch
