"""One file, one thread: file calls off the event loop, bounded in time, and whether they work."""

import asyncio
import errno
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

from ingest.contract.eventlog.logfile import LogFull
from ingest.errors import NotDurable

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

_PRIMARY_CODE = 0xFF  # SQLite's extended result codes say more in the higher bits
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})


class NoRoom(NotDurable):
    """A bound has been reached."""


class DiskFull(NoRoom):
    """The disk has no room for it."""


class Disk:
    """Calls a file in a thread of its own; `name` is what log lines call it.

    `failure` says what the latest call found wrong, None if it worked. `corrupt` is set by a call
    that found the file damaged, and stays set.
    """

    def __init__(self, name: str, *, timeout_s: float) -> None:
        self.failure: str | None = None
        self.corrupt = False
        self._name = name
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._late: asyncio.Future[Any] | None = None

    async def attempt(
        self, call: Callable[[], Result], *, when_late: Callable[[Result], None] | None = None
    ) -> Result:
        """The call's result. Raises NoRoom, DiskFull or NotDurable.

        A call that takes too long goes on in its thread, and others are refused until it ends;
        `when_late` gets its result then.
        """
        if self._late is not None:
            raise NotDurable(self.failure)
        future = asyncio.get_running_loop().run_in_executor(self._thread, call)
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await asyncio.shield(future)
        except TimeoutError as error:
            self._watch(future, when_late)
            raise self._failed(NotDurable, "it takes too long") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            self.corrupt |= code & _PRIMARY_CODE in _CORRUPT_CODES
            kind = DiskFull if code in _FULL_CODES else NotDurable
            raise self._failed(kind, str(error)) from error
        except LogFull as error:
            raise self._failed(NoRoom, str(error)) from error
        except OSError as error:
            kind = DiskFull if error.errno == errno.ENOSPC else NotDurable
            raise self._failed(kind, str(error)) from error
        if self.failure is not None:
            log.info("records are taken again", by=self._name)
            self.failure = None
        return result

    async def close(self, call: Callable[[], None]) -> None:
        """Makes the last call, and ends the thread. Waits no longer than any call may take."""
        if self._late is None:
            future = asyncio.get_running_loop().run_in_executor(self._thread, call)
            await asyncio.wait([future], timeout=self._timeout_s)
        self._thread.shutdown(wait=False)

    def _failed(self, kind: type[NotDurable], cause: str) -> NotDurable:
        if self.failure is None:
            log.error("no records are taken", by=self._name, cause=cause)
        self.failure = f"{self._name}: {cause}"
        return kind(self.failure)

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
