"""Kafka topics as a source.

The sink's offsets say where reading begins; those of the consumer group are for lag tools only.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from consumers.errors import OffsetOutOfRange
from consumers.retry import KAFKA_RETRY, retried
from consumers.sources.base import StoredOffsets
from consumers.sources.kafka_retention import KafkaRetention
from consumers.values import NOTHING_POLLED, NextOffsets, Partition, Polled
from ingest.shared.kafka.clients import admin_client, refusal, start, stop
from ingest.shared.kafka.records import stored as stored_record

MAX_POLL_RECORDS = 1_000
NEW_TOPICS_SEEN_AFTER_MS = 5_000
REBALANCE_TIMEOUT_MS = 60_000
"""Longer than any batch takes, so that nobody is thrown out of the group for writing one."""

MAX_POLL_INTERVAL_MS = 2**31 - 1
"""Never: polling pauses as long as the store is away. aiokafka 0.14 leaves the group otherwise, and
does not join again before it is polled, which it is not before it has joined."""

MAX_PARTITION_FETCH_BYTES = 256 * 1024
"""Per partition held in memory; a record that is larger comes all the same, alone (KIP-74)."""

MAX_FETCH_BYTES = 8 * 1024 * 1024
COMMIT_TIMEOUT_S = 10.0
LOOK_AT_RETENTION_S = 60.0
LOOK_AT_END_EVERY_S = 5.0

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class KafkaSource(ConsumerRebalanceListener):  # type: ignore[misc]
    """A member of the group `forebay.<worker>`; the epoch grows at every change of assignment."""

    def __init__(
        self,
        client_options: Mapping[str, Any],
        *,
        worker: str,
        topic_pattern: str,
        stored_offsets: StoredOffsets,
    ) -> None:
        self._client_options = dict(client_options)
        self._group = f"forebay.{worker}"
        self._pattern = topic_pattern
        self._stored_offsets = stored_offsets
        self._consumer: AIOKafkaConsumer | None = None
        self._source_id = ""
        self._epoch = 1
        self._assigned = asyncio.Event()
        self._placed = False
        self._positions: dict[TopicPartition, int] = {}
        self._written: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._retention = KafkaRetention(self._client_options)

    @property
    def source_id(self) -> str:
        """The id of the Kafka cluster."""
        return self._source_id

    @property
    def epoch(self) -> int:
        """Grows when partitions are taken away and when they are given out."""
        return self._epoch

    @property
    def lag_records(self) -> int:
        """Over all partitions that are ours at the moment."""
        return sum(max(0, self._ends[tp] - at) for tp, at in self._positions.items())

    @property
    def seconds_to_loss(self) -> float:
        """Over all partitions that are ours, by their topics' retention."""
        return self._retention.loss.seconds

    async def open(self) -> None:
        """Waits for a cluster that answers, and joins the group."""
        self._source_id = await retried(self._cluster_id, KAFKA_RETRY)
        self._consumer = await retried(self._started_consumer, KAFKA_RETRY)
        self._joined().subscribe(pattern=self._pattern, listener=self)

    async def poll(self, *, timeout_s: float) -> Polled:
        """Records of all partitions that are ours, from where the tables end."""
        if not await self._is_placed(timeout_s):
            return NOTHING_POLLED
        epoch = self._epoch
        consumer = self._joined()
        try:
            fetched = await consumer.getmany(
                timeout_ms=int(timeout_s * 1000), max_records=MAX_POLL_RECORDS
            )
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
            await self._check_not_removed(error)
            self._begin_epoch()  # going to the stored offsets tells what is wrong, or ends it
            return NOTHING_POLLED
        except KafkaError as error:
            raise refusal(error, what=f"group {self._group}") or error from error
        if epoch != self._epoch:
            return NOTHING_POLLED
        return self._polled(consumer, fetched)

    async def commit(self, next_offsets: NextOffsets) -> None:
        """For lag tools; a partition that has gone elsewhere is its new owner's to commit."""
        offsets = {TopicPartition(p.topic, p.number): at for p, at in next_offsets.items()}
        self._written |= {tp: at for tp, at in offsets.items() if tp in self._positions}
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._joined().commit(offsets)
        except (CommitFailedError, IllegalStateError):
            log.debug("offsets not committed: the partitions have moved")
        except (KafkaError, TimeoutError) as error:
            log.warning("offsets not committed; only lag tools are misled", error=str(error))

    async def watch_end(self) -> None:
        """Asks for the partitions' ends every few seconds, also while nobody polls."""
        while True:
            await asyncio.sleep(LOOK_AT_END_EVERY_S)
            partitions = list(self._positions)
            if self._consumer is None or not partitions:
                continue
            try:
                async with asyncio.timeout(COMMIT_TIMEOUT_S):
                    ends = await self._consumer.end_offsets(partitions)
                self._ends |= {tp: end for tp, end in ends.items() if tp in self._positions}
                async with asyncio.timeout(LOOK_AT_RETENTION_S):
                    await self._retention.look(self._consumer, self._unwritten())
            except (KafkaError, TimeoutError) as error:
                log.debug("ends of partitions not known", error=type(error).__name__)

    async def close(self) -> None:
        """Leaves the group."""
        if self._consumer is not None:
            await stop(self._consumer)

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Called by aiokafka before every rebalance."""
        self._assigned.clear()
        self._positions, self._written = {}, {}
        self._begin_epoch()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Called by aiokafka after every rebalance; an error raised here would be swallowed."""
        self._begin_epoch()
        self._assigned.set()

    def _begin_epoch(self) -> None:
        self._epoch += 1
        self._placed = False

    async def _is_placed(self, timeout_s: float) -> bool:
        if not self._placed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._assigned.wait()
            except TimeoutError:
                return False
            await self._place()
        return self._placed

    async def _place(self) -> None:
        """Goes to the stored offset of every partition, or to its beginning if none is stored."""
        epoch, consumer = self._epoch, self._joined()
        assigned = consumer.assignment()
        try:
            firsts = await consumer.beginning_offsets(assigned) if assigned else {}
            ends = await consumer.end_offsets(assigned) if assigned else {}
        except KafkaError as error:
            log.warning("Kafka does not tell the bounds of its partitions", error=str(error))
            await asyncio.sleep(KAFKA_RETRY.pause_s)
            return
        stored = await self._stored_offsets(self._source_id)
        if epoch != self._epoch:
            return
        positions = {tp: _position(tp, stored, firsts[tp], ends[tp]) for tp in assigned}
        for tp, position in positions.items():
            consumer.seek(tp, position)
        self._positions, self._written = positions, dict(positions)
        self._ends, self._placed = ends, True

    async def _check_not_removed(self, error: KafkaError) -> None:
        """Raises OffsetOutOfRange where retention was faster than we; what was read stays ours."""
        wanted = error.args[0] if isinstance(error, OffsetOutOfRangeError) else {}
        with contextlib.suppress(KafkaError):
            firsts = await self._joined().beginning_offsets(list(wanted))
            for tp, position in wanted.items():
                if position < firsts[tp]:
                    _position(tp, {_partition(tp): position}, firsts[tp], self._ends.get(tp, 0))

    def _unwritten(self) -> dict[TopicPartition, int]:
        """Per partition that has any, the first offset that is not in the tables."""
        return {tp: at for tp, at in self._written.items() if at < self._ends.get(tp, 0)}

    def _polled(
        self,
        consumer: AIOKafkaConsumer,
        fetched: Mapping[TopicPartition, Sequence[Any]],
    ) -> Polled:
        for tp, records in fetched.items():
            self._positions[tp] = records[-1].offset + 1
            self._ends[tp] = consumer.highwater(tp) or self._ends[tp]
        return Polled(
            records=[stored_record(record) for records in fetched.values() for record in records],
            next_offsets={_partition(tp): self._positions[tp] for tp in fetched},
        )

    async def _cluster_id(self) -> str:
        async with admin_client(self._client_options) as admin:
            return str((await admin.describe_cluster())["cluster_id"])

    async def _started_consumer(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._client_options,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            metadata_max_age_ms=NEW_TOPICS_SEEN_AFTER_MS,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
            fetch_max_bytes=MAX_FETCH_BYTES,
        )
        await start(consumer, self._client_options)
        return consumer

    def _joined(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the source is not open")
        return self._consumer


def _partition(tp: TopicPartition) -> Partition:
    return Partition(tp.topic, tp.partition)


def _position(tp: TopicPartition, stored: NextOffsets, first: int, end: int) -> int:
    partition = _partition(tp)
    position = stored.get(partition)
    if position is None:
        return first
    if not first <= position <= end:
        raise OffsetOutOfRange(partition, stored=position, first=first, next_=end)
    return position
