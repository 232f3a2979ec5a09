"""A source in memory, dead letters in memory, and ports that break when told to."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from consumers.batch import Batch
from consumers.errors import OffsetOutOfRange, SinkBusy
from consumers.sinks.base import Sink
from consumers.sources.base import StoredOffsets
from consumers.values import NOTHING_POLLED, NextOffsets, Partition, Polled
from ingest.contract.record import Record, StoredRecord
from tests.unit.consumers.builders import stored_as

READ_LIMIT = 5


class MemorySource:
    """Reads a list of records of one topic each; `on_idle` is called when there is nothing new."""

    source_id = "memory"
    seconds_to_loss = math.inf

    def __init__(
        self,
        records: list[StoredRecord],
        *,
        stored_offsets: StoredOffsets,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._records = records
        self._stored_offsets = stored_offsets
        self._on_idle = on_idle
        self._position = 0
        self.epoch = 1
        self.committed: dict[Partition, int] = {}
        self.commits = 0

    @property
    def lag_records(self) -> int:
        return len(self._records) - self._position

    async def open(self) -> None:
        await self._place()

    async def poll(self, *, timeout_s: float) -> Polled:
        await asyncio.sleep(0)  # as if the log were elsewhere
        records = self._records[self._position : self._position + READ_LIMIT]
        if not records:
            self._on_idle()
            return NOTHING_POLLED
        self._position += len(records)
        return Polled(
            records=records,
            next_offsets={Partition(r.topic, r.partition): r.offset + 1 for r in records},
        )

    async def commit(self, next_offsets: NextOffsets) -> None:
        self.committed |= next_offsets
        self.commits += 1

    async def watch_end(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass

    async def rebalance(self) -> None:
        """What a change of assignment does: reading begins again at the stored offsets."""
        self.epoch += 1
        await self._place()

    async def _place(self) -> None:
        stored = await self._stored_offsets(self.source_id)
        position = max(stored.values(), default=0)
        if position > len(self._records):
            raise OffsetOutOfRange(
                Partition("memory", 0), stored=position, first=0, next_=len(self._records)
            )
        self._position = position


@dataclass
class MemoryDeadLetters:
    """Keeps what it is given."""

    kept: list[StoredRecord] = field(default_factory=list)

    async def open(self) -> None:
        pass

    async def append(self, records: Sequence[Record]) -> None:
        self.kept += [stored_as(record, len(self.kept) + n) for n, record in enumerate(records)]

    async def records(self) -> AsyncGenerator[StoredRecord, None]:
        for record in self.kept:
            yield record

    async def close(self) -> None:
        pass


class Crash(Exception):
    """The process is gone."""


@dataclass
class Fuse:
    """Blows at the `blows_at`th point that is passed, counted from 1; 0 never blows."""

    blows_at: int = 0
    passed: int = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.blows_at:
            raise Crash


@dataclass
class FusedSink:
    """May crash before and after every write."""

    sink: Sink
    fuse: Fuse

    async def open(self) -> None:
        await self.sink.open()

    async def stored_offsets(self, source_id: str) -> NextOffsets:
        return await self.sink.stored_offsets(source_id)

    async def write(self, batch: Batch) -> Mapping[str, int]:
        self.fuse.point()
        written = await self.sink.write(batch)
        self.fuse.point()
        return written

    async def close(self) -> None:
        await self.sink.close()


@dataclass
class FusedDeadLetters(MemoryDeadLetters):
    """May crash before, amid and after what it keeps."""

    fuse: Fuse = field(default_factory=Fuse)

    async def append(self, records: Sequence[Record]) -> None:
        for record in records:
            self.fuse.point()
            await super().append([record])
        self.fuse.point()


@dataclass
class FusedSource:
    """May crash before and after every commit."""

    source: MemorySource
    fuse: Fuse

    @property
    def source_id(self) -> str:
        return self.source.source_id

    @property
    def epoch(self) -> int:
        return self.source.epoch

    @property
    def lag_records(self) -> int:
        return self.source.lag_records

    async def open(self) -> None:
        await self.source.open()

    async def poll(self, *, timeout_s: float) -> Polled:
        return await self.source.poll(timeout_s=timeout_s)

    async def commit(self, next_offsets: NextOffsets) -> None:
        self.fuse.point()
        await self.source.commit(next_offsets)
        self.fuse.point()

    async def close(self) -> None:
        await self.source.close()


@dataclass
class GatedSink:
    """Writes what it is given only while the gate is open."""

    sink: Sink
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[Batch] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def open(self) -> None:
        await self.sink.open()

    async def stored_offsets(self, source_id: str) -> NextOffsets:
        return await self.sink.stored_offsets(source_id)

    async def write(self, batch: Batch) -> Mapping[str, int]:
        self.begun.append(batch)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.gate.wait()
        self.under_way -= 1
        return await self.sink.write(batch)

    async def close(self) -> None:
        await self.sink.close()


@dataclass
class BusySink:
    """Busy for the first `times` writes; `meanwhile` is awaited at each of them."""

    sink: Sink
    times: int
    meanwhile: Callable[[], Awaitable[None]]

    async def open(self) -> None:
        await self.sink.open()

    async def stored_offsets(self, source_id: str) -> NextOffsets:
        return await self.sink.stored_offsets(source_id)

    async def write(self, batch: Batch) -> Mapping[str, int]:
        if self.times > 0:
            self.times -= 1
            await self.meanwhile()
            raise SinkBusy("somebody reads")
        return await self.sink.write(batch)

    async def close(self) -> None:
        await self.sink.close()
