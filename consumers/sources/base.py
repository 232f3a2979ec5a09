"""The port of a source."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from consumers.values import NextOffsets, Partition, Polled

StoredOffsets = Callable[[str], Awaitable[NextOffsets]]
"""Asks the sink how far its tables are complete, for a source id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBounds:
    """What a log holds now: per partition the first offset, and the one after the last."""

    source_id: str
    partitions: Mapping[Partition, tuple[int, int]]


class Source(Protocol):
    """A log that is read from where the tables end.

    One task polls; another one, beside it, may commit.
    """

    @property
    def source_id(self) -> str:
        """Identifies the log, always the same; known once `open` has returned."""
        ...

    @property
    def epoch(self) -> int:
        """Grows whenever reading begins again at the stored offsets.

        What was polled in an older epoch is no longer ours to write, or will be polled again.
        """
        ...

    @property
    def lag_records(self) -> int:
        """Records that the log held when last looked at, and that `poll` has yet to return."""
        ...

    async def open(self) -> None:
        """Connects, waiting as long as the log is not there. Raises StartupError.

        May be cancelled; `close` is to be called even then.
        """
        ...

    async def poll(self, *, timeout_s: float) -> Polled:
        """The next records, in order per partition, after at most `timeout_s` or so; may be none.

        Repeats nothing within an epoch. Raises OffsetOutOfRange.
        """
        ...

    async def commit(self, next_offsets: NextOffsets) -> None:
        """Tells the log how far the tables are complete, for onlookers; failure is only logged."""
        ...

    async def close(self) -> None:
        """Lets go of the log. Must be called once, even if `open` failed."""
        ...


class WatchedSource(Source, Protocol):
    """A source that keeps its lag true while nobody polls, and knows when records are lost."""

    @property
    def seconds_to_loss(self) -> float:
        """Until the log's retention removes a record that was not committed, or later than that.

        Infinite where none waits, NaN where nobody can tell. True while `watch_end` runs.
        """
        ...

    async def watch_end(self) -> None:
        """Runs until it is cancelled, beside the task that polls."""
        ...
