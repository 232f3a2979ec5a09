"""Dead letters of workers on Kafka: a topic of the worker's own."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from consumers.errors import StartupError
from consumers.retry import KAFKA_RETRY, retried
from ingest.contract.record import Record, StoredRecord
from ingest.contract.topics import MAX_MESSAGE_BYTES
from ingest.shared.kafka.clients import KafkaRefused, KafkaUnreachable, TopicError, start, stop
from ingest.shared.kafka.topic_admin import FOR_EVER_MS, existing, make_missing
from ingest.shared.kafka.topic_reader import read_topic

ACK_TIMEOUT_S = 30.0
# room for the headers that a dead letter has more than its record
_MAX_RECORD_BYTES = MAX_MESSAGE_BYTES + 64 * 1024


class KafkaDeadLetters:
    """The topic `<prefix>.dlq.<worker>.v1`, made at the start if it is missing."""

    def __init__(self, client_options: Mapping[str, Any], *, topic: str) -> None:
        self._client_options = client_options
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Makes the topic and connects."""
        try:
            await retried(self._make_topic, KAFKA_RETRY)
            self._producer = await retried(self._started_producer, KAFKA_RETRY)
        except (KafkaUnreachable, KafkaRefused):
            raise
        except TopicError as error:
            raise StartupError(f"dead letters cannot be kept: {error}") from error

    async def append(self, records: Sequence[Record]) -> None:
        """All at once; each waits for every in-sync replica, 30 s at most."""
        await asyncio.gather(*(self._send(record) for record in records))

    async def records(self) -> AsyncGenerator[StoredRecord, None]:
        """The topic up to its end. Raises TopicError."""
        if self._topic in await existing(self._client_options):
            async for record in read_topic(self._client_options, self._topic):
                yield record

    async def close(self) -> None:
        """Disconnects."""
        if self._producer is not None:
            await stop(self._producer)

    async def _send(self, record: Record) -> None:
        if self._producer is None:
            raise RuntimeError("the dead letters are not open")
        async with asyncio.timeout(ACK_TIMEOUT_S):
            await self._producer.send_and_wait(
                record.topic, value=record.value, key=record.key, headers=list(record.headers)
            )

    async def _make_topic(self) -> None:
        await make_missing(
            self._client_options,
            [self._topic],
            partitions=1,
            retention_ms=FOR_EVER_MS,
            max_message_bytes=_MAX_RECORD_BYTES,
        )

    async def _started_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._client_options,
            acks="all",
            max_request_size=_MAX_RECORD_BYTES,
            request_timeout_ms=int(ACK_TIMEOUT_S * 1000),
        )
        await start(producer, self._client_options)
        return producer
