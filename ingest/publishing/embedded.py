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
        self._disk.suspect = True  # it may be at its bound from the start, so the first look probes
        self._closing = False
        self._trim_at = 0.0

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
        """The outcome of the latest commit or probe."""
        return self._disk.failure is None, self._disk.failure or "the event log takes records"

    async def run(self) -> None:
        """Trims between commits, and after a failure finds out when it is over. Does not end."""
        while True:
            with contextlib.suppress(NotDurable):
                await self._trim_what_is_old()
            if self._disk.suspect:
                with contextlib.suppress(NotDurable):
                    await self._disk.write(self._file.probe)
            await asyncio.sleep(_PROBE_EVERY_S)

    async def close(self) -> None:
        """Commits what waits, then closes the file."""
        self._closing = True
        if not await self._commits.finish(_CLOSE_TIMEOUT_S):
            log.error("event log close timed out: what it did not commit got no 2xx")
            return
        await self._disk.close(self._file.close)

    async def _append(self, records: Iterable[Record]) -> int:
        batch = list(itertools.islice(records, APPEND_LIMIT))
        await self._disk.write(lambda: self._file.append(batch))
        return len(batch)

    async def _trim_what_is_old(self) -> None:
        """In slices; at once if nothing can be written, for that may make room."""
        now_s = asyncio.get_running_loop().time()
        if self._disk.failure is None and now_s < self._trim_at:
            return
        self._trim_at = now_s + _TRIM_EVERY_S
        while await self._disk.call(self._trim):
            pass

    def _trim(self) -> int:
        return self._file.trim(before_ms=int((time.time() - self._retention_s) * 1000))
