"""PostgreSQL as the sink.

Rows and offsets of a batch are one transaction. What tables lack is made before, in a transaction
of its own: it is there sooner or later anyway, and locks that are held for a moment stop nobody.
"""

# ruff: noqa: S608  (the only names put into SQL are quoted: our tables, and the catalogue's)

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg

from consumers.batch import Batch
from consumers.errors import SinkBusy, StartupError, WorkerRunning
from consumers.sinks.own_tables import (
    OFFSET_COLUMNS,
    OFFSETS_TABLE,
    offset_rows,
    offsets_by_source,
)
from consumers.sinks.postgres_rows import insert_rows
from consumers.sinks.postgres_server import Connection, Server, passes
from consumers.sinks.postgres_tables import Month, Tables, month_of, quoted
from consumers.unknown_fields import FittedRows, TableColumns, fitted_rows
from consumers.values import NextOffsets
from ingest.contract.tables import EVENTS, ColumnType

_LOOK_AGAIN = {"22", "23", "42"}
"""Classes of errors that tables give which somebody has altered: values, constraints, names."""


class PostgresSink:
    """Writes one schema of one database, over one connection."""

    def __init__(
        self,
        url: str,
        *,
        schema: str,
        worker: str,
        first_tables: Mapping[str, Mapping[str, ColumnType]],
    ) -> None:
        self._schema = schema
        self._worker = worker
        self._first_tables = first_tables
        self._tables = Tables(schema)
        self._server = Server(url, application=f"forebay-{worker}", prepare=self._say_it_runs)
        self._lock = f"forebay worker {schema} {worker}"
        self._is_open = False

    async def open(self) -> None:
        """Connects, says that the worker runs, and makes the schema and the first tables."""
        self._is_open = True
        async with self._server.connection() as connection:
            await self._make_first(connection)

    async def stored_offsets(self, source_id: str) -> NextOffsets:
        """Reads the offsets table."""
        return (await self.all_offsets()).get(source_id, {})

    async def write(self, batch: Batch) -> Mapping[str, int]:
        """Makes what the tables lack, then writes rows and offsets in one transaction."""
        async with self._server.connection() as connection:
            try:
                return await self._write(connection, batch)
            except asyncpg.PostgresError as error:
                if (error.sqlstate or "")[:2] not in _LOOK_AGAIN:
                    raise
            self._tables.forget()
            return await self._write(connection, batch)

    async def all_offsets(self) -> Mapping[str, NextOffsets]:
        """Reads the offsets table; none if there is no such table yet."""
        async with self._server.connection() as connection, self._refusals(connection):
            try:
                rows = await connection.fetch(
                    "select source_id, topic, partition, next_offset"
                    f" from {self._tables.path(OFFSETS_TABLE)} where worker = $1"
                    " order by source_id, topic, partition",
                    self._worker,
                )
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                return {}
        return offsets_by_source(rows)

    async def replace_offsets(self, source_id: str, offsets: NextOffsets) -> None:
        """Writes the offsets table."""
        async with self._server.connection() as connection:
            await self._make_first(connection)
            async with connection.transaction(isolation="read_committed"):
                if not await connection.fetchval(
                    "select pg_try_advisory_xact_lock(hashtextextended($1, 0))", self._lock
                ):
                    raise WorkerRunning(
                        f"the worker {self._worker!r} is running on {self._server.name}: stop it"
                        " first"
                    )
                await connection.execute(
                    f"delete from {self._tables.path(OFFSETS_TABLE)}"
                    " where worker = $1 and source_id = $2",
                    self._worker,
                    source_id,
                )
                await self._write_offsets(connection, source_id, offsets)

    async def close(self) -> None:
        """Ends the connection, and with it what was under way."""
        await self._server.close()

    async def _say_it_runs(self, connection: Connection) -> None:
        """Holds a lock for as long as the connection lasts, which workers of one name share."""
        if self._is_open and not await connection.fetchval(
            "select pg_try_advisory_lock_shared(hashtextextended($1, 0))", self._lock
        ):
            raise SinkBusy("the worker's offsets are being replaced")

    async def _make_first(self, connection: Connection) -> None:
        encoding = await connection.fetchval("show server_encoding")
        if encoding != "UTF8":
            raise StartupError(
                f"the store: PostgreSQL at {self._server.name} has the encoding {encoding}, in"
                " which not every text can be written: make a database with encoding 'UTF8'"
            )
        async with self._refusals(connection), self._tables.altering(connection):
            await self._tables.make_own(connection)
            for name, columns in self._first_tables.items():
                await self._tables.make(connection, name, columns)

    @asynccontextmanager
    async def _refusals(self, connection: Connection) -> AsyncIterator[None]:
        """What PostgreSQL refuses us for good is a StartupError; for work that quotes no row."""
        try:
            yield
        except asyncpg.PostgresError as error:
            if passes(error):
                raise
            advice = ""
            if isinstance(error, asyncpg.InsufficientPrivilegeError):
                role = quoted(await connection.fetchval("select current_user"))
                advice = (
                    ". The worker's role must own the schema: let an administrator run `create"
                    f" schema {quoted(self._schema)} authorization {role}`, or, if it is there,"
                    f" `alter schema {quoted(self._schema)} owner to {role}`"
                )
            raise StartupError(f"the store: {self._server.sentence(error)}{advice}") from error

    async def _write(self, connection: Connection, batch: Batch) -> dict[str, int]:
        fitted = await self._fitted(connection, batch)
        written = {}
        async with connection.transaction(isolation="read_committed"):
            for name, rows in sorted(batch.tables.items()):
                written[name] = await insert_rows(
                    connection, self._tables, name, rows, fitted[name]
                )
            await self._write_offsets(connection, batch.source_id, batch.next_offsets)
        return written

    async def _fitted(self, connection: Connection, batch: Batch) -> Mapping[str, FittedRows]:
        """The rows as the tables can hold them, once these have all that is needed for it."""
        months = _months(batch)
        if self._tables.are_known:
            fitted = self._fit(batch)
            if not any(
                rows.new_fields
                or self._tables.lack(name, rows.columns, months if name == EVENTS else ())
                for name, rows in fitted.items()
            ):
                return fitted
        async with self._tables.altering(connection):
            await self._tables.make_own(connection)
            fitted = self._fit(batch)  # another worker may just have given names to the same fields
            for name, rows in fitted.items():
                await self._tables.make(connection, name, rows.columns)
                await self._tables.write_fields(connection, name, rows.new_fields)
            if EVENTS in fitted:
                await self._tables.make_months(connection, months)
        return fitted

    def _fit(self, batch: Batch) -> Mapping[str, FittedRows]:
        return {
            name: fitted_rows(
                rows,
                TableColumns(columns=self._tables.columns(name), fields=self._tables.fields(name)),
            )
            for name, rows in batch.tables.items()
        }

    async def _write_offsets(
        self, connection: Connection, source_id: str, offsets: NextOffsets
    ) -> None:
        rows = offset_rows(self._worker, source_id, offsets)
        await connection.execute(
            f"insert into {self._tables.path(OFFSETS_TABLE)} as stored"
            f" ({', '.join(OFFSET_COLUMNS)})"
            " select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])"
            " on conflict (worker, source_id, topic, partition)"
            " do update set next_offset = excluded.next_offset"
            # a worker that was stopped for long and woke up must not take the offsets back
            " where stored.next_offset < excluded.next_offset",
            *([row[name] for row in rows] for name in OFFSET_COLUMNS),
        )


def _months(batch: Batch) -> frozenset[Month]:
    """The months of the batch's events, as far as they have partitions."""
    now = datetime.now(UTC)
    times = (row.values.get("event_time") for row in batch.tables.get(EVENTS, ()))
    return frozenset(month for time in times if (month := month_of(time, now)))
