"""The embedded event log as a source."""

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from consumers.errors import OffsetOutOfRange, StartupError
from consumers.sources.base import LogBounds, StoredOffsets
from consumers.sources.loss import LossWatch, Unwritten
from consumers.values import ALL_TOPICS, NOTHING_POLLED, NextOffsets, Partition, Polled
from ingest.contract.eventlog.eventlog import READ_LIMIT, EventLogReader, LogFileError
from ingest.contract.eventlog.eventlog import LogBounds as FileBounds
from ingest.contract.record import StoredRecord

IDLE_S = 0.05
"""Pause between two looks at a log that has nothing new."""

READ_BYTES = 8 * 1024 * 1024
"""Bytes that one read aims at; large records are read fewer at a time."""

LOOK_AT_END_EVERY_S = 2.0

UNREADABLE_S = 5.0
"""How long a file may be no event log, since its maker may still be at it."""

Result = TypeVar("Result")

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class EmbeddedSource:
    """Reads the log's file in a thread. There is one reader per worker, so the epoch never ends."""

    epoch = 1

    def __init__(
        self,
        path: Path,
        *,
        topic_pattern: str,
        stored_offsets: StoredOffsets,
        retention_s: float = math.inf,
    ) -> None:
        self._path = path
        self._pattern = re.compile(topic_pattern)
        self._stored_offsets = stored_offsets
        # one thread, so that closing waits for a read that nobody awaits any more
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forebay-eventlog")
        self._reader: EventLogReader | None = None
        self._retention_s = retention_s
        self._loss = LossWatch()
        self._position = 0
        self._written = 0
        self._end = 0
        self._limit = READ_LIMIT

    @property
    def source_id(self) -> str:
        """The log file's own id."""
        return self._opened().log_id

    @property
    def lag_records(self) -> int:
        """Records of all topics; those not for us are few."""
        return max(0, self._end - self._position)

    @property
    def seconds_to_loss(self) -> float:
        """By the age of the oldest record that is not committed."""
        return self._loss.seconds

    async def open(self) -> None:
        """Waits for the file to appear, then goes to where the tables end."""
        self._reader = await self._wait_for_reader()
        await self._begin_at(await self._stored_offsets(self._reader.log_id))

    async def poll(self, *, timeout_s: float) -> Polled:
        """Looks again and again until there is something or the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            records = await self._in_thread(self._read)
            if records:
                return self._polled(records)
            if loop.time() >= deadline:
                return NOTHING_POLLED
            await asyncio.sleep(min(IDLE_S, max(0.0, deadline - loop.time())))

    async def commit(self, next_offsets: NextOffsets) -> None:
        """Notes what is written: nobody but the sink keeps positions."""
        self._written = max(self._written, *next_offsets.values())

    async def watch_end(self) -> None:
        """Looks at the log's end every few seconds, also while nobody polls."""
        while True:
            await asyncio.sleep(LOOK_AT_END_EVERY_S)
            if self._reader is not None:
                await self._in_thread(self._look_at_end)

    async def close(self) -> None:
        """Closes the file."""
        if self._reader is not None:
            await self._in_thread(self._reader.close)
        self._thread.shutdown()

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _wait_for_reader(self) -> EventLogReader:
        loop = asyncio.get_running_loop()
        log.info("opening the event log, once it is there", path=str(self._path))
        seen_at: float | None = None
        while True:
            try:
                return await self._in_thread(lambda: EventLogReader.open(self._path))
            except LogFileError as error:
                if self._path.exists():
                    seen_at = loop.time() if seen_at is None else seen_at
                    if loop.time() - seen_at > UNREADABLE_S:
                        raise StartupError(str(error)) from error
            await asyncio.sleep(IDLE_S)

    async def _begin_at(self, stored: NextOffsets) -> None:
        bounds = await self._in_thread(self._opened().bounds)
        # all topics share one sequence of offsets, so the greatest is where reading ended
        position = max(stored.values(), default=bounds.first)
        if not bounds.first <= position <= bounds.next:
            raise _out_of_range(ALL_TOPICS, position, bounds)
        self._position = self._written = position

    def _look_at_end(self) -> None:
        reader = self._opened()
        self._end = reader.bounds().next
        self._loss.look(
            Unwritten(
                where=ALL_TOPICS.topic,
                appended_s=record.timestamp_ms / 1000,
                retention_s=self._retention_s,
            )
            for record in reader.read(self._written, limit=1)
        )

    def _read(self) -> list[StoredRecord]:
        reader = self._opened()
        records = reader.read(self._position, limit=self._limit)
        bounds = reader.bounds()
        self._end = bounds.next
        if bounds.first > self._position and not (records and records[0].offset < bounds.first):
            raise _out_of_range(ALL_TOPICS, self._position, bounds)
        return records

    def _polled(self, records: Sequence[StoredRecord]) -> Polled:
        self._position = records[-1].offset + 1
        self._limit = _limit_after(records)
        return Polled(
            # of a damaged record the topic is as doubtful as the rest
            records=[r for r in records if r.damaged or self._pattern.match(r.topic)],
            next_offsets={Partition(r.topic, r.partition): r.offset + 1 for r in records},
        )

    def _opened(self) -> EventLogReader:
        if self._reader is None:
            raise RuntimeError("the source is not open")
        return self._reader


def embedded_bounds(path: Path) -> LogBounds:
    """All topics share one sequence of offsets. Blocking. Raises LogFileError."""
    reader = EventLogReader.open(path)
    try:
        bounds = reader.bounds()
    finally:
        reader.close()
    return LogBounds(source_id=reader.log_id, partitions={ALL_TOPICS: (bounds.first, bounds.next)})


def _limit_after(records: Sequence[StoredRecord]) -> int:
    mean_bytes = sum(len(record.value) for record in records) // len(records) + 1
    return max(1, min(READ_LIMIT, READ_BYTES // mean_bytes))


def _out_of_range(partition: Partition, position: int, bounds: FileBounds) -> OffsetOutOfRange:
    return OffsetOutOfRange(partition, stored=position, first=bounds.first, next_=bounds.next)
