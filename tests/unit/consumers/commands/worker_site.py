"""A data directory with a log in it, a worker that reads all of it, and the commands."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import orjson
from click.testing import CliRunner, Result

from consumers.batch_size import BatchSize
from consumers.commands.main import main
from consumers.dead_letters.dead_letter import dead_letter_record
from consumers.metrics import Metrics
from consumers.settings import Settings
from consumers.sinks.base import Store
from consumers.wiring import open_dead_letters, open_sink, open_source, projection
from consumers.worker import Limits, Worker
from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from ingest.contract.record import Record
from ingest.shared.environment import load
from tests.unit.consumers.builders import PREFIX


class WorkerSite:
    """All in one directory; the environment has been set to it."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.environment = {
            "FOREBAY_DATA_DIR": str(self.data),
            "FOREBAY_STORE__URL": f"duckdb:///{self.data}/forebay.duckdb",
            "FOREBAY_TOPICS__PREFIX": PREFIX,
        }

    def append(self, *records: Record) -> None:
        """What a receiver would have written."""
        log = EventLog.open(self.data / FILE_NAME, max_bytes=2**40)
        log.append(records)
        log.close()

    def work(self) -> None:
        """Runs the worker until it has read all there is."""
        asyncio.run(self._work())

    def invoke(self, *arguments: str) -> Result:
        """One command."""
        return CliRunner().invoke(main, arguments)

    def rows(self, *arguments: str, status: int = 0) -> Sequence[Mapping[str, Any]]:
        """What a command prints as JSON."""
        result = self.invoke(*arguments, "--json")
        assert result.exit_code == status, result.output
        rows: Sequence[Mapping[str, Any]] = orjson.loads(result.stdout)
        return rows

    def query(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """Asks the store."""
        with duckdb.connect(str(self.data / "forebay.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def while_open(self, call: Callable[[], Result]) -> Result:
        """The result of a command while a worker of this name runs."""

        async def with_worker() -> Result:
            async with open_sink(load(Settings)) as sink:
                await sink.open()
                return await asyncio.to_thread(call)

        return asyncio.run(with_worker())

    async def _work(self) -> None:
        settings = load(Settings)
        stopping = asyncio.Event()
        async with (
            open_sink(settings) as sink,
            open_dead_letters(settings) as letters,
            open_source(settings, sink) as source,
        ):
            worker = Worker(
                source=source,
                sink=sink,
                dead_letters=letters,
                dead_letter_record=partial(dead_letter_record, prefix=PREFIX, worker="tables"),
                project=projection(settings),
                metrics=Metrics("tables"),
                limits=Limits(size=BatchSize(flush_interval_s=0.01)),
            )
            working = asyncio.create_task(worker.run(stopping))
            while not (worker.is_reading and await self._has_all(sink)):
                await asyncio.wait({working}, timeout=0.02)
                if working.done():
                    await working
            stopping.set()
            await working

    async def _has_all(self, sink: Store) -> bool:
        log = EventLog.open(self.data / FILE_NAME, max_bytes=2**40)
        end = log._connection.execute("select max(id) from record").fetchone()[0]
        log.close()
        stored = [max(offsets.values()) for offsets in (await sink.all_offsets()).values()]
        return stored == [end + 1]
