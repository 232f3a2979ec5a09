"""Kafka: a lane per partition with one batch under way, acknowledged by all replicas in sync.

Only this file and `topic_admin` know aiokafka.
"""

import asyncio
import contextlib
from collections import deque
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from ingest.contract.record import Record
from ingest.contract.topics import MAX_MESSAGE_BYTES
from ingest.delivering.partitioner import partition_of
from ingest.errors import NotDurable, Overloaded

log = structlog.get_logger(__name__)

_MAX_BATCH_BYTES = 256 * 1024
_MAX_WAITING = 10_000
_RETRY_START_S = 2.0
_CLOSE_TIMEOUT_S = 5.0
_PROBE_TIMEOUT_S = 1.0

_Waiting = tuple[Record, asyncio.Future[None]]


class KafkaLog:
    """Publishes through one producer, which is started in the background and kept.

    `client_options` are aiokafka's own. A record is durable, or failed, within two times
    `publish_timeout_s`: its own batch and the one before it.
    """

    def __init__(self, *, client_options: dict[str, Any], publish_timeout_s: float) -> None:
        self._options = client_options
        self._publish_timeout_s = publish_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._lanes: dict[tuple[str, int], _Lane] = {}
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
                lane = self._lanes[record.topic, partition] = _Lane(self, record.topic, partition)
            await lane.append(record, producer)
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
        lanes = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if lanes:
            await asyncio.wait(lanes, timeout=2 * self._publish_timeout_s)
        producer, self._producer = self._producer, None
        if producer is not None:
            # aiokafka can hang here after failed batches
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await producer.stop()

    async def send(self, producer: AIOKafkaProducer, batch: BatchBuilder, lane: "_Lane") -> None:
        """Sends one batch and waits for its acknowledgement. Raises NotDurable."""
        try:
            async with asyncio.timeout(self._publish_timeout_s):
                acknowledged = await producer.send_batch(
                    batch, lane.topic, partition=lane.partition
                )
                await acknowledged
        except Exception as error:  # whatever aiokafka raises here, the outcome is unknown
            if self._failure is None:
                log.error("kafka does not acknowledge", topic=lane.topic, cause=repr(error))
            self._failure = f"{lane.topic}: {type(error).__name__}"
            raise NotDurable(self._failure) from error
        if self._failure is not None:
            log.info("kafka acknowledges")
            self._failure = None

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
                raise NotDurable(f"{topic}: {type(error).__name__}") from error
        return len(known)

    async def _start(self) -> None:
        while True:
            producer = AIOKafkaProducer(
                **self._options,
                acks="all",
                max_batch_size=_MAX_BATCH_BYTES,
                max_request_size=MAX_MESSAGE_BYTES,
                request_timeout_ms=int(self._publish_timeout_s * 1000),
                metadata_max_age_ms=30_000,
            )
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


class _Lane:
    """Records of one partition on their way: while one batch is under way, the next one gathers."""

    def __init__(self, log_: KafkaLog, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.task: asyncio.Task[None] | None = None
        self._log = log_
        self._waiting: deque[_Waiting] = deque()

    async def append(self, record: Record, producer: AIOKafkaProducer) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, done))
        if self.task is None:
            self.task = asyncio.create_task(self._drain(producer))
        await done

    async def _drain(self, producer: AIOKafkaProducer) -> None:
        try:
            while self._waiting:
                batch, count = self._batch(producer)
                await self._log.send(producer, batch, self)
                for _ in range(count):
                    _settle(self._waiting.popleft())
        except Exception as error:
            # what gathered meanwhile would only wait for the same broker
            while self._waiting:
                _settle(self._waiting.popleft(), error)
        finally:
            self.task = None

    def _batch(self, producer: AIOKafkaProducer) -> tuple[BatchBuilder, int]:
        """A batch of the records that wait the longest, which go on waiting, and their number."""
        batch = producer.create_batch()
        for record, _ in self._waiting:
            added = batch.append(
                key=record.key, value=record.value, headers=list(record.headers), timestamp=None
            )
            if added is None:
                break
        batch.close()
        return batch, batch.record_count()


def _settle(waiting: _Waiting, error: Exception | None = None) -> None:
    _, done = waiting
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error if isinstance(error, NotDurable) else NotDurable(repr(error)))
