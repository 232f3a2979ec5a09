"""Dead letters of workers on the embedded log: an event log file of the worker's own."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from consumers.errors import StartupError
from ingest.contract.eventlog.eventlog import (
    APPEND_LIMIT,
    EventLog,
    EventLogReader,
    LogFileError,
)
from ingest.contract.record import Record, StoredRecord

_UNBOUNDED_BYTES = 2**62

Result = TypeVar("Result")


class EmbeddedDeadLetters:
    """The file `dead-letters.<worker>.sqlite3`."""

    def __init__(self, data_dir: Path, *, worker: str) -> None:
        self._path = data_dir / f"dead-letters.{worker}.sqlite3"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forebay-dead-letters")
        self._log: EventLog | None = None

    async def open(self) -> None:
        """Opens the file, making it if there is none."""
        try:
            self._log = await self._in_thread(
                lambda: EventLog.open(self._path, max_bytes=_UNBOUNDED_BYTES)
            )
        except (LogFileError, OSError) as error:
            raise StartupError(f"dead letters cannot be kept: {error}") from error

    async def append(self, records: Sequence[Record]) -> None:
        """One commit for all, or for as many as fit into one."""
        log = self._log
        if log is None:
            raise RuntimeError("the dead letters are not open")
        for at in range(0, len(records), APPEND_LIMIT):
            part = records[at : at + APPEND_LIMIT]
            await self._in_thread(partial(log.append, part))

    async def records(self) -> AsyncGenerator[StoredRecord, None]:
        """In short reads. Raises LogFileError."""
        if not self._path.exists():
            return
        reader = await self._in_thread(lambda: EventLogReader.open(self._path))
        try:
            position = 1
            while found := await self._in_thread(partial(reader.read, position)):
                position = found[-1].offset + 1
                for record in found:
                    yield record
        except sqlite3.Error as error:
            raise LogFileError(f"{self._path} cannot be read: {error}") from error
        finally:
            await self._in_thread(reader.close)

    async def close(self) -> None:
        """Closes the file."""
        if self._log is not None:
            await self._in_thread(self._log.close)
        self._thread.shutdown()

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
