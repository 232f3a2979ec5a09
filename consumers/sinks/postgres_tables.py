"""PostgreSQL's tables: which there are, and making what is missing while others write.

`events` is partitioned by the month of `event_time`. What has no time, or one that no event of
Canvas's can have, is in the default partition, so that there are twelve partitions a year at most.
"""

# ruff: noqa: S608  (the only names put into SQL are quoted: our tables, and the catalogue's)

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from consumers.sinks.own_tables import (
    FIELD_COLUMNS,
    FIELDS_TABLE,
    OFFSET_COLUMNS,
    OFFSETS_TABLE,
    columns_by_table,
)
from consumers.sinks.postgres_server import Connection
from ingest.contract.tables import EVENTS, ColumnType

IDS_TABLE = "forebay_event_ids"
"""Ids in the partitioned table of events whose repeats may have another time."""

Month = tuple[int, int]
"""Year and month, in UTC."""

_FIRST_MONTH: Month = (2011, 1)  # Canvas's first year
_AHEAD = timedelta(days=31)

SQL_TYPES: Mapping[ColumnType, str] = {
    "TEXT": "text",
    "BIGINT": "bigint",
    "DOUBLE": "double precision",
    "BOOLEAN": "boolean",
    "TIMESTAMPTZ": "timestamp with time zone",
    "JSON": "jsonb",
}
_TYPES: Mapping[str, ColumnType] = {name: kind for kind, name in SQL_TYPES.items()}
_OWN: Mapping[str, Mapping[str, ColumnType]] = {
    OFFSETS_TABLE: OFFSET_COLUMNS,
    FIELDS_TABLE: FIELD_COLUMNS,
    IDS_TABLE: {"event_id": "TEXT"},
}
_KEYS: Mapping[str, str] = {
    OFFSETS_TABLE: "primary key (worker, source_id, topic, partition)",
    FIELDS_TABLE: "primary key (table_name, field)",
    EVENTS: "unique (event_id, event_time)",
}
_KEY = "primary key (event_id)"
_LOOK = """
select c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relnamespace = to_regnamespace($1) and c.relkind in ('r', 'p')
  and a.attnum > 0 and not a.attisdropped
"""


