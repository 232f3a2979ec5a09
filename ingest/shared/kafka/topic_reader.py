"""Reads all that a topic holds now, once, without a consumer group."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from ingest.contract.record import StoredRecord
from ingest.shared.kafka.clients import TopicError, start, stop
from ingest.shared.kafka.records import stored

_TIMEOUT_S = 30.0
_POLL_MS = 1_000
_MAX_POLL_RECORDS = 500


async def read_topic(
    client_options: Mapping[str, Any], topic: str, *, timeout_s: float = _TIMEOUT_S
) -> AsyncGenerator[StoredRecord, None]:
    """Every record up to the topic's end as it is now, in order within a partition.

    Raises TopicError: there is no such topic, or Kafka gave nothing for `timeout_s`.
    """
    consumer = AIOKafkaConsumer(
        **client_options, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        async with asyncio.timeout(timeout_s):
            await start(consumer, client_options)
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
                yield stored(record)
    except (KafkaError, OSError, TimeoutError) as error:
        raise TopicError(f"Kafka does not give {topic}: {type(error).__name__}") from error
    finally:
        await stop(consumer)


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
