"""Which events a DuckDB file has rows of: two small tables of hashes of their ids.

Events whose repeats keep their time are there by day; those whose repeats need not keep it, with
the time that their rows have. Only rows of events that these tables know are looked for in the
tables themselves, and only at such times. So the look costs some ten milliseconds per million
events, however wide the rows are and however far the times of a batch are apart, and days that the
batch has no time in are left out of it.
"""

# ruff: noqa: S608  (the only names put into SQL are our own)

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from consumers.batch import Batch
from consumers.sinks.duckdb_file import INCOMING, Connection, Tables, incoming
from ingest.contract.tables import ColumnType

IDS_TABLE = "forebay_ids"
"""Hashes of ids by `day`, in days since 1970."""

ANY_DAY_TABLE = "forebay_ids_any_day"
"""Hashes of ids by the `event_time` of their rows."""

_COLUMNS: Mapping[str, ColumnType] = {
    "event_id": "TEXT",
    "day": "BIGINT",
    "event_time": "TIMESTAMPTZ",
}
_DAY_US = 24 * 3_600 * 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_RANGES = 8

Bound = TypeVar("Bound", int, datetime)

Known = Mapping[str, Collection[datetime | None]]
"""Ids that tables may have rows of, and the times that these rows have; None stands for any."""


class _Event(NamedTuple):
    """An event of a batch: the `day` that its repeats have too, None if they need not."""

    day: int | None
    values: Mapping[str, Any]


Events = Mapping[str, _Event]
"""By their ids."""


class Ids:
    """Written in the transaction of the rows, so that no table has a row of an id unknown here."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def ensure(self, connection: Connection) -> None:
        """Makes both tables, with the ids of all rows that were written without them."""
        columns = self._tables.columns
        if IDS_TABLE in columns and "event_time" in columns.get(ANY_DAY_TABLE, {}):
            return
        self._tables.replace(connection, IDS_TABLE, "day BIGINT, id UBIGINT")
        self._tables.replace(connection, ANY_DAY_TABLE, "event_time TIMESTAMPTZ, id UBIGINT")
        for name, of_table in columns.items():
            if of_table.get("event_id") == "TEXT" and of_table.get("event_time") == "TIMESTAMPTZ":
                # nobody can tell any more which of them keep their time
                connection.execute(
                    f"insert into {self._tables.path(ANY_DAY_TABLE)}"
                    f" select event_time, md5_number_lower(event_id) from {self._tables.path(name)}"
                    " where event_id is not null"
                ).fetchall()

    def known(self, connection: Connection, events: Events) -> Known:
        """Those of these events that tables may have rows of."""
        if not events:
            return {}
        by_day = ranges(event.day for event in events.values() if event.day is not None)
        with incoming(connection, _COLUMNS, [event.values for event in events.values()]):
            found = connection.execute(
                f"with hashed as materialized"
                f" (select event_id, event_time, md5_number_lower(event_id) as id from {INCOMING}),"
                # the batch is the right side of each join, the one that is held in memory
                f" found as (select id, event_time, false as keeps"
                f"  from {self._tables.path(ANY_DAY_TABLE)} semi join hashed using (id)"
                " union all select id, null, true from (select id from"
                f"  {self._tables.path(IDS_TABLE)} where {in_ranges('day', by_day)})"
                "  semi join hashed using (id))"
                " select event_id, if(keeps, hashed.event_time, found.event_time)"
                " from hashed join found using (id)",
                bounds(by_day),
            ).fetchall()
        known: dict[str, set[datetime | None]] = {}
        for event_id, event_time in found:
            known.setdefault(event_id, set()).add(event_time)
        return known

    def add(
        self, connection: Connection, events: Events, known: Known, *, more_rows: Collection[str]
    ) -> None:
        """All of these events but those known already; of these, such as got `more_rows`."""
        new = [
            event.values
            for event_id, event in events.items()
            if event_id not in known or (event.day is None and event_id in more_rows)
        ]
        with incoming(connection, _COLUMNS, new):
            connection.execute(
                f"insert into {self._tables.path(IDS_TABLE)} select day, md5_number_lower(event_id)"
                f" from {INCOMING} where day is not null order by day"
            ).fetchall()
            connection.execute(
                f"insert into {self._tables.path(ANY_DAY_TABLE)}"
                f" select event_time, md5_number_lower(event_id) from {INCOMING} where day is null"
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


def events_of(batch: Batch) -> Events:
    """The events that a batch has rows of."""
    events = {}
    for rows in batch.tables.values():
        for row in rows:
            event_id, event_time = row.values["event_id"], row.values["event_time"]
            day = (event_time - _EPOCH).days if row.repeats_keep_time else None
            values = {"event_id": event_id, "day": day, "event_time": event_time}
            events[event_id] = _Event(day, values)
    return events
