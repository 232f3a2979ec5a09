"""Where records go that cannot be read: beside the log that they came from.

They are kept before the offsets move past them, so after a crash one may be kept twice.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from consumers.errors import StartupError
from consumers.kafka_cluster import KAFKA_RETRY, admin_client, stop
from consumers.retry import retried
from consumers.values import DeadLetter
from ingest.contract.eventlog.eventlog import EventLog, LogFileError
from ingest.contract.record import Record
from ingest.contract.topics import MAX_MESSAGE_BYTES, dead_letter_topic

ACK_TIMEOUT_S = 30.0
_UNBOUNDED_BYTES = 2**62
# room for the headers that a dead letter has more than its record
_MAX_RECORD_BYTES = MAX_MESSAGE_BYTES + 64 * 1024


class DeadLetters(Protocol):
    """Keeps dead letters for ever. Called from one task only."""

    async def open(self) -> None:
        """Makes the place, waiting for a cluster that does not answer. Raises StartupError."""
        ...

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Returns once all are durable, in order; an error may leave some of them kept."""
        ...

    async def close(self) -> None:
        """Must be called once, even if `open` failed."""
        ...


def dead_letter_record(letter: DeadLetter, *, prefix: str, worker: str) -> Record:
    """The record as it was, with headers that say why and whence it was put aside."""
    record = letter.record
    return Record(
        topic=dead_letter_topic(prefix, worker),
        key=record.key,
        value=record.value,
        headers=(
            *record.headers,
            ("forebay_reason", letter.reason.encode()),
            ("forebay_source_topic", record.topic.encode()),
            ("forebay_source_partition", str(record.partition).encode()),
            ("forebay_source_offset", str(record.offset).encode()),
            ("forebay_worker", worker.encode()),
        ),
    )


class EmbeddedDeadLetters:
    """An event log file of the worker's own: `dead-letters.<worker>.sqlite3`."""

    def __init__(self, data_dir: Path, *, prefix: str, worker: str) -> None:
        self._path = data_dir / f"dead-letters.{worker}.sqlite3"
        self._prefix = prefix
        self._worker = worker
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forebay-dead-letters")
        self._log: EventLog | None = None

    async def open(self) -> None:
        """Opens the file, making it if there is none."""
        loop = asyncio.get_running_loop()
        try:
            self._log = await loop.run_in_executor(self._thread, self._open)
        except (LogFileError, OSError) as error:
            raise StartupError(f"dead letters cannot be kept: {error}") from error

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """One commit for all."""
        if self._log is None:
            raise RuntimeError("the dead letters are not open")
        records = [
            dead_letter_record(letter, prefix=self._prefix, worker=self._worker)
            for letter in letters
        ]
        await asyncio.get_running_loop().run_in_executor(self._thread, self._log.append, records)

    async def close(self) -> None:
        """Closes the file."""
        if self._log is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._log.close)
        self._thread.shutdown()

    def _open(self) -> EventLog:
        return EventLog.open(self._path, max_bytes=_UNBOUNDED_BYTES)


class KafkaDeadLetters:
    """The topic `<prefix>.dlq.<worker>.v1`, made at the start with at most three replicas."""

    def __init__(self, client_options: Mapping[str, Any], *, prefix: str, worker: str) -> None:
        self._client_options = client_options
        self._prefix = prefix
        self._worker = worker
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Makes the topic and connects."""
        await retried(self._make_topic, KAFKA_RETRY)
        self._producer = await retried(self._started_producer, KAFKA_RETRY)

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Waits for every in-sync replica of every letter."""
        async with asyncio.timeout(ACK_TIMEOUT_S):
            for letter in letters:
                await self._send(
                    dead_letter_record(letter, prefix=self._prefix, worker=self._worker)
                )

    async def close(self) -> None:
        """Disconnects."""
        if self._producer is not None:
            await stop(self._producer)

    async def _send(self, record: Record) -> None:
        if self._producer is None:
            raise RuntimeError("the dead letters are not open")
        await self._producer.send_and_wait(
            record.topic, value=record.value, key=record.key, headers=list(record.headers)
        )

    async def _make_topic(self) -> None:
        async with admin_client(self._client_options) as admin:
            brokers = len((await admin.describe_cluster())["brokers"])
            topic = dead_letter_topic(self._prefix, self._worker)
            await _create(admin, topic, replicas=min(3, brokers))

    async def _started_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._client_options,
            acks="all",
            max_request_size=_MAX_RECORD_BYTES,
            request_timeout_ms=int(ACK_TIMEOUT_S * 1000),
        )
        try:
            await producer.start()
        except BaseException:
            await stop(producer)
            raise
        return producer


async def _create(admin: AIOKafkaAdminClient, name: str, *, replicas: int) -> None:
    configs = {"max.message.bytes": str(_MAX_RECORD_BYTES), "retention.ms": "-1"}
    if replicas == 3:
        configs["min.insync.replicas"] = "2"
    topic = NewTopic(
        name=name, num_partitions=1, replication_factor=replicas, topic_configs=configs
    )
    response = await admin.create_topics([topic])
    for _, code, *_ in response.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise for_code(code)(f"topic {name} cannot be made")
