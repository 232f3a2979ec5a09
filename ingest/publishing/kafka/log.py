"""Kafka as a log: each record has a budget, each partition a fate of its own."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import structlog

from ingest.contract.record import Record
from ingest.contract.topics import MAX_MESSAGE_BYTES
from ingest.errors import (
    NotDurable,
    Overloaded,
    PartitionUnavailable,
    RecordTooLarge,
    TopicRefused,
)
from ingest.publishing.kafka.batch import Pending
from ingest.publishing.kafka.broker import Broker
from ingest.publishing.kafka.cluster import NO_LEADER, Cluster, Silent
from ingest.publishing.kafka.partitioner import partition_of
from ingest.publishing.log import Partition

log = structlog.get_logger(__name__)

_REFRESH_EVERY_S = 30.0
_REFRESH_AT_MOST_EVERY_S = 0.3
_RETRY_AFTER_S = (0.2, 0.5, 1.0, 2.0)
_SWEEP_EVERY_S = 0.05
_UNKNOWN = -1


class KafkaLog:
    """Publishes to the leaders of partitions, as far as the cluster answers.

    `client_options` are aiokafka's own. A record is durable within `budget_s` of `append`, or its
    caller is told to go elsewhere; it is dropped from the queue then unless it has been sent.
    `topics` are those that are asked for from the start.
    """

    def __init__(
        self, *, client_options: Mapping[str, Any], budget_s: float, topics: Collection[str] = ()
    ) -> None:
        self._cluster = Cluster(client_options, timeout_s=budget_s)
        self._budget_s = budget_s
        self._topics = set(topics)
        self._told_of: frozenset[str] = frozenset()
        self._brokers: dict[int, Broker] = {}
        self._open: deque[Pending] = deque()
        self._sweeping: asyncio.TimerHandle | None = None
        self._failure: str | None = "not connected to Kafka yet"
        self._is_lost = False
        self._closing = False
        self._refresh_wanted = asyncio.Event()
        self._refreshed = asyncio.Event()

    async def run(self) -> None:
        """Keeps metadata current and finds out who answers, until cancelled."""
        failures = 0
        while True:
            self._refresh_wanted.clear()
            asked = frozenset(self._topics)
            try:
                await self._cluster.refresh(asked)
            except Silent as error:
                self._lost(str(error))
                pause_s = _RETRY_AFTER_S[min(failures, len(_RETRY_AFTER_S) - 1)]
                failures += 1
            else:
                self._found(asked)
                await self._check_brokers()
                pause_s, failures = _REFRESH_AT_MOST_EVERY_S, 0
            await asyncio.sleep(pause_s)
            if self._failure is None and not self._silent_brokers():
                await self._until_refresh_is_wanted()

    async def connected(self, timeout_s: float) -> bool:
        """Waits until the cluster has answered, but no longer than that; whether it has."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._failure is not None:
                    await self._refreshed.wait()
        except TimeoutError:
            return False
        return True

    def partitions_of(self, topic: str) -> int:
        """As the latest metadata has it."""
        known = self._cluster.topics.get(topic)
        return len(known.leaders) if known is not None else 0

    def partition_of(self, record: Record) -> Partition:
        """By Kafka's own hash of the key."""
        partitions = self.partitions_of(record.topic)
        if not partitions:
            return Partition(record.topic, _UNKNOWN)
        return Partition(record.topic, partition_of(record.key, partitions))

    async def append(self, record: Record, *, urgent: bool = True, probing: bool = False) -> None:
        """Returns once all in-sync replicas have the record."""
        if self._closing:
            raise NotDurable("the connection to Kafka is closing")
        if self._failure is not None:
            raise NotDurable(self._failure)
        if record.size_bytes > MAX_MESSAGE_BYTES:
            raise RecordTooLarge(record.topic)
        if record.topic not in self._told_of:
            await self._learn_of(record.topic)
        partition = self.partition_of(record)
        began_s = asyncio.get_running_loop().time()
        pending = Pending(record, partition, began_s=began_s, urgent=urgent)
        self._leader_of(partition).offer(pending, probing=probing)
        self._open.append(pending)
        if self._sweeping is None:
            self._sweep_later()
        await pending.done

    async def health(self) -> tuple[bool, str]:
        """Whether the cluster answers, or at least one of the brokers that were asked lately."""
        if self._failure is not None:
            return False, self._failure
        silent = self._silent_brokers()
        if silent and len(silent) == len(self._brokers):
            return False, f"Kafka does not answer: {', '.join(silent)}"
        return True, f"Kafka answers, but for {', '.join(silent)}" if silent else "Kafka answers"

    async def close(self) -> None:
        """Records that were taken get their answer first."""
        self._closing = True
        brokers = list(self._brokers.values())
        await asyncio.gather(*(broker.finish(self._budget_s) for broker in brokers))
        await asyncio.gather(*(broker.close() for broker in brokers))
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._cluster.close()

    def _leader_of(self, partition: Partition) -> Broker:
        """Raises TopicRefused or PartitionUnavailable."""
        topic = self._cluster.topics.get(partition.topic)
        if topic is None or not topic.leaders:
            self._refresh_wanted.set()
            error = (topic and topic.error) or "UnknownTopicOrPartitionError"
            raise TopicRefused(f"{partition.topic}: {error}")
        leader = topic.leaders[partition.number]
        if leader == NO_LEADER or leader not in self._cluster.brokers:
            self._refresh_wanted.set()
            raise PartitionUnavailable(f"{partition.topic}/{partition.number} has no leader")
        broker = self._brokers.get(leader)
        if broker is None:
            broker = self._brokers[leader] = Broker(
                f"broker {leader}",
                partial(self._cluster.connect, leader),
                budget_s=self._budget_s,
                on_failure=self._refresh_wanted.set,
            )
        return broker

    async def _learn_of(self, topic: str) -> None:
        """Asks for a topic that nobody has named before."""
        self._topics.add(topic)
        self._refresh_wanted.set()
        try:
            async with asyncio.timeout(self._budget_s):
                while topic not in self._told_of:
                    await self._refreshed.wait()
        except TimeoutError:
            raise TopicRefused(f"{topic}: Kafka does not tell of it") from None

    async def _until_refresh_is_wanted(self) -> None:
        try:
            async with asyncio.timeout(_REFRESH_EVERY_S):
                await self._refresh_wanted.wait()
        except TimeoutError:
            pass

    def _found(self, asked: frozenset[str]) -> None:
        if self._failure is not None:
            log.info("connected to kafka")
        self._failure, self._is_lost = None, False
        self._told_of = asked
        self._tell()

    def _tell(self) -> None:
        """Wakes who waits for the outcome of a refresh."""
        self._refreshed.set()
        self._refreshed = asyncio.Event()

    def _silent_brokers(self) -> list[str]:
        return [broker.name for broker in self._brokers.values() if not broker.answers]

    async def _check_brokers(self) -> None:
        """Connects to those that fell silent, and lets go of those that have left the cluster."""
        gone = [self._brokers.pop(id_) for id_ in {*self._brokers} - {*self._cluster.brokers}]
        await asyncio.gather(
            *(broker.close() for broker in gone),
            *(broker.check() for broker in self._brokers.values() if not broker.answers),
        )

    def _lost(self, cause: str) -> None:
        if not self._is_lost:
            log.error("kafka does not answer, events wait in the spool", cause=cause)
        self._is_lost = True
        self._failure = f"Kafka does not answer: {cause}"
        for broker in self._brokers.values():
            broker.fail_waiting(NotDurable(self._failure))
        self._tell()

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(_SWEEP_EVERY_S, self._sweep)

    def _sweep(self) -> None:
        """Sends on their way those whose budget is used up: one look costs less than timers."""
        over_s = asyncio.get_running_loop().time() - self._budget_s
        waiting = self._open
        while waiting and (waiting[0].done.done() or waiting[0].began_s <= over_s):
            waiting.popleft().end(Overloaded("kafka does not acknowledge in time"))
        self._sweeping = None
        if waiting:
            self._sweep_later()
        # a request that takes half of the budget may be the first sign of a silent cluster
        if waiting and waiting[0].began_s <= over_s + self._budget_s / 2:
            self._refresh_wanted.set()
