"""A DuckDB file as the sink.

While one process has such a file open, no other can open it, unless all of them only read (DuckDB
documentation, "Concurrency"). So the file is open for one batch at a time, and afterwards closed
for at least as long, which is when others may look.
"""

# ruff: noqa: S608  (the only names put into SQL are quoted: our tables, and the catalogue's)

import asyncio
import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import BinaryIO, TypeVar

import duckdb

from consumers.batch import Batch
from consumers.errors import SinkBusy, StartupError, WorkerRunning
from consumers.sinks import duckdb_file
from consumers.sinks.duckdb_file import (
    INCOMING,
    Connection,
    Tables,
    incoming,
    quoted,
)
from consumers.sinks.duckdb_ids import Ids, Known, bounds, events_of, in_ranges, ranges
from consumers.sinks.own_tables import (
    FIELD_COLUMNS,
    FIELDS_TABLE,
    OFFSET_COLUMNS,
    OFFSETS_TABLE,
    all_columns,
    columns_by_table,
    event_id,
    has_unknown,
    offset_rows,
    offsets_by_source,
)
from consumers.unknown_fields import TableColumns, fitted_rows
from consumers.values import NextOffsets, Partition, Row
from ingest.contract.tables import ColumnType

NO_VIEWS: Mapping[str, str] = MappingProxyType({})
Result = TypeVar("Result")


