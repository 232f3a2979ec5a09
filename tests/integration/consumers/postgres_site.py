"""A schema of a real PostgreSQL server, the sinks that write it, and a look into it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import orjson

from consumers.batch import Batch
from consumers.errors import SinkBusy
from consumers.sinks.base import Sink
from consumers.sinks.postgres import PostgresSink
from consumers.values import Row
from ingest.contract.tables import EVENTS, ColumnType

FIRST_TABLES: Mapping[str, Mapping[str, ColumnType]] = {
    EVENTS: {"event_id": "TEXT", "event_time": "TIMESTAMPTZ"}
}
_BUSY_S = 30.0


class PostgresSite:
    """Sinks of one schema; `look` and `rows` use a connection of their own."""

    def __init__(self, url: str, schema: str, sinks: AsyncExitStack) -> None:
        self.url = url
        self.schema = schema
        self._sinks = sinks

    async def sink(self, worker: str = "tables") -> PostgresSink:
        sink = self.unopened(worker)
        await sink.open()
        return sink

    def unopened(self, worker: str = "tables", url: str | None = None) -> PostgresSink:
        sink = PostgresSink(
            url or self.url, schema=self.schema, worker=worker, first_tables=FIRST_TABLES
        )
        self._sinks.push_async_callback(sink.close)
        return sink

    async def close_all(self) -> None:
        await self._sinks.aclose()

    async def rows(self, table: str) -> Sequence[Mapping[str, Any]]:
        try:
            return await self.look(f'select * from {self.schema}."{table}" order by event_id')
        except asyncpg.UndefinedTableError:
            return []

    async def look(self, sql: str) -> Sequence[Mapping[str, Any]]:
        """The answer to a query, JSON as compact text."""
        async with connected(self.url) as connection:
            await connection.set_type_codec(
                "jsonb",
                schema="pg_catalog",
                encoder=str,
                decoder=lambda text: orjson.dumps(orjson.loads(text)).decode(),
            )
            return [dict(row) for row in await connection.fetch(sql)]

    async def run(self, *statements: str) -> None:
        """What somebody else does to the tables; `{}` stands for the schema."""
        async with connected(self.url) as connection:
            for statement in statements:
                await connection.execute(statement.replace("{}", self.schema))


class AsEvents(PostgresSite):
    """The same with the suite's table `things` as the one that is partitioned by month."""

    async def sink(self, worker: str = "tables") -> "Renaming":  # type: ignore[override]
        return Renaming(await super().sink(worker))

    async def rows(self, table: str) -> Sequence[Mapping[str, Any]]:
        return await super().rows(EVENTS if table == "things" else table)


class Renaming:
    """A sink whose table `things` is `events`."""

    def __init__(self, sink: PostgresSink) -> None:
        self._sink = sink
        self.open, self.close = sink.open, sink.close
        self.stored_offsets = sink.stored_offsets

    async def write(self, batch: Batch) -> Mapping[str, int]:
        """Writes the batch with the other name."""
        tables = {_there(name): rows for name, rows in batch.tables.items()}
        written = await self._sink.write(replace(batch, tables=tables))
        return {_back(name): count for name, count in written.items()}


def _there(name: str) -> str:
    return EVENTS if name == "things" else name


def _back(name: str) -> str:
    return "things" if name == EVENTS else name


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection for the length of a block."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def written_once_free(sink: Sink, batch: Batch) -> Mapping[str, int]:
    """Writes the batch as the worker does: again for as long as the store is busy."""
    async with asyncio.timeout(_BUSY_S):
        while True:
            try:
                return await sink.write(batch)
            except SinkBusy:
                await asyncio.sleep(0.02)


def in_events(row: Row) -> Row:
    """The row as one of the partitioned table."""
    return replace(row, table=EVENTS)
