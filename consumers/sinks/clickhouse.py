"""A ClickHouse database as the sink.

There is no transaction over several tables, so the order of a batch is: ids of its events, rows,
offsets. Whatever comes in between, the batch comes again, and rows that are there are left out.
What is on its way to the server when it comes again is dropped by its token, or, after a restart,
by ReplacingMergeTree.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

import orjson

from consumers.batch import Batch
from consumers.errors import SinkBusy
from consumers.sinks.clickhouse_client import ClickHouseRefused, Server
from consumers.sinks.clickhouse_ids import IDS_TABLE, Ids, events_of
from consumers.sinks.clickhouse_offsets import RUNNING_TABLE, Offsets, Running
from consumers.sinks.clickhouse_tables import FLUSHED, Tables
from consumers.sinks.clickhouse_types import quoted
from consumers.sinks.clickhouse_url import Address
from consumers.sinks.own_tables import FIELDS_TABLE, OFFSETS_TABLE, event_id
from consumers.unknown_fields import FittedRows
from consumers.values import NextOffsets, Row
from ingest.contract.tables import ColumnType
from ingest.shared.background import Background

_AT_ONCE = 4
"""How many tables are written or asked at the same time: more gain nothing, and cost the server."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
"""Before a busy server is asked again: one with too many parts needs time, not questions."""

_GOODBYE_TIMEOUT_S = 2.0
_OWN_TABLES = frozenset({OFFSETS_TABLE, FIELDS_TABLE, IDS_TABLE, RUNNING_TABLE})

Result = TypeVar("Result")


class ClickHouseSink:
    """Writes one database. Rows are there before their offsets are."""

    def __init__(
        self,
        address: Address,
        *,
        schema: str,
        worker: str,
        first_tables: Mapping[str, Mapping[str, ColumnType]],
    ) -> None:
        self._schema = schema
        self._worker = worker
        self._first_tables = first_tables
        self._server = Server(address)
        self._tables = Tables(self._server, schema)
        self._ids = Ids(self._server, self._tables.path(IDS_TABLE))
        self._offsets = Offsets(self._server, self._tables.path(OFFSETS_TABLE), worker)
        self._running = Running(self._server, self._tables.path(RUNNING_TABLE), worker)
        self._life = uuid.uuid4().hex
        self._must_look = True
        self._pause_s = 0.0
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._open = AsyncExitStack()

    async def open(self) -> None:
        """Makes the database and the first tables, and says that the worker runs."""
        async with self._unhurried():
            await self._look()
            await self._running.say(is_open=True)
        self._open.push_async_callback(self._say_goodbye)
        background = await self._open.enter_async_context(Background())
        background.start("clickhouse heartbeat", self._running.keep_saying)

    async def stored_offsets(self, source_id: str) -> NextOffsets:
        """Reads the offsets table."""
        async with self._unhurried():
            return await self._offsets.of(source_id)

    async def write(self, batch: Batch) -> Mapping[str, int]:
        """Looks for what is there, then writes ids, rows and offsets in this order.

        After SinkBusy any of it may have been written; the same batch again writes the rest.
        """
        async with self._unhurried():
            if self._must_look:
                await self._look()
            self._must_look = True  # unless all goes well, others may have altered the tables
            written = await self._write_rows(batch)
            await self._offsets.write(batch.source_id, batch.next_offsets)
            self._must_look = False
        return written

    async def all_offsets(self) -> Mapping[str, NextOffsets]:
        """Reads the offsets table; none if there is none yet."""
        await self._tables.look()
        return await self._offsets.all() if OFFSETS_TABLE in self._tables.names else {}

    async def replace_offsets(self, source_id: str, offsets: NextOffsets) -> None:
        """Writes the offsets table."""
        await self._create()
        await self._running.refuse_if_open()
        await self._offsets.replace(source_id, offsets)

    async def close(self) -> None:
        """Says that the worker has ended, if there is somebody to tell, and closes connections."""
        await self._open.aclose()
        await self._server.close()

    @asynccontextmanager
    async def _unhurried(self) -> AsyncIterator[None]:
        """Waits before what is tried again, the longer the more often it was busy."""
        await asyncio.sleep(self._pause_s)
        try:
            yield
        except SinkBusy:
            self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            raise
        self._pause_s = 0.0

    async def _look(self) -> None:
        await self._create()
        await self._tables.ensure(self._first_tables)
        self._must_look = False

    async def _create(self) -> None:
        """Makes the database and our own tables where they are missing."""
        found = await self._server.rows(
            "select 1 from system.databases where name = %(schema)s", schema=self._schema
        )
        if not found:  # who may write it need not be allowed to make it
            await self._server.run(f"create database if not exists {quoted(self._schema)}")
        await self._tables.look()
        if self._tables.names >= _OWN_TABLES:
            return
        for own in (self._offsets, self._ids, self._running):
            await own.create()
        await self._server.run(
            f"create table if not exists {self._tables.path(FIELDS_TABLE)}"
            " (table_name String, field String, column_name String)"
            f" engine = ReplacingMergeTree order by (table_name, field) settings {FLUSHED}"
        )

    async def _write_rows(self, batch: Batch) -> dict[str, int]:
        events = events_of(batch)
        known = await self._ids.known(events)
        new = await self._new_rows(batch, known)
        fitted = await self._tables.fit(new)
        unknown = {event: month for event, month in events.items() if event not in known}
        if unknown:
            await self._ids.add(unknown)
        await self._each_of(
            [self._insert(batch, name, rows, fitted[name]) for name, rows in new.items()]
        )
        return {name: len(new.get(name, ())) for name in batch.tables}

    async def _new_rows(self, batch: Batch, known: frozenset[str]) -> dict[str, Sequence[Row]]:
        """Per table the rows that it has not, where there are any."""
        of_known = {
            name: [row for row in rows if event_id(row) in known]
            for name, rows in batch.tables.items()
        }
        there = await self._each_of(
            [self._tables.there(name, rows) for name, rows in of_known.items() if rows]
        )
        present = dict(zip((name for name, rows in of_known.items() if rows), there, strict=True))
        new = {
            name: [row for row in rows if event_id(row) not in present.get(name, ())]
            for name, rows in batch.tables.items()
        }
        return {name: rows for name, rows in new.items() if rows}

    async def _insert(
        self, batch: Batch, name: str, rows: Sequence[Row], fitted: FittedRows
    ) -> None:
        await self._tables.insert(name, rows, fitted, token=self._token(batch, name))

    def _token(self, batch: Batch, name: str) -> str:
        """The same for the same rows of the same offsets, as long as this sink lives.

        No longer: after a restart rows are looked for anyhow, and when an operator has removed them
        and set the offsets back, a token that the server remembers must not keep them out.
        """
        offsets = [[*partition, offset] for partition, offset in sorted(batch.next_offsets.items())]
        rows = [event_id(row) for row in batch.tables[name]]
        what = orjson.dumps([self._life, self._worker, batch.source_id, offsets, name, rows])
        return hashlib.sha256(what).hexdigest()

    async def _each_of(self, calls: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
        """What the calls return; some at a time. Raises the first error once all have ended."""

        async def one(call: Coroutine[Any, Any, Result]) -> Result:
            async with self._at_once:
                return await call

        results = await asyncio.gather(*map(one, calls), return_exceptions=True)
        done = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            done.append(result)
        return done

    async def _say_goodbye(self) -> None:
        with suppress(SinkBusy, ClickHouseRefused, TimeoutError):
            async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                await self._running.say(is_open=False)
