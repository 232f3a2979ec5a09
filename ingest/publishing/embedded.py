"""The embedded event log behind a thread of its own: many requests, one fsync."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterable

import structlog

from ingest.contract.eventlog.eventlog import APPEND_LIMIT, EventLog
from ingest.contract.record import Record
from ingest.errors import NotDurable, Overloaded
from ingest.publishing.log import Partition
from ingest.storage.disk import Disk
from ingest.storage.group_commit import GroupCommit

log = structlog.get_logger(__name__)

_MAX_WAITING = 10_000
_PROBE_EVERY_S = 1.0
_TRIM_EVERY_S = 60.0
_COMMIT_TIMEOUT_S = 4.0
_CLOSE_TIMEOUT_S = 5.0


class EmbeddedLog:
    """Appends whatever waits, up to a batch, in one commit."""

    def __init__(self, file: EventLog, *, retention_s: float) -> None:
        self._file = file
        self._retention_s = retention_s
        self._commits = GroupCommit[Record](self._append)
        self._disk = Disk("event log", timeout_s=_COMMIT_TIMEOUT_S)
        self._closing = False
        self._tending = asyncio.create_task(self._tend(), name="event log")

    def partitions_of(self, topic: str) -> int:
        """Every topic has one."""
        return 1

    def partition_of(self, record: Record) -> Partition:
        """Always the first."""
        return Partition(record.topic, 0)

    async def append(self, record: Record, *, urgent: bool = True, probing: bool = False) -> None:
        """Returns after the fsync that covers the record."""
        if self._closing:
            raise NotDurable("the event log is closing")
        if len(self._commits) >= _MAX_WAITING:
            raise Overloaded("too many records wait for the disk")
        await self._commits.append(record)

    async def health(self) -> tuple[bool, str]:
        """The outcome of the latest commit."""
        return self._disk.failure is None, self._disk.failure or "the event log takes records"

    async def close(self) -> None:
        """Commits what waits, then closes the file."""
        self._closing = True
        self._tending.cancel()
        if not await self._commits.finish(_CLOSE_TIMEOUT_S):
            log.error("event log did not finish in time; what it did not commit got no 2xx")
            return
        await self._disk.close(self._file.close)

    async def _append(self, records: Iterable[Record]) -> int:
        batch = list(itertools.islice(records, APPEND_LIMIT))
        await self._disk.attempt(lambda: self._file.append(batch))
        return len(batch)

    async def _tend(self) -> None:
        """Trims slice by slice between commits; after a failure finds out when it is over."""
        clock = asyncio.get_running_loop().time
        trim_at = clock()
        while True:
            await asyncio.sleep(_PROBE_EVERY_S)
            with contextlib.suppress(NotDurable):
                if self._disk.failure is not None or clock() >= trim_at:
                    trim_at = clock() + _TRIM_EVERY_S
                    while await self._disk.attempt(self._trim):
                        pass
                if self._disk.failure is not None:
                    await self._disk.attempt(self._file.probe)

    def _trim(self) -> int:
        return self._file.trim(before_ms=int((time.time() - self._retention_s) * 1000))
