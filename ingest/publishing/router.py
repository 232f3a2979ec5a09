"""Which way a record goes now: to the log or into the spool. Keeps a circuit per partition."""

import time
from collections.abc import Callable

import structlog

from ingest.contract.record import Record
from ingest.errors import NotDurable, Overloaded, PartitionUnavailable, TopicRefused
from ingest.publishing.circuit_breaker import CircuitBreaker
from ingest.publishing.log import Log, Partition

log = structlog.get_logger(__name__)

_NAMED_AT_ONCE = 10
"""Partitions named in one log line."""


class Router:
    """Circuits of the partitions that failed lately; of all others nothing is kept.

    What concerns the log as a whole the log itself knows, and refuses at once.
    """

    def __init__(
        self,
        new_circuit: Callable[[], CircuitBreaker] = CircuitBreaker,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._new_circuit = new_circuit
        self._clock = clock
        self._circuits: dict[Partition, CircuitBreaker] = {}
        self._news: dict[Partition, str | None] = {}
        self._recovered: set[str] = set()
        self.unavailable_topics: frozenset[str] = frozenset()
        """Topics with a partition that failed and has not taken a record since."""
        self.recoveries = 0
        """How often a partition took records again."""

    async def publish(
        self, durable_log: Log, record: Record, *, may_probe: bool, urgent: bool = True
    ) -> bool:
        """Whether the log has the record. Without `may_probe` it is asked only while all is well.

        If not, it may have it all the same: a repeat does no harm. Raises RecordTooLarge.
        """
        partition = durable_log.partition_of(record)
        circuit = self._circuits.get(partition)
        if circuit is not None and not (may_probe and circuit.admits(self._clock())):
            return False
        try:
            await durable_log.append(record, urgent=urgent, probing=circuit is not None)
        except (PartitionUnavailable, TopicRefused) as error:
            self._failed(partition, str(error))
            return False
        except (Overloaded, NotDurable):
            self._gave_up(partition)
            return False
        except BaseException:
            self._gave_up(partition)
            raise
        if circuit is not None:
            self._succeeded(partition)
        return True

    def is_open(self, partition: Partition) -> bool:
        """Whether nothing of this partition is to be tried now, not even as a probe."""
        circuit = self._circuits.get(partition)
        return circuit is not None and circuit.state(self._clock()) == "open"

    def is_closed(self, partition: Partition) -> bool:
        """Whether the partition took the latest record, as far as is known."""
        return partition not in self._circuits

    @property
    def unavailable(self) -> frozenset[Partition]:
        """Partitions that failed and have not taken a record since."""
        return frozenset(self._circuits)

    def take_recovered(self) -> frozenset[str]:
        """Topics of partitions that took records again since it was called last."""
        recovered, self._recovered = frozenset(self._recovered), set()
        return recovered

    def report(self) -> None:
        """Logs which partitions became unavailable or available since it was called last."""
        news, self._news = self._news, {}
        failed = {partition: cause for partition, cause in news.items() if cause is not None}
        if failed:
            log.error(
                "kafka partitions unavailable, their events wait in the spool",
                partitions=_named(failed),
                count=len(failed),
                cause=next(iter(failed.values())),
            )
        if recovered := [partition for partition, cause in news.items() if cause is None]:
            log.info(
                "kafka partitions available again",
                partitions=_named(recovered),
                count=len(recovered),
            )

    def _failed(self, partition: Partition, cause: str) -> None:
        if partition not in self._circuits:
            self._circuits[partition] = self._new_circuit()
            self._news[partition] = cause
            self._changed()
        self._circuits[partition].failed(self._clock())

    def _gave_up(self, partition: Partition) -> None:
        if circuit := self._circuits.get(partition):
            circuit.gave_up()

    def _succeeded(self, partition: Partition) -> None:
        now_s = self._clock()
        circuit = self._circuits.get(partition)
        if circuit is None:
            return
        circuit.succeeded(now_s)
        if circuit.state(now_s) == "closed":
            # a topic that was unknown has partitions now, whose numbers its circuit had not
            for each in (partition, Partition(partition.topic, -1)):
                if self._circuits.pop(each, None) is not None:
                    self._news[each] = None
                    self._recovered.add(partition.topic)
                    self.recoveries += 1
            self._changed()

    def _changed(self) -> None:
        # every record that is spooled asks for them, and they change seldom
        self.unavailable_topics = frozenset(partition.topic for partition in self._circuits)


def _named(partitions: "dict[Partition, str] | list[Partition]") -> list[str]:
    named = sorted(f"{topic}/{number}" for topic, number in partitions)
    return named[:_NAMED_AT_ONCE]
