"""The port of a sink."""

from collections.abc import Mapping
from typing import Protocol

from consumers.batch import Batch
from consumers.values import NextOffsets


class Sink(Protocol):
    """A store of tables, written by one worker at a time. Called from one task only."""

    async def open(self) -> None:
        """Makes the tables that are always there, and views. Raises StartupError, or SinkBusy."""
        ...

    async def stored_offsets(self, source_id: str) -> NextOffsets:
        """How far this worker's tables are complete for a source. Raises SinkBusy."""
        ...

    async def write(self, batch: Batch) -> Mapping[str, int]:
        """Writes rows and offsets in one transaction; returns the number of new rows per table.

        A row whose `event_id` the table has changes nothing, so a batch may be repeated. Makes
        tables and columns that are missing. A stored offset never goes back. Raises SinkBusy
        with nothing written, or with all of it where that cannot be known; any other error may
        mean either. May wait, to leave others room, or before it asks again.
        """
        ...

    async def close(self) -> None:
        """Lets go of the store. Must be called once, even if `open` failed."""
        ...


class OffsetStore(Protocol):
    """What a sink lets operators do with this worker's offsets."""

    async def all_offsets(self) -> Mapping[str, NextOffsets]:
        """By source id. Raises SinkBusy."""
        ...

    async def replace_offsets(self, source_id: str, offsets: NextOffsets) -> None:
        """From now on these are all that is stored for the source.

        Raises WorkerRunning while a sink of this worker is open, or SinkBusy.
        """
        ...


class Store(Sink, OffsetStore, Protocol):
    """What the settings name: a worker writes it, and operators look after its offsets."""
