"""What a log must do for us, and how it says no."""

from typing import Protocol

from ingest.contract.record import Record


class Log(Protocol):
    """A durable log, Kafka or the embedded one. Safe for many callers of one event loop."""

    async def append(self, record: Record) -> None:
        """Returns once the record is durable, within the log's own time limit.

        Raises NotDurable or Overloaded, TopicRefused or RecordTooLarge otherwise. After NotDurable
        the record may be there or not, so that appending it again can only repeat it. Not affected
        by the caller's cancellation.
        """

    async def health(self) -> tuple[bool, str]:
        """Whether a record could be made durable now, and a line that says why or why not."""

    async def close(self) -> None:
        """Makes durable what was taken, within a bound, and lets go of everything."""
