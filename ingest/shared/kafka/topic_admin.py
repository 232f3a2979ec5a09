"""Topics: which exist, and making those that are missing."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from ingest.contract.topics import MAX_MESSAGE_BYTES
from ingest.shared.sections import TopicsSettings

_TIMEOUT_S = 30.0
_MAX_REPLICATION = 3


class TopicError(Exception):
    """Kafka could not be asked, or would not make a topic; the text says which and why."""


async def existing(client_options: dict[str, Any], *, timeout_s: float = _TIMEOUT_S) -> set[str]:
    """The names of all topics. Raises TopicError."""
    try:
        async with asyncio.timeout(timeout_s), _Admin(client_options) as admin:
            return set(await admin.list_topics())
    except (KafkaError, OSError, TimeoutError) as error:
        raise TopicError(f"Kafka does not answer: {type(error).__name__}") from error


async def make(
    client_options: dict[str, Any], names: Sequence[str], shape: TopicsSettings
) -> list[str]:
    """Makes those that do not exist; returns their names. Raises TopicError.

    Existing topics are left as they are.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S), _Admin(client_options) as admin:
            there = set(await admin.list_topics())
            missing = [name for name in names if name not in there]
            if missing:
                brokers = (await admin.describe_cluster())["brokers"]
                await _create(admin, missing, shape, brokers)
            return missing
    except (KafkaError, OSError, TimeoutError) as error:
        raise TopicError(f"Kafka does not answer: {type(error).__name__}") from error


async def _create(
    admin: AIOKafkaAdminClient,
    names: Sequence[str],
    shape: TopicsSettings,
    brokers: Collection[Any],
) -> None:
    replication = min(_MAX_REPLICATION, len(brokers))
    configs = {
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "retention.ms": str(shape.retention_hours * 3_600_000),
        "min.insync.replicas": "2" if replication == _MAX_REPLICATION else "1",
    }
    response = await admin.create_topics(
        [NewTopic(name, shape.partitions, replication, topic_configs=configs) for name in names],
        timeout_ms=int(_TIMEOUT_S * 1000),
    )
    for topic, code, *detail in response.topic_errors:
        error = for_code(code)
        # another process may have made it since we looked
        if code and error is not TopicAlreadyExistsError:
            raise TopicError(f"{topic}: {error.__name__} {' '.join(map(str, detail))}".rstrip())


class _Admin:
    """An admin client that is closed again."""

    def __init__(self, client_options: dict[str, Any]) -> None:
        self._admin = AIOKafkaAdminClient(**client_options)

    async def __aenter__(self) -> AIOKafkaAdminClient:
        try:
            await self._admin.start()
        except BaseException:
            await self._admin.close()
            raise
        return self._admin

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()
