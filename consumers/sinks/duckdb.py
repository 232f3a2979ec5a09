"""A DuckDB file as the sink.

While one process has such a file open, no other can open it, unless all of them only read (DuckDB
documentation, "Concurrency"). So the file is open for one batch at a time, and afterwards closed
for at least as long, which is when others may look.

Repeats are found by two small tables that every written event is in, as a hash of its id: of events
whose repeats keep their time by day, of all others without. Only what they know is looked for in
the tables themselves. So the look costs a few milliseconds per million events, however wide the
rows are and however far the times of a batch are apart.
"""

# ruff: noqa: S608  (the only names put into SQL are quoted: our tables, and the catalogue's)

import asyncio
import fcntl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, TypeVar

import duckdb
import pyarrow as pa

from consumers.batch import Batch
from consumers.errors import SinkBusy, StartupError, WorkerRunning
from consumers.unknown_fields import TableColumns, fitted_rows
from consumers.values import NextOffsets, Partition, Row
from ingest.contract.tables import ColumnType

OFFSETS_TABLE = "forebay_offsets"
FIELDS_TABLE = "forebay_unknown_fields"
"""Which column a field has that the catalogue does not know."""

IDS_TABLE = "forebay_ids"
IDS_ANY_DAY_TABLE = "forebay_ids_any_day"
"""Hashes of the ids of all events that have rows, by the day of the event's time where repeats keep
it, in days since 1970; those whose repeats need not keep it are in the second table."""

_OFFSET_COLUMNS: Mapping[str, ColumnType] = {
    "worker": "TEXT",
    "source_id": "TEXT",
    "topic": "TEXT",
    "partition": "BIGINT",
    "next_offset": "BIGINT",
}
_FIELD_COLUMNS: Mapping[str, ColumnType] = {
    "table_name": "TEXT",
    "field": "TEXT",
    "column_name": "TEXT",
}
_TYPES: Mapping[str, ColumnType] = {
    "VARCHAR": "TEXT",
    "BIGINT": "BIGINT",
    "DOUBLE": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ",
    "JSON": "JSON",
}
_ID_COLUMNS: Mapping[str, ColumnType] = {"event_id": "TEXT", "day": "BIGINT"}
_ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "TEXT": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    "JSON": pa.string(),
}
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,  # more only cost time at each opening: batches are small
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    # what a batch needs beyond it goes to a file beside the store
    "memory_limit": "192MB",
}
_MAX_RANGES = 8
_LOCKED = "Could not set lock on file"
_INCOMING = "forebay_incoming"

_DAY_US = 24 * 3_600 * 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Result = TypeVar("Result")
Bound = TypeVar("Bound", int, datetime)


