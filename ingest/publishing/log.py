"""What a log must do for us, and how it says no."""

from typing import NamedTuple, Protocol

from ingest.contract.record import Record


class Partition(NamedTuple):
    """Where a record goes in a log: the unit that fails by itself.

    `number` is -1 while the log does not know the topic.
    """

    topic: str
    number: int


class Log(Protocol):
    """A durable log, Kafka or the embedded one. Safe for many callers of one event loop."""

    def partitions_of(self, topic: str) -> int:
        """How many partitions the topic has now, 0 if the log does not know it."""

    def partition_of(self, record: Record) -> Partition:
        """Where the record would go now. Does not block."""

    async def append(self, record: Record, *, urgent: bool = True, probing: bool = False) -> None:
        """Returns once the record is durable, within the log's own time limit.

        An urgent one is refused at once where it would wait for long. A probing one may find its
        partition still unavailable, and holds up no other.

        Raises PartitionUnavailable or TopicRefused where it is the partition or topic that takes
        nothing, Overloaded where the log is too slow now, RecordTooLarge, and NotDurable where the
        log as a whole takes nothing. After all but RecordTooLarge the record may be there or not,
        so that appending it again can only repeat it. Not affected by the caller's cancellation.
        """

    async def health(self) -> tuple[bool, str]:
        """Whether the log as a whole takes records now, and a line that says why or why not."""
