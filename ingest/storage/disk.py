"""One file, one thread: file calls off the event loop, bounded in time, and whether writing works.

Whether writing works is decided by writes alone: a file that can be read says nothing about it.
"""

import asyncio
import errno
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

from ingest.contract.eventlog.logfile import LogFileError, LogFull
from ingest.errors import DiskFull, NoRoom, NotDurable

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

_PRIMARY_CODE = 0xFF  # SQLite's extended result codes say more in the higher bits
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})
_WHAT_TO_DO: dict[type[NotDurable], str] = {
    DiskFull: "free space on its disk",
    NoRoom: "raise its limit in bytes, or let it empty",
    NotDurable: "check its disk and who may write there",
}


class Disk:
    """Calls a file in a thread of its own; `name` is what log lines call it.

    `failure` says why records cannot be written, None if they can. `suspect` is set by any call
    that failed, until a write works: reason enough to probe. `corrupt` is set by a call that found
    the file damaged; whoever repairs the file clears it.
    """

    def __init__(self, name: str, *, timeout_s: float) -> None:
        self.failure: str | None = None
        self.suspect = False
        self.corrupt = False
        self._name = name
        self._call_failed = f"{name} call failed"
        self._write_failed = f"{name} write failed"
        self._works_again = f"{name} writes work again"
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._late: asyncio.Future[Any] | None = None

    async def write(
        self, call: Callable[[], Result], *, when_late: Callable[[Result], None] | None = None
    ) -> Result:
        """`call`, for one that appends or probes: its outcome is the file's health from then on."""
        try:
            result = await self._attempt(call, when_late)
        except NotDurable as error:
            self._cannot_write(error)
            raise
        if self.failure is not None:
            log.info(self._works_again)
        self.failure, self.suspect = None, False
        return result

    async def call(
        self, call: Callable[[], Result], *, when_late: Callable[[Result], None] | None = None
    ) -> Result:
        """The call's result. Raises NoRoom, DiskFull or NotDurable.

        A call that takes too long goes on in its thread, and others are refused until it ends;
        `when_late` gets its result then.
        """
        try:
            return await self._attempt(call, when_late)
        except NotDurable as error:
            if self.failure is None:
                log.warning(self._call_failed, cause=str(error), do=_WHAT_TO_DO[type(error)])
            raise

    async def close(self, call: Callable[[], None]) -> None:
        """Makes the last call, and ends the thread. Waits no longer than any call may take."""
        if self._late is None:
            future = asyncio.get_running_loop().run_in_executor(self._thread, call)
            await asyncio.wait([future], timeout=self._timeout_s)
        self._thread.shutdown(wait=False)

    async def _attempt(
        self, call: Callable[[], Result], when_late: Callable[[Result], None] | None
    ) -> Result:
        if self._late is not None:
            raise NotDurable(f"{self._name}: the disk has not answered yet")
        future = asyncio.get_running_loop().run_in_executor(self._thread, call)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(future)
        except TimeoutError as error:
            self._watch(future, when_late)
            late = self._failed(NotDurable, "the disk takes too long")
            self._cannot_write(late)  # whatever was asked, nothing else gets through
            raise late from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            self.corrupt |= code & _PRIMARY_CODE in _CORRUPT_CODES
            kind = DiskFull if code in _FULL_CODES else NotDurable
            raise self._failed(kind, str(error)) from error
        except LogFull as error:
            raise self._failed(NoRoom, str(error)) from error
        except LogFileError as error:
            raise self._failed(NotDurable, str(error)) from error
        except OSError as error:
            kind = DiskFull if error.errno == errno.ENOSPC else NotDurable
            raise self._failed(kind, str(error)) from error

    def _failed(self, kind: type[NotDurable], cause: str) -> NotDurable:
        self.suspect = True
        return kind(f"{self._name}: {cause}")

    def _cannot_write(self, error: NotDurable) -> None:
        if self.failure is None:
            log.error(self._write_failed, cause=str(error), do=_WHAT_TO_DO[type(error)])
        self.failure = str(error)

    def _watch(
        self, future: asyncio.Future[Result], when_late: Callable[[Result], None] | None
    ) -> None:
        self._late = future

        def ended(future: asyncio.Future[Result]) -> None:
            if self._late is future:  # of two that are late, the last one counts
                self._late = None
            if not future.cancelled() and future.exception() is None and when_late is not None:
                when_late(future.result())

        future.add_done_callback(ended)