class Tables:
    """The tables of one schema, as they were when they were last looked at."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._there: dict[str, dict[str, str]] = {}
        self._fields: dict[str, dict[str, str]] = {}
        self.are_known = False

    def path(self, name: str) -> str:
        """The table as SQL names it."""
        return f"{quoted(self._schema)}.{quoted(name)}"

    def columns(self, name: str) -> Mapping[str, ColumnType | None]:
        """What the table has; the type is None if it is none of ours."""
        return {column: _TYPES.get(kind) for column, kind in self._there.get(name, {}).items()}

    def fields(self, name: str) -> Mapping[str, str]:
        """The columns of fields that the catalogue does not know."""
        return self._fields.get(name, {})

    def sql_type(self, name: str, column: str) -> str:
        """The column's type in SQL."""
        return self._there[name][column]

    def lack(self, name: str, columns: Iterable[str], months: Iterable[Month]) -> bool:
        """Whether the table, a column or a partition is to be made."""
        there = self._there.get(name)
        return (
            there is None
            or any(column not in there for column in columns)
            or any(_partition(month) not in self._there for month in months)
        )

    def forget(self) -> None:
        """To be called where somebody may have altered them."""
        self.are_known = False

    async def look(self, connection: Connection) -> None:
        """Learns what there is."""
        there: dict[str, dict[str, str]] = {}
        for name, column, kind in await connection.fetch(_LOOK, quoted(self._schema)):
            there.setdefault(name, {})[column] = kind
        self._there, self._fields = there, {}
        if FIELDS_TABLE in there:
            self._fields = columns_by_table(
                await connection.fetch(
                    f"select table_name, field, column_name from {self.path(FIELDS_TABLE)}"
                )
            )
        self.are_known = True

    @asynccontextmanager
    async def altering(self, connection: Connection) -> AsyncIterator[None]:
        """A transaction in which nobody else of ours alters tables; knows them as they are in it.

        A query that runs for long on a table that is to have a new column is not waited for: it
        would keep all others waiting behind us.
        """
        try:
            async with connection.transaction(isolation="read_committed"):
                await connection.execute("set local lock_timeout = '2s'")
                await connection.execute(
                    "select pg_advisory_xact_lock(hashtextextended($1, 0))",
                    f"forebay tables {self._schema}",
                )
                await self.look(connection)
                yield
        except BaseException:
            self.forget()  # what was made may be undone
            raise

    async def make_own(self, connection: Connection) -> None:
        """Makes the schema, if there is none, and the tables that forebay keeps for itself."""
        # `create schema if not exists` wants the right to make one even where there is one
        if await connection.fetchval("select to_regnamespace($1)", quoted(self._schema)) is None:
            await connection.execute(f"create schema {quoted(self._schema)}")
        for name, columns in _OWN.items():
            await self.make(connection, name, columns)

    async def make(
        self, connection: Connection, name: str, columns: Mapping[str, ColumnType]
    ) -> None:
        """Makes the table, or those of the columns that it lacks."""
        if name not in self._there:
            await connection.execute(self._create(name, columns))
            self._there[name] = {n: SQL_TYPES[kind] for n, kind in columns.items()}
        there = self._there[name]
        missing = {n: SQL_TYPES[kind] for n, kind in columns.items() if n not in there}
        if missing:
            adding = ", ".join(f"add column {quoted(n)} {kind}" for n, kind in missing.items())
            await connection.execute(f"alter table {self.path(name)} {adding}")
            there.update(missing)

    async def write_fields(
        self, connection: Connection, name: str, fields: Mapping[str, str]
    ) -> None:
        """Remembers which columns fields have been given."""
        if fields:
            await connection.execute(
                f"insert into {self.path(FIELDS_TABLE)} (table_name, field, column_name)"
                " select $1, * from unnest($2::text[], $3::text[])"
                " on conflict (table_name, field) do update set column_name = excluded.column_name",
                name,
                list(fields),
                list(fields.values()),
            )
            self._fields[name] = {**self.fields(name), **fields}

    async def make_months(self, connection: Connection, months: Iterable[Month]) -> None:
        """Makes the partitions of `events` that are missing."""
        for month in sorted(months):
            if _partition(month) not in self._there:
                await connection.execute(self._add_month(month))
                self._there[_partition(month)] = self._there[EVENTS]

    def _create(self, name: str, columns: Mapping[str, ColumnType]) -> str:
        path, key = self.path(name), _KEYS.get(name, _KEY)
        definitions = ", ".join(f"{quoted(n)} {SQL_TYPES[kind]}" for n, kind in columns.items())
        if name != EVENTS:
            return f"create table {path} ({definitions}, {key})"
        return (
            f"create table {path} ({definitions}, {key}) partition by range (event_time);"
            f"alter table {path} alter column event_id set not null;"
            f"create table {self.path(_DEFAULT)} partition of {path} default"
        )

    def _add_month(self, month: Month) -> str:
        """Takes over what came for the month while it was too far ahead."""
        path, default, first, after = (
            self.path(_partition(month)),
            self.path(_DEFAULT),
            _begin(month),
            _begin(_next(month)),
        )
        columns = ", ".join(map(quoted, self._there[EVENTS]))
        return (
            f"create table {path} (like {self.path(EVENTS)});"
            f"with moved as (delete from {default} where event_time >= '{first}'"
            f" and event_time < '{after}' returning {columns})"
            f" insert into {path} ({columns}) select {columns} from moved;"
            f"alter table {self.path(EVENTS)} attach partition {path}"
            f" for values from ('{first}') to ('{after}')"
        )


_DEFAULT = f"{EVENTS}_default"


def month_of(time: datetime | None, now: datetime) -> Month | None:
    """The month whose partition an event of this time is in; None for the default one."""
    if time is None:
        return None
    month, last = _month(time), _month(now + _AHEAD)
    return month if _FIRST_MONTH <= month <= last else None


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _month(time: datetime) -> Month:
    utc = time.astimezone(UTC)
    return utc.year, utc.month


def _next(month: Month) -> Month:
    year, number = month
    return (year + 1, 1) if number == 12 else (year, number + 1)


def _begin(month: Month) -> str:
    return "{}-{:02}-01 00:00:00+00".format(*month)


def _partition(month: Month) -> str:
    return "{}_{}_{:02}".format(EVENTS, *month)
