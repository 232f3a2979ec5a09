"""The embedded event log behind a thread of its own: many requests, one fsync."""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence

import structlog

from ingest.contract.eventlog import EventLog, LogFull
from ingest.contract.record import Record
from ingest.errors import NotDurable, Overloaded

log = structlog.get_logger(__name__)

_MAX_BATCH = 256
_MAX_WAITING = 10_000
_TRIM_EVERY_S = 60.0
_PROBE_EVERY_S = 1.0
_CLOSE_TIMEOUT_S = 5.0

_Waiting = tuple[Record, asyncio.Future[None]]


class EmbeddedLog:
    """Group commit: the thread takes whatever waits, up to a batch, and commits it at once."""

    def __init__(self, file: EventLog, *, retention_s: float) -> None:
        self._file = file
        self._retention_s = retention_s
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._failure: str | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="event log", daemon=True)
        self._thread.start()

    async def append(self, record: Record) -> None:
        """Returns after the fsync that covers the record."""
        if self._closing:
            raise NotDurable("the event log is closing")
        if self._queue.qsize() >= _MAX_WAITING:
            raise Overloaded("too many records wait for the disk")
        done = self._loop.create_future()
        self._queue.put((record, done))
        await done

    async def health(self) -> tuple[bool, str]:
        """The outcome of the latest commit."""
        if not self._thread.is_alive():
            return False, "the writer has stopped"
        return self._failure is None, self._failure or "the event log takes records"

    async def close(self) -> None:
        """Commits what waits, then closes the file."""
        self._closing = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            log.error("event log did not close in time; its records are safe once committed")
            return
        self._file.close()

    def _run(self) -> None:
        trim_at = time.monotonic()
        while True:
            until_trim_s = max(0.0, trim_at - time.monotonic())
            batch, last = self._next_batch(
                until_trim_s if self._failure is None else min(until_trim_s, _PROBE_EVERY_S)
            )
            if batch:
                self._commit(batch)
            elif self._failure is not None:
                self._probe()
            if last:
                return
            if time.monotonic() >= trim_at:
                # one slice between two commits, so that no commit waits long for a clean-up
                trimmed = self._trim()
                trim_at = time.monotonic() + (0.0 if trimmed else _TRIM_EVERY_S)

    def _next_batch(self, wait_s: float) -> tuple[list[_Waiting], bool]:
        batch: list[_Waiting] = []
        with contextlib.suppress(queue.Empty):
            item = self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait()
            while item is not None:
                batch.append(item)
                if len(batch) == _MAX_BATCH:
                    return batch, False
                item = self._queue.get_nowait()
            return batch, True
        return batch, False

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._file.append([record for record, _ in batch])
        except (sqlite3.Error, LogFull, OSError) as error:
            if self._failure is None:
                log.error("event log takes no records", cause=str(error))
            self._failure = str(error)
        else:
            self._failure = None
        with contextlib.suppress(RuntimeError):  # the loop is gone; so is whoever waited
            self._loop.call_soon_threadsafe(_settle, batch, self._failure)

    def _probe(self) -> None:
        """Finds out whether the disk takes records again, so that an unready process recovers."""
        try:
            self._file.probe()
        except (sqlite3.Error, LogFull, OSError) as error:
            self._failure = str(error)
        else:
            log.info("event log takes records again")
            self._failure = None

    def _trim(self) -> int:
        before_ms = int((time.time() - self._retention_s) * 1000)
        try:
            return self._file.trim(before_ms=before_ms)
        except sqlite3.Error as error:
            log.warning("event log could not be trimmed", cause=str(error))
            return 0


def _settle(batch: Sequence[_Waiting], failure: str | None) -> None:
    for _, done in batch:
        if done.done():
            continue
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(NotDurable(failure))
