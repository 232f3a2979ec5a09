"""Which events a DuckDB file has rows of: two small tables of hashes of their ids.

Events whose repeats keep their time are there by day; those whose repeats need not keep it, without
one. Only rows of events that these tables know are looked for in the tables themselves. So the look
costs some ten milliseconds per million events, however wide the rows are and however far the times
of a batch are apart, and days that the batch has no time in are left out of it.
"""

# ruff: noqa: S608  (the only names put into SQL are our own)

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, TypeVar

from consumers.batch import Batch
from consumers.sinks.duckdb_file import INCOMING, Connection, Tables, incoming
from ingest.contract.tables import ColumnType

IDS_TABLE = "forebay_ids"
"""Hashes of ids by `day`, in days since 1970."""

ANY_DAY_TABLE = "forebay_ids_any_day"

_COLUMNS: Mapping[str, ColumnType] = {"event_id": "TEXT", "day": "BIGINT"}
_DAY_US = 24 * 3_600 * 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_RANGES = 8

Bound = TypeVar("Bound", int, datetime)

Known = Mapping[str, bool]
"""Ids that tables may have rows of; whether all such rows have the time that a repeat has."""


class Ids:
    """Written in the transaction of the rows, so that no table has a row of an id unknown here."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def ensure(self, connection: Connection) -> None:
        """Makes both tables, with the ids of all rows that were written without them."""
        if {IDS_TABLE, ANY_DAY_TABLE} <= self._tables.columns.keys():
            return
        self._tables.replace(connection, IDS_TABLE, "day BIGINT, id UBIGINT")
        self._tables.replace(connection, ANY_DAY_TABLE, "id UBIGINT")
        for name, columns in self._tables.columns.items():
            if columns.get("event_id") == "TEXT" and columns.get("event_time") == "TIMESTAMPTZ":
                # nobody can tell any more which of them keep their time
                connection.execute(
                    f"insert into {self._tables.path(ANY_DAY_TABLE)}"
                    f" select md5_number_lower(event_id) from {self._tables.path(name)}"
                    " where event_id is not null"
                ).fetchall()

    def known(self, connection: Connection, batch: Batch) -> Known:
        """Those of the batch's events that tables may have rows of."""
        days = _days(batch)
        if not days:
            return {}
        by_day = ranges(day for day in days.values() if day is not None)
        with incoming(connection, _COLUMNS, _rows(days)):
            found = connection.execute(
                f"with hashed as materialized"
                f" (select event_id, md5_number_lower(event_id) as id from {INCOMING}),"
                # the batch is the right side of each join, the one that is held in memory
                f" found as (select id, false as keeps from {self._tables.path(ANY_DAY_TABLE)}"
                "  semi join hashed using (id)"
                " union all select id, true from (select id from"
                f"  {self._tables.path(IDS_TABLE)} where {in_ranges('day', by_day)})"
                "  semi join hashed using (id))"
                " select event_id, bool_and(keeps) from hashed join found using (id) group by all",
                bounds(by_day),
            ).fetchall()
        return dict(found)

    def add(self, connection: Connection, batch: Batch, known: Known) -> None:
        """All events of the batch but those known already."""
        new = {event_id: day for event_id, day in _days(batch).items() if event_id not in known}
        with incoming(connection, _COLUMNS, _rows(new)):
            connection.execute(
                f"insert into {self._tables.path(IDS_TABLE)} select day, md5_number_lower(event_id)"
                f" from {INCOMING} where day is not null order by day"
            ).fetchall()
            connection.execute(
                f"insert into {self._tables.path(ANY_DAY_TABLE)} select md5_number_lower(event_id)"
                f" from {INCOMING} where day is null"
            ).fetchall()


def ranges(values: Iterable[Bound]) -> list[tuple[Bound, Bound]]:
    """Few ranges that hold all values, with the widest gaps between them."""
    ordered = sorted(set(values))
    widest: list[int] = sorted(range(1, len(ordered)), key=lambda n: ordered[n - 1] - ordered[n])
    cuts = [0, *sorted(widest[: _MAX_RANGES - 1]), len(ordered)]
    return [(ordered[a], ordered[b - 1]) for a, b in pairwise(cuts) if a < b]


def in_ranges(column: str, found: list[tuple[Bound, Bound]]) -> str:
    """A condition of SQL whose parameters are `bounds`; none holds for no ranges."""
    return " or ".join([f"{column} between ? and ?"] * len(found)) or "false"


def bounds(found: list[tuple[Bound, Bound]]) -> list[Bound]:
    """The parameters of `in_ranges`."""
    return [bound for both in found for bound in both]


def _days(batch: Batch) -> dict[str, int | None]:
    """For each event of the batch the day that its repeats have too, None if they need not."""
    return {
        row.values["event_id"]: (row.values["event_time"] - _EPOCH).days
        if row.repeats_keep_time
        else None
        for rows in batch.tables.values()
        for row in rows
    }


def _rows(days: Mapping[str, int | None]) -> list[dict[str, Any]]:
    return [{"event_id": event_id, "day": day} for event_id, day in days.items()]
