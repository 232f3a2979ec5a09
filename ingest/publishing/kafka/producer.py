"""One producer, from its start to its end: a lane per partition, one batch under way in each.

A producer is never mended: after a batch of unknown fate a new one takes its place.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from ingest.contract.record import Record
from ingest.contract.topics import MAX_MESSAGE_BYTES
from ingest.errors import NotDurable, RecordTooLarge, TopicRefused
from ingest.publishing.kafka.partitioner import partition_of
from ingest.storage.group_commit import GroupCommit

_MAX_BATCH_BYTES = 256 * 1024
_MAX_BATCH_RECORDS = 1_000
_CLOSE_TIMEOUT_S = 5.0
_PROBE_TIMEOUT_S = 1.0
_METADATA_MAX_AGE_MS = 30_000

_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
_REFUSALS = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.InvalidTopicError,
    kafka_errors.PolicyViolationError,
)


class Generation:
    """A producer that has been started, until `close`.

    A record is durable, or failed, within about two times `publish_timeout_s`: its own batch and
    the one before it.
    """

    def __init__(self, producer: AIOKafkaProducer, *, publish_timeout_s: float) -> None:
        self._producer = producer
        self._publish_timeout_s = publish_timeout_s
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._closed = False

    @classmethod
    async def start(
        cls, client_options: dict[str, Any], *, publish_timeout_s: float
    ) -> "Generation":
        """Connects. Raises KafkaError, OSError or TimeoutError; leaves nothing behind then.

        `client_options` are aiokafka's own.
        """
        producer = AIOKafkaProducer(
            **client_options,
            acks="all",
            max_batch_size=_MAX_BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
            request_timeout_ms=int(publish_timeout_s * 1000),
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
        )
        generation = cls(producer, publish_timeout_s=publish_timeout_s)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await producer.start()
        except BaseException:
            await generation.close()
            raise
        return generation

    async def append(self, record: Record) -> None:
        """Returns once all in-sync replicas have it. Raises as the port says."""
        partition = partition_of(record.key, await self._partitions(record.topic))
        lane = self._lanes.get((record.topic, partition))
        if lane is None:
            lane = self._lanes[record.topic, partition] = _Lane(self, record.topic, partition)
        await lane.gathering.append(record)

    async def answers(self) -> bool:
        """Whether Kafka answers at all."""
        if self._closed:  # aiokafka would connect again, and nobody would close that
            return False
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await self._producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError, OSError):
            return False
        return True

    async def finish(self, timeout_s: float) -> None:
        """Waits for what is under way."""
        finishing = (lane.gathering.finish(timeout_s) for lane in self._lanes.values())
        await asyncio.gather(*finishing)

    async def close(self) -> None:
        """Ends it within a bound, whatever state it is in."""
        self._closed = True
        producer = self._producer
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await producer.stop()
                return
        # after failed batches `stop` may wait for ever on its buffer; what is there is in the spool
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await producer._sender.close()
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await producer.client.close()

    def new_batch(self) -> BatchBuilder:
        """An empty batch."""
        return self._producer.create_batch()

    async def send(self, batch: BatchBuilder, topic: str, partition: int) -> None:
        """Sends one batch. Raises as the port says; RecordTooLarge is meant for the whole batch."""
        try:
            async with asyncio.timeout(self._publish_timeout_s):
                sent = await self._producer.send_batch(batch, topic, partition=partition)
                sent.add_done_callback(_told)
                await asyncio.shield(sent)
        except _TOO_LARGE as error:
            raise RecordTooLarge(topic) from error
        except Exception as error:  # whatever else aiokafka raises, the outcome is unknown
            raise await self._judged(error, topic) from error

    async def _partitions(self, topic: str) -> int:
        known = self._producer.client.cluster.partitions_for_topic(topic)
        if not known:
            try:
                async with asyncio.timeout(self._publish_timeout_s):
                    known = await self._producer.partitions_for(topic)
            except (KafkaError, TimeoutError) as error:
                raise await self._judged(error, topic) from error
        return len(known)

    async def _judged(self, error: Exception, topic: str) -> NotDurable | TopicRefused:
        """Whether it is the topic or all of Kafka. The same error may mean both."""
        what = f"{topic}: {type(error).__name__}"
        if isinstance(error, _REFUSALS):
            return TopicRefused(what)
        if await self.answers():
            cluster = self._producer.client.cluster
            if not cluster.partitions_for_topic(topic):
                return TopicRefused(f"{topic}: there is no such topic")
        return NotDurable(what)


class _Lane:
    """One partition: records gather while a batch is under way."""

    def __init__(self, generation: Generation, topic: str, partition: int) -> None:
        self.gathering = GroupCommit[Record](self._send)
        self._generation = generation
        self._topic = topic
        self._partition = partition
        self._singly = 0

    async def _send(self, records: Iterable[Record]) -> int:
        """Sends one batch. RecordTooLarge is raised for a batch of one, and means its record."""
        offered = list(itertools.islice(records, _MAX_BATCH_RECORDS))
        batch = self._batch(offered)
        if batch.record_count() > 1:
            try:
                await self._generation.send(batch, self._topic, self._partition)
                return int(batch.record_count())
            except RecordTooLarge:  # the broker names no culprit: each of these goes by itself
                self._singly = int(batch.record_count())
                batch = self._batch(offered[:1])
        self._singly = max(0, self._singly - 1)
        await self._generation.send(batch, self._topic, self._partition)
        return 1

    def _batch(self, records: Iterable[Record]) -> BatchBuilder:
        """As many of the records as one batch holds; one if they go singly."""
        batch = self._generation.new_batch()
        for record in records:
            added = batch.append(
                key=record.key, value=record.value, headers=list(record.headers), timestamp=None
            )
            if added is None or self._singly:
                break
        batch.close()
        return batch


def _told(sent: asyncio.Future[Any]) -> None:
    """What becomes of a batch after we stopped waiting is nobody's concern: it is unknown."""
    if not sent.cancelled():
        sent.exception()
