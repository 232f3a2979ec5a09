"""The logs that need no server, against the suite of all logs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog, EventLogReader
from ingest.contract.record import Record
from ingest.publishing.embedded import EmbeddedLog
from ingest.publishing.log import Log
from tests.suites.logs import LogBehaviour
from tests.unit.ingest.publishing.fakes import ROOMY, TOPIC, MemoryLog


class _MemoryBench:
    topic = TOPIC

    def __init__(self) -> None:
        self._memory = MemoryLog()
        self.log: Log = self._memory

    async def stored(self, *, count: int) -> Sequence[Record]:
        return self._memory.records

    async def close(self) -> None:
        await self._memory.close()


class _EmbeddedBench:
    topic = TOPIC

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = False
        self.log = EmbeddedLog(EventLog.open(path, max_bytes=ROOMY), retention_s=3_600)

    async def stored(self, *, count: int) -> Sequence[Record]:
        with closing(EventLogReader.open(self._path)) as reader:
            return [
                Record(topic=s.topic, key=s.key, value=s.value, headers=s.headers)
                for s in reader.read(0)
            ]

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self.log.close()


class TestMemoryLog(LogBehaviour):
    @pytest.fixture
    async def bench(self) -> _MemoryBench:
        return _MemoryBench()


class TestEmbeddedLog(LogBehaviour):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[_EmbeddedBench]:
        bench = _EmbeddedBench(tmp_path / FILE_NAME)
        yield bench
        await bench.close()
