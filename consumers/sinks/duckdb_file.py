"""The DuckDB file: opening it, what tables it has, and rows made visible to its SQL."""

# ruff: noqa: S608  (the only names put into SQL are quoted: our tables, and the catalogue's)

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from consumers.errors import SinkBusy
from ingest.contract.tables import ColumnType

Connection = duckdb.DuckDBPyConnection

INCOMING = "forebay_incoming"
"""The name under which `incoming` shows rows to SQL."""

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
    # more only cost time: statements are many and small, and the other core reads and decodes
    "threads": 1,
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    # what a batch needs beyond it goes to a file beside the store
    "memory_limit": "192MB",
}
_LOCKED = "Could not set lock on file"


class Tables:
    """The tables of one schema and their columns, as they are in the transaction under way."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._columns: dict[str, dict[str, ColumnType | None]] = {}
        self._fingerprint: str | None = None

    @property
    def columns(self) -> Mapping[str, Mapping[str, ColumnType | None]]:
        """Per table, in lower case; the type is None if it is none of ours."""
        return self._columns

    def path(self, name: str) -> str:
        """The table as SQL names it."""
        return f"{quoted(self._schema)}.{quoted(name)}"

    def look(self, connection: Connection) -> None:
        """Learns what there is: between two transactions anybody may have altered it."""
        of_ours = "database_name = current_database() and schema_name = ?"
        ((fingerprint,),) = connection.execute(
            "select md5(string_agg(sql, '' order by table_name)) from duckdb_tables()"
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
            self._columns.setdefault(table.lower(), {})[column.lower()] = _TYPES.get(kind)
        self._fingerprint = fingerprint

    def ensure(
        self, connection: Connection, name: str, columns: Mapping[str, ColumnType]
    ) -> Mapping[str, ColumnType | None]:
        """Makes the table, or those of the columns that it lacks; returns all that it has."""
        if name not in self._columns:
            definitions = ", ".join(f"{quoted(n)} {_sql_type(k)}" for n, k in columns.items())
            connection.execute(f"create table {self.path(name)} ({definitions})").fetchall()
            self._columns[name] = dict(columns)
            self._fingerprint = None  # the transaction may yet be undone
        present = self._columns[name]
        for column, kind in columns.items():
            if column not in present:
                connection.execute(
                    f"alter table {self.path(name)} add column {quoted(column)} {_sql_type(kind)}"
                ).fetchall()
                present[column] = kind
                self._fingerprint = None
        return present

    def replace(self, connection: Connection, name: str, definitions: str) -> None:
        """Makes an empty table, in place of one that may be there."""
        connection.execute(f"create or replace table {self.path(name)} ({definitions})").fetchall()
        self._columns[name] = {}
        self._fingerprint = None


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(path), config=_CONFIG)
    except duckdb.IOException as error:
        if _LOCKED in str(error):
            raise SinkBusy(f"another process has {path} open") from error
        raise


@contextmanager
def incoming(
    connection: Connection,
    columns: Mapping[str, ColumnType],
    rows: Sequence[Mapping[str, Any]],
) -> Iterator[None]:
    """Makes rows visible to SQL under the name `INCOMING`."""
    table = pa.table(
        {
            name: pa.array(_values(rows, name), type=_ARROW_TYPES[kind])
            for name, kind in columns.items()
        }
    )
    connection.register(INCOMING, table)
    try:
        yield
    finally:
        connection.unregister(INCOMING)


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    try:
        return list(map(itemgetter(name), rows))  # twice as fast, and nearly all rows have it
    except KeyError:
        return [row.get(name) for row in rows]


def _sql_type(kind: ColumnType) -> str:
    return "VARCHAR" if kind == "TEXT" else kind
