"""Rows into PostgreSQL's tables: one statement for many rows, which leaves known ones out.

Columns go as arrays. Rows go in the order of their ids, so that of two workers that write the same
events one waits for the other, and never both.
"""

# ruff: noqa: S608  (the only names put into SQL are quoted: our tables, and the catalogue's)

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.sinks.own_tables import event_id
from consumers.sinks.postgres_server import Connection
from consumers.sinks.postgres_tables import IDS_TABLE, SQL_TYPES, Tables, quoted
from consumers.unknown_fields import FittedRows
from consumers.values import Row
from ingest.contract.tables import EVENTS, ColumnType

MOST_ROWS = 2_000
"""In one statement: more are no quicker, and take memory."""

Values = Mapping[str, Any]


async def insert_rows(
    connection: Connection, tables: Tables, name: str, rows: Sequence[Row], fitted: FittedRows
) -> int:
    """Writes what is new of one table's rows, within the transaction; returns how many that was."""
    ordered = sorted(zip(rows, fitted.rows, strict=True), key=lambda pair: event_id(pair[0]))
    insert = _Insert(tables, name, fitted.columns)
    if name != EVENTS:
        return await insert.run(connection, [values for _, values in ordered], _UNLESS_ID)
    by_time = [values for row, values in ordered if row.repeats_keep_time]
    by_id = [values for row, values in ordered if not row.repeats_keep_time]
    return await insert.run(connection, by_time, _unless_known(tables)) + await insert.run(
        connection, await _unknown(connection, tables, by_id), _UNLESS_BOTH
    )


_UNLESS_ID = "on conflict (event_id) do nothing"
# of a partitioned table, in which a row is found by its time
_UNLESS_BOTH = "on conflict (event_id, event_time) do nothing"


def _unless_known(tables: Tables) -> str:
    """Of events whose repeats have the same time, unless an earlier release read it otherwise."""
    return (
        f"where not exists (select from {tables.path(IDS_TABLE)} as known"
        f" join {tables.path(EVENTS)} as there using (event_id)"
        f" where known.event_id = new.event_id) {_UNLESS_BOTH}"
    )


async def _unknown(connection: Connection, tables: Tables, rows: Sequence[Values]) -> list[Values]:
    """Those rows of `events` that it lacks, whatever their time; others who write them wait."""
    if not rows:
        return []
    ids = tables.path(IDS_TABLE)
    fresh = await connection.fetch(
        f"insert into {ids} (event_id) select unnest($1::text[])"
        " on conflict (event_id) do nothing returning event_id",
        [values["event_id"] for values in rows],
    )
    new = {each for (each,) in fresh}
    # an earlier release may have read a time where there is none, and rows may have been deleted
    doubtful = [
        values["event_id"]
        for values in rows
        if values["event_id"] not in new or values.get("event_time") is None
    ]
    if doubtful:
        await connection.execute(
            f"select from {ids} where event_id = any($1::text[]) order by event_id for update",
            doubtful,
        )
        # only now, so that it sees what those have written who were waited for
        there = await connection.fetch(
            f"select event_id from {tables.path(EVENTS)} where event_id = any($1::text[])", doubtful
        )
        new = (new | set(doubtful)) - {each for (each,) in there}
    return [values for values in rows if values["event_id"] in new]


class _Insert:
    """Inserts one table's rows, given as one array for each column."""

    def __init__(self, tables: Tables, name: str, columns: Mapping[str, ColumnType]) -> None:
        self._columns = columns
        arrays = [f"${n}::{SQL_TYPES[kind]}[]" for n, kind in enumerate(columns.values(), 1)]
        names = ", ".join(map(quoted, columns))
        # where somebody has given a column another type, PostgreSQL is to convert
        values = ", ".join(f"new.{quoted(n)}::{tables.sql_type(name, n)}" for n in columns)
        self._statement = (
            f"insert into {tables.path(name)} ({names})"
            f" select {values} from unnest({', '.join(arrays)}) as new ({names})"
        )

    async def run(self, connection: Connection, rows: Sequence[Values], unless: str) -> int:
        """Inserts the rows; returns how many were new."""
        written = 0
        for at in range(0, len(rows), MOST_ROWS):
            chunk = rows[at : at + MOST_ROWS]
            arrays = [_array(chunk, name, kind) for name, kind in self._columns.items()]
            status = await connection.execute(f"{self._statement} {unless}", *arrays)
            written += int(status.rpartition(" ")[2])
        return written


def _array(rows: Sequence[Values], name: str, kind: ColumnType) -> list[Any]:
    column = [values.get(name) for values in rows]
    if column.count(None) == len(column):
        return []  # which `unnest` fills up with NULLs: asyncpg looks long at each None
    if kind == "TIMESTAMPTZ":
        return [_ENDS.get(at, at) if at and at.year in _END_YEARS else at for at in column]
    return column


# asyncpg writes the first and the last moment of all as infinities, which others cannot read
_TICK = timedelta.resolution
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_ENDS = {_FIRST: _FIRST + _TICK, _LAST: _LAST - _TICK}
_END_YEARS = {_FIRST.year, _LAST.year}
