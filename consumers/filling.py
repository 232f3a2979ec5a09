"""The batch that is filled while the one before is written."""

import asyncio
import contextlib

from consumers.batch import BatchBuilder
from consumers.batch_size import BatchSize
from consumers.values import NextOffsets


class Filling:
    """One batch between the task that reads and the task that writes, on one event loop.

    The reader adds to `batch`, and waits in `room` while it is full. The writer waits in `take`.
    So there is one batch in the writer's hands at most, and one here.
    """

    def __init__(self, size: BatchSize) -> None:
        self._size = size
        self._lag_records = 0
        self._ended = False
        self._changed, self._taken = asyncio.Event(), asyncio.Event()
        self._first_at_s: float | None = None
        self.batch = self._empty(epoch=0)

    async def room(self) -> None:
        """Returns once the batch is not full, after a turn for whoever else has something to do."""
        await asyncio.sleep(0)  # a poll of what was fetched already has not given them one
        while self.batch.is_full:
            self._taken.clear()
            await self._taken.wait()

    def begin(self, *, epoch: int) -> bool:
        """Begins a batch of this epoch; returns whether anything was given up for it."""
        given_up = self._replace(epoch=epoch)
        return not given_up.is_empty

    def cover(self, next_offsets: NextOffsets, *, lag_records: int) -> None:
        """All that is before these offsets has been added; so many records are yet unread."""
        self.batch.cover(next_offsets)
        self._lag_records = lag_records
        if self._first_at_s is None and not self.batch.is_empty:
            self._first_at_s = self._now_s()
        self._changed.set()

    def end(self) -> None:
        """Nothing more comes: what is here is due."""
        self._ended = True
        self._changed.set()

    async def take(self) -> BatchBuilder | None:
        """The batch as soon as it is due or full, and another one begins; None after the end."""
        while not self._is_due():
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._due_at_s()):
                    await self._changed.wait()
        if self.batch.is_empty:
            return None
        self._taken.set()
        return self._replace(epoch=self.batch.epoch)

    def _replace(self, *, epoch: int) -> BatchBuilder:
        replaced, self.batch = self.batch, self._empty(epoch=epoch)
        self._first_at_s = None
        return replaced

    def _empty(self, *, epoch: int) -> BatchBuilder:
        return BatchBuilder(
            epoch=epoch, max_rows=self._size.max_rows, max_bytes=self._size.max_bytes
        )

    def _is_due(self) -> bool:
        due_at_s = self._due_at_s()
        is_late = due_at_s is not None and self._now_s() >= due_at_s
        return self._ended or is_late or self.batch.is_full

    def _due_at_s(self) -> float | None:
        if self._first_at_s is None:
            return None
        return self._first_at_s + self._size.interval_s(lag_records=self._lag_records)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
