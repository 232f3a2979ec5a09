"""Reads all that a topic holds now, once, without a consumer group."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from ingest.contract.record import StoredRecord
from ingest.shared.kafka.topic_admin import TopicError

_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_POLL_MS = 1_000
_MAX_POLL_RECORDS = 500


async def read_topic(
    client_options: dict[str, Any], topic: str, *, timeout_s: float = _TIMEOUT_S
) -> AsyncGenerator[StoredRecord, None]:
    """Every record up to the topic's end as it is now, in order within a partition.

    Raises TopicError: there is no such topic, or Kafka gave nothing for `timeout_s`.
    """
    consumer = AIOKafkaConsumer(
        **client_options, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        async with asyncio.timeout(timeout_s):
            await consumer.start()
            partitions = await _partitions(consumer, topic)
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
        while True:
            async with asyncio.timeout(timeout_s):
                records = await _next(consumer, ends)
            if not records:
                return
            for record in records:
                yield _stored(record)
    except (KafkaError, OSError, TimeoutError) as error:
        raise TopicError(f"Kafka does not give {topic}: {type(error).__name__}") from error
    finally:
        # in a task, for a cancellation of aiokafka's own may come out while no broker answers
        await asyncio.wait([asyncio.create_task(consumer.stop())], timeout=_STOP_TIMEOUT_S)


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """Asks for all topics: to ask for one by name may make it."""
    cluster = await consumer._client.fetch_all_metadata()
    numbers = cluster.partitions_for_topic(topic)
    if not numbers:
        raise TopicError(f"there is no topic {topic}: run `forebay-ingest topics apply`")
    return [TopicPartition(topic, number) for number in sorted(numbers)]


async def _next(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]
) -> "list[ConsumerRecord[bytes, bytes]]":
    """The next records before the ends; none if all ends are reached."""
    while True:
        behind = [tp for tp, end in ends.items() if await consumer.position(tp) < end]
        if not behind:
            return []
        fetched = await consumer.getmany(
            *behind, timeout_ms=_POLL_MS, max_records=_MAX_POLL_RECORDS
        )
        records = [r for tp, found in fetched.items() for r in found if r.offset < ends[tp]]
        if records:
            return records


def _stored(record: "ConsumerRecord[bytes, bytes]") -> StoredRecord:
    return StoredRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key or b"",
        value=record.value or b"",
        headers=tuple((name, value or b"") for name, value in record.headers),
    )
