"""A DuckDB file as the sink.

While one process has such a file open, no other can open it, unless all of them only read (DuckDB
documentation, "Concurrency"). So the file is open for one batch at a time, and afterwards closed
for at least as long, which is when others may look.
"""

# ruff: noqa: S608  (the only names put into SQL are quoted: our tables, and the catalogue's)

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from consumers.batch import Batch
from consumers.errors import SinkBusy, StartupError
from consumers.unknown_fields import Layout, laid_out
from consumers.values import NextOffsets, Partition, Row
from ingest.contract.tables import ColumnType

OFFSETS_TABLE = "forebay_offsets"
FIELDS_TABLE = "forebay_unknown_fields"
"""Which column a field has that the catalogue does not know."""

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
}
_LOCKED = "Could not set lock on file"
_INCOMING = "forebay_incoming"

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
    ) -> None:
        self._path = path
        self._schema = schema
        self._worker = worker
        self._first_tables = first_tables
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forebay-duckdb")
        self._closed_until = 0.0

    async def open(self) -> None:
        """Makes the file, the schema and the first tables."""
        try:
            await self._in_thread(self._create)
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

    async def close(self) -> None:
        """Waits for a write that is under way; the file is closed after it as after every one."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _create(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as connection:
            connection.execute(f"create schema if not exists {_quoted(self._schema)}")
            _ensure(connection, self._table(OFFSETS_TABLE), _OFFSET_COLUMNS)
            _ensure(connection, self._table(FIELDS_TABLE), _FIELD_COLUMNS)
            for name, columns in self._first_tables.items():
                _ensure(connection, self._table(name), columns)

    def _read_offsets(self, source_id: str) -> NextOffsets:
        with self._transaction() as connection:
            rows = connection.execute(
                f"select topic, partition, next_offset from {self._table(OFFSETS_TABLE)}"
                " where worker = ? and source_id = ?",
                [self._worker, source_id],
            ).fetchall()
        return {Partition(topic, number): offset for topic, number, offset in rows}

    def _write(self, batch: Batch) -> dict[str, int]:
        with self._transaction() as connection:
            fields = self._read_fields(connection) if _has_unknown(batch) else {}
            written = {
                name: self._write_rows(connection, name, rows, fields.get(name, {}))
                for name, rows in batch.tables.items()
            }
            self._write_offsets(connection, batch)
        return written

    def _write_rows(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        rows: Sequence[Row],
        fields: Mapping[str, str],
    ) -> int:
        table = self._table(name)
        present = _ensure(connection, table, {n: k for row in rows for n, k in row.columns.items()})
        laid = laid_out(rows, Layout(columns=present, fields=fields))
        _add(connection, table, {n: laid.columns[n] for n in laid.columns if n not in present})
        self._write_fields(connection, name, laid.new_fields)
        by_bound: dict[bool, list[Mapping[str, Any]]] = {}
        for row, values in zip(rows, laid.rows, strict=True):
            by_bound.setdefault(row.repeats_keep_time, []).append(values)
        return sum(
            _insert_new(connection, table, laid.columns, group, bounded=bounded)
            for bounded, group in by_bound.items()
        )

    def _read_fields(self, connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
        table = self._table(FIELDS_TABLE)
        _ensure(connection, table, _FIELD_COLUMNS)
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

    def _write_offsets(self, connection: duckdb.DuckDBPyConnection, batch: Batch) -> None:
        rows = [
            {
                "worker": self._worker,
                "source_id": batch.source_id,
                "topic": partition.topic,
                "partition": partition.number,
                "next_offset": offset,
            }
            for partition, offset in batch.next_offsets.items()
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


def _ensure(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, ColumnType]
) -> Mapping[str, ColumnType | None]:
    """Makes the table, or those of the columns that it lacks; returns all that it has.

    Asked of the file at every batch: between two batches anybody may have altered it.
    """
    definitions = ", ".join(f"{_quoted(name)} {_sql_type(kind)}" for name, kind in columns.items())
    connection.execute(f"create table if not exists {table} ({definitions})").fetchall()
    probe = connection.execute(f"select * from {table} limit 0")
    found = [(str(name).lower(), str(kind)) for name, kind, *_ in probe.description or ()]
    probe.fetchall()
    present = {name: _TYPES.get(kind) for name, kind in found}
    missing = {name: kind for name, kind in columns.items() if name not in present}
    _add(connection, table, missing)
    return {**present, **missing}


def _add(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, ColumnType]
) -> None:
    for name, kind in columns.items():
        connection.execute(
            f"alter table {table} add column {_quoted(name)} {_sql_type(kind)}"
        ).fetchall()


def _insert_new(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    columns: Mapping[str, ColumnType],
    rows: Sequence[Mapping[str, Any]],
    *,
    bounded: bool,
) -> int:
    """Inserts rows whose `event_id` the table lacks; `bounded` looks only at their own times."""
    times = [row["event_time"] for row in rows] if bounded else []
    where = " where event_time between ? and ?" if bounded else ""
    with _incoming(connection, columns, rows):
        count = connection.execute(
            f"insert into {table} by name select * from {_INCOMING}"
            f" anti join (select event_id from {table}{where}) using (event_id)",
            [min(times), max(times)] if bounded else [],
        ).fetchall()
    return int(count[0][0])


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
