"""Topics: which exist, and making those that are missing."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from ingest.contract.topics import MAX_MESSAGE_BYTES
from ingest.shared.kafka.clients import KafkaUnreachable, admin_client, refusal
from ingest.shared.kafka.clients import TopicError as TopicError
from ingest.shared.sections import TopicsSettings

_TIMEOUT_S = 30.0
_MAX_REPLICATION = 3
FOR_EVER_MS = -1
_RETENTION = "retention.ms"


async def existing(client_options: Mapping[str, Any], *, timeout_s: float = _TIMEOUT_S) -> set[str]:
    """The names of all topics. Raises TopicError."""
    try:
        async with asyncio.timeout(timeout_s), admin_client(client_options) as admin:
            return set(await admin.list_topics())
    except TimeoutError as error:
        raise _no_answer() from error


async def retention_ms(
    client_options: Mapping[str, Any], topics: Sequence[str]
) -> Mapping[str, int]:
    """How long each topic keeps records, `FOR_EVER_MS` where for ever. Raises TopicError.

    Topics whose settings we may not read are left out.
    """
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name, {_RETENTION: ""}) for name in topics]
    try:
        async with asyncio.timeout(_TIMEOUT_S), admin_client(client_options) as admin:
            responses = await admin.describe_configs(wanted)
    except TimeoutError as error:
        raise _no_answer() from error
    return {
        topic: int(value)
        for response in responses
        for code, _, _, topic, entries in response.resources
        for name, value, *_ in entries
        if not code and name == _RETENTION
    }


async def make(
    client_options: Mapping[str, Any], names: Sequence[str], shape: TopicsSettings
) -> list[str]:
    """Makes those that do not exist; returns their names. Raises TopicError.

    Existing topics are left as they are.
    """
    return await make_missing(
        client_options,
        names,
        partitions=shape.partitions,
        retention_ms=shape.retention_hours * 3_600_000,
    )


async def make_missing(
    client_options: Mapping[str, Any],
    names: Sequence[str],
    *,
    partitions: int,
    retention_ms: int,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> list[str]:
    """As `make`. Whoever may not make topics can be given them: they are looked at first."""
    try:
        async with asyncio.timeout(_TIMEOUT_S), admin_client(client_options) as admin:
            there = set(await admin.list_topics())
            missing = [name for name in names if name not in there]
            if missing:
                replication = min(
                    _MAX_REPLICATION, len((await admin.describe_cluster())["brokers"])
                )
                configs = {
                    "max.message.bytes": str(max_message_bytes),
                    _RETENTION: str(retention_ms),
                    "min.insync.replicas": "2" if replication == _MAX_REPLICATION else "1",
                }
                new = [NewTopic(n, partitions, replication, topic_configs=configs) for n in missing]
                await _create(admin, new)
            return missing
    except TimeoutError as error:
        raise _no_answer() from error


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[NewTopic]) -> None:
    response = await admin.create_topics(topics, timeout_ms=int(_TIMEOUT_S * 1000))
    for topic, code, *detail in response.topic_errors:
        error = for_code(code)
        # another process may have made it since we looked
        if code and error is not TopicAlreadyExistsError:
            refused = refusal(error(), what=f"topic {topic} is missing and cannot be made")
            text = f"{topic}: {error.__name__} {' '.join(map(str, detail))}".rstrip()
            raise refused or TopicError(text)


def _no_answer() -> TopicError:
    return KafkaUnreachable(f"Kafka does not answer within {_TIMEOUT_S:g} s")
