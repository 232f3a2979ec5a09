"""The trip: poll → decode → project → batch → write → commit."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from consumers.batch import Batch, BatchBuilder
from consumers.dead_letters.dead_letter import DeadLetters
from consumers.decoder import read_rows
from consumers.errors import Poison, TooManyPoisons
from consumers.metrics import Metrics
from consumers.retry import SINK_RETRY, retried
from consumers.sinks.base import Sink
from consumers.sources.base import Source
from consumers.values import DeadLetter, Projection
from ingest.contract.record import Record, StoredRecord
from ingest.shared.logs import place_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class _Outdated(Exception):
    """The batch belongs to an epoch that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a batch is written: once its first record has waited, or it is full.

    `max_poisons` records in a row that no rows can be made of stop the worker.
    """

    flush_interval_s: float = 0.5
    max_rows: int = 10_000
    max_bytes: int = 32 * 1024 * 1024
    max_poisons: int = 100


class Worker:
    """Carries records from one source to one sink until it is stopped."""

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
        self._next_batch = self._new_batch(epoch=0)
        self._flush_at: float | None = None
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
        while not stopping.is_set():
            polled = await self._source.poll(timeout_s=self._until_flush_s())
            self._drop_what_is_outdated()
            for record in polled.records:
                self._take(record)
            self._next_batch.cover(polled.next_offsets)
            if self._is_due():
                await self._flush()
        await self._flush()

    @property
    def sink_is_free(self) -> bool:
        """Whether the store was free lately; short waits for it are everyday life."""
        if self._busy_since_s is None:
            return True
        return time.monotonic() - self._busy_since_s < SINK_RETRY.warn_after_s

    def lag_records(self) -> float:
        """Records that the log was seen to hold and the tables do not."""
        waiting = self._next_batch.record_count
        return waiting + (self._source.lag_records if self.is_reading else 0)

    def lag_seconds(self) -> float:
        """Age of the oldest record that waits to be written; 0 where none does."""
        oldest_ms = self._next_batch.oldest_ms
        return 0.0 if oldest_ms is None else max(0.0, self._unix_s() - oldest_ms / 1000)

    def _take(self, record: StoredRecord) -> None:
        self._metrics.read(1)
        self._next_batch.weigh(value_bytes=len(record.value), timestamp_ms=record.timestamp_ms)
        try:
            rows = read_rows(record, self._project)
        except Poison as poison:
            self._dead_letter(DeadLetter(record=record, reason=poison.reason), poison)
        else:
            self._next_batch.add(rows)
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
        self._next_batch.add_dead_letter(letter)

    async def _flush(self) -> None:
        """Dead letters, then rows and offsets, then the source: each step may be repeated."""
        self._flush_at = None
        if self._next_batch.is_empty:
            return
        batch = self._next_batch.freeze(self._source.source_id)
        try:
            await self._keep_dead_letters(batch)
            await self._write(batch)
        except _Outdated:
            self._drop_what_is_outdated()
            return
        self._next_batch = self._new_batch(epoch=batch.epoch)
        await self._source.commit(batch.next_offsets)

    async def _keep_dead_letters(self, batch: Batch) -> None:
        if batch.dead_letters:
            await self._dead_letters.append(
                [self._dead_letter_record(letter) for letter in batch.dead_letters]
            )
            for letter in batch.dead_letters:
                self._metrics.dead_lettered(letter.reason)

    async def _write(self, batch: Batch) -> None:
        began = time.monotonic()
        rows = await retried(
            lambda: self._try_to_write(batch), SINK_RETRY, on_retry=self._sink_was_busy
        )
        self._busy_since_s = None
        self._metrics.wrote(rows, seconds=time.monotonic() - began)

    async def _try_to_write(self, batch: Batch) -> Mapping[str, int]:
        if batch.epoch != self._source.epoch:
            raise _Outdated
        return await self._sink.write(batch)

    def _sink_was_busy(self) -> None:
        if self._busy_since_s is None:
            self._busy_since_s = time.monotonic()
        self._metrics.sink_was_busy()

    def _drop_what_is_outdated(self) -> None:
        """After a rebalance, what was read may be another worker's, or will come again."""
        if self._next_batch.epoch != self._source.epoch:
            if not self._next_batch.is_empty:
                self._metrics.dropped()
            self._next_batch = self._new_batch(epoch=self._source.epoch)
            self._flush_at = None

    def _until_flush_s(self) -> float:
        if self._flush_at is None:
            return self._limits.flush_interval_s
        return max(0.0, self._flush_at - time.monotonic())

    def _is_due(self) -> bool:
        if self._next_batch.is_empty:
            return False
        if self._flush_at is None:
            self._flush_at = time.monotonic() + self._limits.flush_interval_s
        return self._next_batch.is_full or time.monotonic() >= self._flush_at

    def _new_batch(self, *, epoch: int) -> BatchBuilder:
        return BatchBuilder(
            epoch=epoch, max_rows=self._limits.max_rows, max_bytes=self._limits.max_bytes
        )