class DuckDBSink:
    """Writes one file, from a thread of its own."""

    def __init__(
        self,
        path: Path,
        *,
        schema: str,
        worker: str,
        first_tables: Mapping[str, Mapping[str, ColumnType]],
    ) -> None:
        self._path = path
        self._schema = schema
        self._worker = worker
        self._first_tables = first_tables
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forebay-duckdb")
        self._closed_until = 0.0
        self._running: BinaryIO | None = None
        self._fingerprint: str | None = None
        self._columns: dict[str, dict[str, ColumnType | None]] = {}

    async def open(self) -> None:
        """Makes the file, the schema and the first tables, and says that the worker runs."""
        try:
            await self._in_thread(self._create)
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
        await self._in_thread(self._create)
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

    def _create(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as connection:
            connection.execute(f"create schema if not exists {_quoted(self._schema)}")
            self._look_at_columns(connection)
            tables = {OFFSETS_TABLE: _OFFSET_COLUMNS, FIELDS_TABLE: _FIELD_COLUMNS}
            for name, columns in {**tables, **self._first_tables}.items():
                self._ensure(connection, name, columns)
            self._ensure_ids(connection)

    def _read_offsets(self, source_id: str) -> NextOffsets:
        with self._transaction() as connection:
            rows = connection.execute(
                f"select topic, partition, next_offset from {self._table(OFFSETS_TABLE)}"
                " where worker = ? and source_id = ?",
                [self._worker, source_id],
            ).fetchall()
        return {Partition(topic, number): offset for topic, number, offset in rows}

    def _read_all_offsets(self) -> Mapping[str, NextOffsets]:
        found: dict[str, dict[Partition, int]] = {}
        with self._transaction() as connection:
            self._look_at_columns(connection)
            if OFFSETS_TABLE not in self._columns:
                return {}
            rows = connection.execute(
                f"select source_id, topic, partition, next_offset"
                f" from {self._table(OFFSETS_TABLE)} where worker = ? order by all",
                [self._worker],
            ).fetchall()
        for source_id, topic, number, offset in rows:
            found.setdefault(source_id, {})[Partition(topic, number)] = offset
        return found

    def _replace_offsets(self, source_id: str, offsets: NextOffsets) -> None:
        with self._transaction() as connection:
            connection.execute(
                f"delete from {self._table(OFFSETS_TABLE)} where worker = ? and source_id = ?",
                [self._worker, source_id],
            ).fetchall()
            self._write_offsets(connection, source_id, offsets)

    def _write(self, batch: Batch) -> dict[str, int]:
        with self._transaction() as connection:
            self._look_at_columns(connection)
            self._ensure_ids(connection)
            known = self._known_ids(connection, batch)
            fields = self._read_fields(connection) if _has_unknown(batch) else {}
            written = {
                name: self._write_rows(connection, name, rows, fields.get(name, {}), known)
                for name, rows in batch.tables.items()
            }
            self._write_ids(connection, batch, known)
            self._write_offsets(connection, batch.source_id, batch.next_offsets)
        return written

    def _look_at_columns(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Learns what tables there are: between two batches anybody may have altered them."""
        of_ours = "database_name = current_database() and schema_name = ?"
        ((fingerprint,),) = connection.execute(
            f"select md5(string_agg(sql, '' order by table_name)) from duckdb_tables()"
            f" where {of_ours}",
            [self._schema],
        ).fetchall()
        if fingerprint is not None and fingerprint == self._fingerprint:
            return
        self._columns = {}
        for table, column, kind in connection.execute(
            f"select table_name, column_name, data_type from duckdb_columns() where {of_ours}",
            [self._schema],
        ).fetchall():
            known_type = _TYPES.get(kind)
            self._columns.setdefault(table.lower(), {})[column.lower()] = known_type
        self._fingerprint = fingerprint

    def _ensure(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        columns: Mapping[str, ColumnType],
    ) -> Mapping[str, ColumnType | None]:
        """Makes the table, or those of the columns that it lacks; returns all that it has."""
        present = self._columns.get(name)
        if present is None:
            definitions = ", ".join(f"{_quoted(n)} {_sql_type(k)}" for n, k in columns.items())
            connection.execute(f"create table {self._table(name)} ({definitions})").fetchall()
            present = self._columns[name] = dict(columns)
            self._fingerprint = None  # the transaction may yet be undone
        missing = [column for column in columns if column not in present]
        for column in missing:
            connection.execute(
                f"alter table {self._table(name)}"
                f" add column {_quoted(column)} {_sql_type(columns[column])}"
            ).fetchall()
            present[column] = columns[column]
            self._fingerprint = None
        return present

    def _ensure_ids(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Makes the tables of ids, with all that a store has that was written without them."""
        if IDS_TABLE in self._columns and IDS_ANY_DAY_TABLE in self._columns:
            return
        ids, any_day = self._table(IDS_TABLE), self._table(IDS_ANY_DAY_TABLE)
        connection.execute(f"create or replace table {ids} (day BIGINT, id UBIGINT)").fetchall()
        connection.execute(f"create or replace table {any_day} (id UBIGINT)").fetchall()
        for name, columns in self._columns.items():
            if {"event_id", "event_time"} <= columns.keys():
                connection.execute(
                    f"insert into {ids} select epoch_us(event_time) // {_DAY_US},"
                    f" md5_number_lower(event_id) from {self._table(name)}"
                    " where event_time is not null and event_id is not null"
                ).fetchall()
                connection.execute(
                    f"insert into {any_day} select md5_number_lower(event_id)"
                    f" from {self._table(name)} where event_id is not null"
                ).fetchall()
        self._columns |= {IDS_TABLE: {}, IDS_ANY_DAY_TABLE: {}}
        self._fingerprint = None

    def _known_ids(self, connection: duckdb.DuckDBPyConnection, batch: Batch) -> frozenset[str]:
        """Ids of the batch that tables may have rows of; no table has one of the others."""
        days = _days(batch)
        if not days:
            return frozenset()
        ranges = _ranges({day for day in days.values() if day is not None})
        in_ranges = " or ".join(["day between ? and ?"] * len(ranges)) or "false"
        with _incoming(connection, _ID_COLUMNS, _id_rows(days.items())):
            hashed = f"(select event_id, md5_number_lower(event_id) as id from {_INCOMING})"
            found = connection.execute(
                # the small side last: of a join DuckDB keeps that one in memory
                f"with hashed as materialized {hashed},"
                f" found as (select id from {self._table(IDS_ANY_DAY_TABLE)}"
                "  semi join hashed using (id)"
                f" union all select id from (select id from {self._table(IDS_TABLE)}"
                f"  where {in_ranges}) semi join hashed using (id))"
                " select event_id from hashed semi join found using (id)",
                [bound for both in ranges for bound in both],
            ).fetchall()
        return frozenset(event_id for (event_id,) in found)

    def _write_ids(
        self, connection: duckdb.DuckDBPyConnection, batch: Batch, known: frozenset[str]
    ) -> None:
        days = [(event_id, day) for event_id, day in _days(batch).items() if event_id not in known]
        with _incoming(connection, _ID_COLUMNS, _id_rows(days)):
            connection.execute(
                f"insert into {self._table(IDS_TABLE)} select day, md5_number_lower(event_id)"
                f" from {_INCOMING} where day is not null order by day"
            ).fetchall()
            connection.execute(
                f"insert into {self._table(IDS_ANY_DAY_TABLE)} select md5_number_lower(event_id)"
                f" from {_INCOMING} where day is null"
            ).fetchall()

    def _write_rows(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        rows: Sequence[Row],
        fields: Mapping[str, str],
        known: frozenset[str],
    ) -> int:
        present = self._ensure(connection, name, {n: k for r in rows for n, k in r.columns.items()})
        there = self._rows_there(connection, name, [r for r in rows if _id(r) in known])
        new = [row for row in rows if _id(row) not in there]
        if not new:
            return 0
        fitted = fitted_rows(new, TableColumns(columns=present, fields=fields))
        self._ensure(connection, name, fitted.columns)
        self._write_fields(connection, name, fitted.new_fields)
        with _incoming(connection, fitted.columns, fitted.rows):
            connection.execute(
                f"insert into {self._table(name)} by name select * from {_INCOMING}"
            ).fetchall()
        return len(new)

    def _rows_there(
        self, connection: duckdb.DuckDBPyConnection, name: str, rows: Sequence[Row]
    ) -> frozenset[str]:
        """Ids of these rows that the table has; looks at their own times only where it can."""
        found: set[str] = set()
        for keeps_time in (True, False):
            asked = [row for row in rows if row.repeats_keep_time == keeps_time]
            ranges = _ranges({row.values["event_time"] for row in asked}) if keeps_time else []
            where = " or ".join(["event_time between ? and ?"] * len(ranges)) or "true"
            if asked:
                with _incoming(connection, _ID_COLUMNS, [{"event_id": _id(row)} for row in asked]):
                    there = connection.execute(
                        f"select event_id from (select event_id from {self._table(name)}"
                        f" where {where}) semi join {_INCOMING} using (event_id)",
                        [bound for both in ranges for bound in both],
                    ).fetchall()
                found |= {event_id for (event_id,) in there}
        return frozenset(found)

    def _read_fields(self, connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
        table = self._table(FIELDS_TABLE)
        self._ensure(connection, FIELDS_TABLE, _FIELD_COLUMNS)
        fields: dict[str, dict[str, str]] = {}
        found = connection.execute(f"select table_name, field, column_name from {table}")
        for name, field, column in found.fetchall():
            fields.setdefault(name, {})[field] = column
        return fields

    def _write_fields(
        self, connection: duckdb.DuckDBPyConnection, name: str, fields: Mapping[str, str]
    ) -> None:
        table = self._table(FIELDS_TABLE)
        for field, column in fields.items():
            connection.execute(
                f"delete from {table} where table_name = ? and field = ?", [name, field]
            ).fetchall()
            connection.execute(f"insert into {table} values (?, ?, ?)", [name, field, column])

    def _write_offsets(
        self, connection: duckdb.DuckDBPyConnection, source_id: str, offsets: NextOffsets
    ) -> None:
        rows = [
            {
                "worker": self._worker,
                "source_id": source_id,
                "topic": partition.topic,
                "partition": partition.number,
                "next_offset": offset,
            }
            for partition, offset in offsets.items()
        ]
        table = self._table(OFFSETS_TABLE)
        with _incoming(connection, _OFFSET_COLUMNS, rows):
            connection.execute(
                # a worker that was stopped for long and woke up must not take the offsets back
                f"update {table} as stored set next_offset = new.next_offset"
                f" from {_INCOMING} as new"
                " where stored.worker = new.worker and stored.source_id = new.source_id"
                " and stored.topic = new.topic and stored.partition = new.partition"
                " and stored.next_offset < new.next_offset"
            ).fetchall()
            connection.execute(
                f"insert into {table} by name select * from {_INCOMING}"
                f" anti join {table} using (worker, source_id, topic, partition)"
            ).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, open for one transaction; committed unless an error leaves the block."""
        opened_at = monotonic()
        connection = _connect(self._path)
        try:
            connection.begin()
            yield connection
            connection.commit()
        finally:
            connection.close()  # which rolls back what was not committed
            closed_at = monotonic()
            self._closed_until = closed_at + (closed_at - opened_at)

    def _table(self, name: str) -> str:
        return f"{_quoted(self._schema)}.{_quoted(name)}"


def database_name(path: Path) -> str:
    """The name by which SQL in this file calls the file itself (seen with DuckDB 1.4 and 2.0)."""
    return path.name.partition(".")[0].lower()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(path), config=_CONFIG)
    except duckdb.IOException as error:
        if _LOCKED in str(error):
            raise SinkBusy(f"another process has {path} open") from error
        raise


def _id(row: Row) -> str:
    event_id: str = row.values["event_id"]
    return event_id


def _days(batch: Batch) -> dict[str, int | None]:
    """For each event of the batch the day that its repeats have too, None if they need not."""
    return {
        _id(row): (row.values["event_time"] - _EPOCH).days if row.repeats_keep_time else None
        for rows in batch.tables.values()
        for row in rows
    }


def _id_rows(days: Iterable[tuple[str, int | None]]) -> list[dict[str, Any]]:
    return [{"event_id": event_id, "day": day} for event_id, day in days]


def _ranges(values: Iterable[Bound]) -> list[tuple[Bound, Bound]]:
    """Few ranges that hold all values, with the widest gaps between them."""
    ordered = sorted(values)
    gaps: list[int] = sorted(range(1, len(ordered)), key=lambda n: ordered[n - 1] - ordered[n])
    cuts = [0, *sorted(gaps[: _MAX_RANGES - 1]), len(ordered)]
    return [(ordered[a], ordered[b - 1]) for a, b in pairwise(cuts) if a < b]


@contextmanager
def _incoming(
    connection: duckdb.DuckDBPyConnection,
    columns: Mapping[str, ColumnType],
    rows: Sequence[Mapping[str, Any]],
) -> Iterator[None]:
    """Makes rows visible to SQL under the name `_INCOMING`."""
    table = pa.table(
        {
            name: pa.array([row.get(name) for row in rows], type=_ARROW_TYPES[kind])
            for name, kind in columns.items()
        }
    )
    connection.register(_INCOMING, table)
    try:
        yield
    finally:
        connection.unregister(_INCOMING)


def _has_unknown(batch: Batch) -> bool:
    return any(row.unknown for rows in batch.tables.values() for row in rows)


def _sql_type(kind: ColumnType) -> str:
    return "VARCHAR" if kind == "TEXT" else kind


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