class DuckDBSink:
    """Writes one file, from a thread of its own."""

    def __init__(
        self,
        path: Path,
        *,
        schema: str,
        worker: str,
        first_tables: Mapping[str, Mapping[str, ColumnType]],
        views: Mapping[str, str] = NO_VIEWS,
    ) -> None:
        self._path = path
        self._schema = schema
        self._worker = worker
        self._first_tables = first_tables
        self._views = views
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forebay-duckdb")
        self._closed_until = 0.0
        self._running: BinaryIO | None = None
        self._tables = Tables(schema)
        self._ids = Ids(self._tables)

    async def open(self) -> None:
        """Makes the file, the schema, first tables and views, and says that the worker runs."""
        try:
            await self._in_thread(lambda: self._create(self._first_tables, self._views))
            self._running = self._locked(fcntl.LOCK_SH)
        except (duckdb.Error, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise StartupError(f"the store {self._path} cannot be written: {reason}") from error

    async def stored_offsets(self, source_id: str) -> NextOffsets:
        """Reads the offsets table."""
        return await self._in_thread(lambda: self._read_offsets(source_id))

    async def write(self, batch: Batch) -> Mapping[str, int]:
        """Leaves the file closed for as long as it was open, then writes."""
        await asyncio.sleep(max(0.0, self._closed_until - monotonic()))
        return await self._in_thread(lambda: self._write(batch))

    async def all_offsets(self) -> Mapping[str, NextOffsets]:
        """Reads the offsets table; none if there is no file yet."""
        return await self._in_thread(self._read_all_offsets) if self._path.exists() else {}

    async def replace_offsets(self, source_id: str, offsets: NextOffsets) -> None:
        """Writes the offsets table."""
        await self._in_thread(lambda: self._create({}, {}))
        with self._locked(fcntl.LOCK_EX):
            await self._in_thread(lambda: self._replace_offsets(source_id, offsets))

    async def close(self) -> None:
        """Waits for a write that is under way; the file is closed after it as after every one."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._running is not None:
            self._running.close()

    def _locked(self, kind: int) -> BinaryIO:
        """A lock of this worker's, shared while it runs, until the file is closed.

        Raises SinkBusy where a running worker is to wait, WorkerRunning where it is in the way.
        """
        file = self._path.with_name(f"{self._path.name}.{self._worker}.lock").open("wb")
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            if kind == fcntl.LOCK_SH:
                raise SinkBusy("the worker's offsets are being replaced") from None
            raise WorkerRunning(
                f"the worker {self._worker!r} is running on {self._path}: stop it first"
            ) from None
        return file

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _create(
        self, first_tables: Mapping[str, Mapping[str, ColumnType]], views: Mapping[str, str]
    ) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as connection:
            connection.execute(f"create schema if not exists {quoted(self._schema)}")
            self._tables.look(connection)
            tables = {OFFSETS_TABLE: OFFSET_COLUMNS, FIELDS_TABLE: FIELD_COLUMNS}
            for name, columns in {**tables, **first_tables}.items():
                self._tables.ensure(connection, name, columns)
            self._ids.ensure(connection)
            for name, query in views.items():
                connection.execute(
                    f"create or replace view {self._tables.path(name)} as {query}"
                ).fetchall()

    def _read_offsets(self, source_id: str) -> NextOffsets:
        with self._transaction() as connection:
            rows = connection.execute(
                f"select topic, partition, next_offset from {self._tables.path(OFFSETS_TABLE)}"
                " where worker = ? and source_id = ?",
                [self._worker, source_id],
            ).fetchall()
        return {Partition(topic, number): offset for topic, number, offset in rows}

    def _read_all_offsets(self) -> Mapping[str, NextOffsets]:
        with self._transaction() as connection:
            self._tables.look(connection)
            if OFFSETS_TABLE not in self._tables.columns:
                return {}
            rows = connection.execute(
                f"select source_id, topic, partition, next_offset"
                f" from {self._tables.path(OFFSETS_TABLE)} where worker = ? order by all",
                [self._worker],
            ).fetchall()
        return offsets_by_source(rows)

    def _replace_offsets(self, source_id: str, offsets: NextOffsets) -> None:
        with self._transaction() as connection:
            connection.execute(
                f"delete from {self._tables.path(OFFSETS_TABLE)}"
                " where worker = ? and source_id = ?",
                [self._worker, source_id],
            ).fetchall()
            self._write_offsets(connection, source_id, offsets)

    def _write(self, batch: Batch) -> dict[str, int]:
        with self._transaction() as connection:
            self._tables.look(connection)
            self._ids.ensure(connection)
            events = events_of(batch)
            known = self._ids.known(connection, events)
            fields = self._read_fields(connection) if has_unknown(batch) else {}
            written = {
                name: self._write_rows(connection, name, rows, fields.get(name, {}), known)
                for name, rows in batch.tables.items()
            }
            more_rows = known.keys() & {event_id(row) for rows in written.values() for row in rows}
            self._ids.add(connection, events, known, more_rows=more_rows)
            self._write_offsets(connection, batch.source_id, batch.next_offsets)
        return {name: len(rows) for name, rows in written.items()}

    def _write_rows(
        self,
        connection: Connection,
        name: str,
        rows: Sequence[Row],
        fields: Mapping[str, str],
        known: Known,
    ) -> Sequence[Row]:
        """The rows that were new."""
        present = self._tables.ensure(connection, name, all_columns(rows))
        repeats = [row for row in rows if event_id(row) in known] if known else []
        there = self._rows_there(connection, name, repeats, known)
        new = [row for row in rows if event_id(row) not in there] if there else rows
        if not new:
            return []
        fitted = fitted_rows(new, TableColumns(columns=present, fields=fields))
        self._tables.ensure(connection, name, fitted.columns)
        self._write_fields(connection, name, fitted.new_fields)
        with incoming(connection, fitted.columns, fitted.rows):
            connection.execute(
                f"insert into {self._tables.path(name)} by name select * from {INCOMING}"
            ).fetchall()
        return new

    def _rows_there(
        self, connection: Connection, name: str, rows: Sequence[Row], known: Known
    ) -> frozenset[str]:
        """Ids of these rows that the table has; looks at the times of known rows where it can."""
        if not rows:
            return frozenset()
        at = {time for row in rows for time in known[event_id(row)]}
        times = ranges(time for time in at if time is not None)
        somewhere = in_ranges("event_time", times) if None not in at else "true"
        with incoming(connection, {"event_id": "TEXT"}, [row.values for row in rows]):
            found = connection.execute(
                f"select event_id from (select event_id from {self._tables.path(name)}"
                f" where {somewhere}) semi join {INCOMING} using (event_id)",
                bounds(times) if None not in at else [],
            ).fetchall()
        return frozenset(event_id for (event_id,) in found)

    def _read_fields(self, connection: Connection) -> dict[str, dict[str, str]]:
        table = self._tables.path(FIELDS_TABLE)
        self._tables.ensure(connection, FIELDS_TABLE, FIELD_COLUMNS)
        found = connection.execute(f"select table_name, field, column_name from {table}")
        return columns_by_table(found.fetchall())

    def _write_fields(self, connection: Connection, name: str, fields: Mapping[str, str]) -> None:
        table = self._tables.path(FIELDS_TABLE)
        for field, column in fields.items():
            connection.execute(
                f"delete from {table} where table_name = ? and field = ?", [name, field]
            ).fetchall()
            connection.execute(f"insert into {table} values (?, ?, ?)", [name, field, column])

    def _write_offsets(self, connection: Connection, source_id: str, offsets: NextOffsets) -> None:
        rows = offset_rows(self._worker, source_id, offsets)
        table = self._tables.path(OFFSETS_TABLE)
        with incoming(connection, OFFSET_COLUMNS, rows):
            connection.execute(
                # a worker that was stopped for long and woke up must not take the offsets back
                f"update {table} as stored set next_offset = new.next_offset"
                f" from {INCOMING} as new"
                " where stored.worker = new.worker and stored.source_id = new.source_id"
                " and stored.topic = new.topic and stored.partition = new.partition"
                " and stored.next_offset < new.next_offset"
            ).fetchall()
            connection.execute(
                f"insert into {table} by name select * from {INCOMING}"
                f" anti join {table} using (worker, source_id, topic, partition)"
            ).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """The file, open for one transaction; committed unless an error leaves the block."""
        opened_at = monotonic()
        connection = duckdb_file.connect(self._path)
        try:
            connection.begin()
            yield connection
            connection.commit()
        finally:
            connection.close()  # which rolls back what was not committed
            closed_at = monotonic()
            self._closed_until = closed_at + (closed_at - opened_at)
