"""What Kafka's topics hold, for commands beside the worker."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.sources.base import LogBounds
from consumers.values import Partition
from ingest.shared.kafka.clients import KafkaUnreachable, admin_client, start, stop

BOUNDS_TIMEOUT_S = 60.0


async def kafka_bounds(client_options: Mapping[str, Any], topic_pattern: str) -> LogBounds:
    """Of all partitions of the topics that match. Raises TopicError."""
    consumer = AIOKafkaConsumer(**client_options)
    await start(consumer, client_options)
    try:
        async with asyncio.timeout(BOUNDS_TIMEOUT_S), admin_client(client_options) as admin:
            source_id = str((await admin.describe_cluster())["cluster_id"])
            topics = [name for name in await admin.list_topics() if re.match(topic_pattern, name)]
            described = await admin.describe_topics(topics) if topics else []
            partitions = [
                TopicPartition(topic["topic"], partition["partition"])
                for topic in described
                for partition in topic["partitions"]
            ]
            firsts = await consumer.beginning_offsets(partitions) if partitions else {}
            ends = await consumer.end_offsets(partitions) if partitions else {}
    except TimeoutError as error:
        raise KafkaUnreachable("Kafka does not tell the bounds of its partitions") from error
    finally:
        await stop(consumer)
    return LogBounds(
        source_id=source_id,
        partitions={Partition(*tp): (firsts[tp], ends[tp]) for tp in partitions},
    )
