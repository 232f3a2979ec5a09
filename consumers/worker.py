"""The trip: poll → decode → project → batch, and meanwhile the batch before: write → commit."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from consumers.batch import Batch, BatchBuilder
from consumers.batch_size import BatchSize
from consumers.dead_letters.dead_letter import DeadLetters
from consumers.decoder import read_rows
from consumers.errors import OffsetOutOfRange, Poison, TooManyPoisons
from consumers.filling import Filling
from consumers.metrics import Metrics
from consumers.retry import SINK_RETRY, retried
from consumers.sinks.base import Sink
from consumers.sources.base import Source
from consumers.values import DeadLetter, Projection
from ingest.contract.record import Record, StoredRecord
from ingest.shared.logs import place_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


_POLL_S = 0.5
"""A poll without records takes no longer, so that the end is seen soon."""


class _Outdated(Exception):
    """The batch belongs to an epoch that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large batches get, and after how many records in a row without rows the worker stops."""

    size: BatchSize = field(default_factory=BatchSize)
    max_poisons: int = 100


class Worker:
    """Carries records from one source to one sink until it is stopped.

    Two tasks: one reads, one writes. Between them is one batch that is being filled, beside the one
    that is being written; reading pauses while both are full.
    """

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        dead_letters: DeadLetters,
        dead_letter_record: Callable[[DeadLetter], Record],
        project: Projection,
        metrics: Metrics,
        limits: Limits,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._sink = sink
        self._dead_letters = dead_letters
        self._dead_letter_record = dead_letter_record
        self._project = project
        self._metrics = metrics
        self._limits = limits
        self._unix_s = unix_s
        self._filling = Filling(limits.size)
        self._writing: BatchBuilder | None = None
        self._out_of_range: OffsetOutOfRange | None = None
        self._poisons_in_a_row = 0
        self._busy_since_s: float | None = None
        self.is_reading = False
        metrics.watch_lag(records=self.lag_records, seconds=self.lag_seconds)

    async def run(self, stopping: asyncio.Event) -> None:
        """Works until `stopping` is set, then writes what it holds.

        Raises TooManyPoisons, OffsetOutOfRange, StartupError, and whatever source, sink and dead
        letters raise; what was not written comes again at the next start.
        """
        await retried(self._sink.open, SINK_RETRY, on_retry=self._sink_was_busy)
        self._busy_since_s = None
        await self._dead_letters.open()
        await self._source.open()
        self.is_reading = True
        log.info("reading", source_id=self._source.source_id)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                await self._read(stopping)
        except BaseExceptionGroup as group:
            # the first to fail ended the other
            raise group.exceptions[0] from None
        if self._out_of_range is not None:
            raise self._out_of_range

    async def _read(self, stopping: asyncio.Event) -> None:
        """Poll → decode → project → batch, while there is room."""
        timeout_s = min(_POLL_S, self._limits.size.flush_interval_s)
        try:
            while not stopping.is_set():
                polled = await self._source.poll(timeout_s=timeout_s)
                self._drop_what_is_outdated()
                self._metrics.read(len(polled.records))
                for record in polled.records:
                    self._take(record)
                self._filling.cover(polled.next_offsets, lag_records=self._source.lag_records)
                await self._filling.room()
        except OffsetOutOfRange as error:
            # what was read before is in no log any more, so it is written first
            self._out_of_range = error
        self._filling.end()

    async def _write(self) -> None:
        """One batch after the other, as they become due."""
        while await self._write_next():
            pass

    async def _write_next(self) -> bool:
        """Dead letters, then rows and offsets, then the source: each step may be repeated."""
        self._writing = await self._filling.take()
        if self._writing is None:
            return False
        batch = self._writing.freeze(self._source.source_id)
        try:
            await self._keep_dead_letters(batch)
            await self._write_rows(batch)
            await self._commit(batch)
        except _Outdated:
            self._busy_since_s = None
            self._metrics.dropped()
        self._writing = None
        return True

    @property
    def sink_is_free(self) -> bool:
        """Whether the store was free lately; short waits for it are everyday life."""
        if self._busy_since_s is None:
            return True
        return time.monotonic() - self._busy_since_s < SINK_RETRY.warn_after_s

    def lag_records(self) -> float:
        """Records that the log was seen to hold and the tables do not."""
        waiting = sum(batch.record_count for batch in self._batches())
        return waiting + (self._source.lag_records if self.is_reading else 0)

    def lag_seconds(self) -> float:
        """Age of the oldest record that waits to be written; 0 where none does."""
        times_ms = [batch.oldest_ms for batch in self._batches() if batch.oldest_ms is not None]
        return max(0.0, self._unix_s() - min(times_ms) / 1000) if times_ms else 0.0

    def _batches(self) -> list[BatchBuilder]:
        return [batch for batch in (self._writing, self._filling.batch) if batch is not None]

    def _take(self, record: StoredRecord) -> None:
        batch = self._filling.batch
        batch.weigh(value_bytes=len(record.value), timestamp_ms=record.timestamp_ms)
        try:
            rows = read_rows(record, self._project)
        except Poison as poison:
            self._dead_letter(DeadLetter(record=record, reason=poison.reason), poison)
        else:
            batch.add(rows)
            self._poisons_in_a_row = 0

    def _dead_letter(self, letter: DeadLetter, poison: Poison) -> None:
        place = f"{letter.record.topic}/{letter.record.partition}@{letter.record.offset}"
        self._poisons_in_a_row += 1
        if self._poisons_in_a_row >= self._limits.max_poisons:
            raise TooManyPoisons(self._poisons_in_a_row, f"{place} ({letter.reason})")
        log.warning(
            "record made a dead letter; see `forebay-consumers dlq list`",
            record=place,
            reason=letter.reason,
            at=place_of(poison.__cause__) if poison.__cause__ else None,
        )
        self._filling.batch.add_dead_letter(letter)

    async def _keep_dead_letters(self, batch: Batch) -> None:
        self._check_epoch(batch)
        if batch.dead_letters:
            await self._dead_letters.append(
                [self._dead_letter_record(letter) for letter in batch.dead_letters]
            )
            for letter in batch.dead_letters:
                self._metrics.dead_lettered(letter.reason)

    async def _write_rows(self, batch: Batch) -> None:
        began = time.monotonic()
        rows = await retried(
            lambda: self._try_to_write(batch), SINK_RETRY, on_retry=self._sink_was_busy
        )
        self._busy_since_s = None
        self._metrics.wrote(rows, seconds=time.monotonic() - began)

    async def _try_to_write(self, batch: Batch) -> Mapping[str, int]:
        self._check_epoch(batch)
        return await self._sink.write(batch)

    async def _commit(self, batch: Batch) -> None:
        # a revoked partition may have a new owner already, whose commit this would take back
        if batch.epoch == self._source.epoch:
            await self._source.commit(batch.next_offsets)

    def _check_epoch(self, batch: Batch) -> None:
        if batch.epoch != self._source.epoch:
            raise _Outdated

    def _drop_what_is_outdated(self) -> None:
        """After a rebalance, what was read may be another worker's, or will come again."""
        epoch = self._source.epoch
        if self._filling.batch.epoch != epoch and self._filling.begin(epoch=epoch):
            self._metrics.dropped()

    def _sink_was_busy(self) -> None:
        if self._busy_since_s is None:
            self._busy_since_s = time.monotonic()
        self._metrics.sink_was_busy()
