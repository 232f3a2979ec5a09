"""The tables that hold the rows, and the views that readers ask.

A table `things` is a view of that name over `forebay_raw_things`. Two workers that write the same
event at the same time leave it twice in the raw table until ClickHouse merges its parts; the view
shows it once, always.
"""

# ruff: noqa: S608  (the only names put into SQL are quoted: our tables, and the catalogue's)

from collections.abc import Mapping, Sequence

from consumers.errors import SinkBusy, StartupError
from consumers.sinks.clickhouse_client import MAX_LISTED, Column, Server
from consumers.sinks.clickhouse_types import (
    ANY_MONTH,
    KEEPS_TIME,
    NOT_NULL,
    PARTITION,
    column_type,
    definition,
    held,
    insertable,
    month_of,
    quoted,
)
from consumers.sinks.own_tables import FIELDS_TABLE, columns_by_table, event_id
from consumers.unknown_fields import FittedRows, TableColumns, fitted_rows
from consumers.values import Row
from ingest.contract.tables import ColumnType

RAW = "forebay_raw_"

FLUSHED = "fsync_after_insert = 1, fsync_part_directory = 1"
"""Settings of every table: an offset must not outlive its rows when the power fails."""

_LAST_TOKENS = 100
"""Of how many inserts a table knows the token: more than one batch makes, with room."""

_LOOKS = 4
"""How often tables are altered and looked at again before others are left to finish."""


class Tables:
    """The tables of one database, as they were when they were last looked at."""

    def __init__(self, server: Server, schema: str) -> None:
        self._server = server
        self._schema = schema
        self._columns: dict[str, dict[str, ColumnType | None]] = {}
        self._shown: dict[str, frozenset[str]] = {}
        self._fields: dict[str, dict[str, str]] = {}

    @property
    def names(self) -> frozenset[str]:
        """What the database has but for raw tables."""
        return frozenset(self._shown)

    def path(self, name: str) -> str:
        """A table or view as SQL names it."""
        return f"{quoted(self._schema)}.{quoted(name)}"

    async def look(self) -> None:
        """Learns what there is. Raises SinkBusy."""
        columns = await self._server.rows(
            "select table, name, type, comment from system.columns where database = %(schema)s"
            " order by table, position",
            schema=self._schema,
        )
        self._columns, shown = {}, dict[str, set[str]]()
        for table, name, sql_type, comment in columns:
            if table.startswith(RAW):
                of_table = self._columns.setdefault(table.removeprefix(RAW), {})
                of_table[name] = column_type(sql_type, comment)
            else:
                shown.setdefault(table, set()).add(name)
        self._shown = {name: frozenset(each) for name, each in shown.items()}
        if FIELDS_TABLE in self._shown:
            found = await self._server.rows(
                "select table_name, field, column_name"
                f" from {self.path(FIELDS_TABLE)} final order by all"
            )
            self._fields = columns_by_table(found)

    async def ensure(self, tables: Mapping[str, Mapping[str, ColumnType]]) -> None:
        """Makes the tables, columns and views that are missing. Raises SinkBusy, StartupError."""
        for _ in range(_LOOKS):
            lacking = {name: of for name, of in tables.items() if self._lacks(name, of)}
            for name, columns in lacking.items():
                await self._add(name, columns)
            if lacking:
                await self.look()
            # also where another worker made the view between its look at the columns and ours
            stale = [name for name in self._columns if self._shown.get(name) != self._visible(name)]
            for name in stale:
                await self._show(name)
            if not lacking and not stale:
                return
            await self.look()
        raise SinkBusy("other workers alter the same tables")

    async def fit(self, tables: Mapping[str, Sequence[Row]]) -> Mapping[str, FittedRows]:
        """Rows as their tables hold them, once these have all that it needs. Raises SinkBusy."""
        fitted = self._fitted(tables)
        for _ in range(_LOOKS):
            if not self._missing(fitted):
                return fitted
            await self.look()  # another worker may have made it meanwhile
            fitted = self._fitted(tables)
            # names first: a column that no name leads to would never be used again
            await self._keep_names(fitted)
            await self.ensure(self._missing(fitted))
            fitted = self._fitted(tables)
        raise SinkBusy("other workers alter the same tables")

    async def there(self, name: str, rows: Sequence[Row]) -> frozenset[str]:
        """Ids of these rows that the table has. Raises SinkBusy."""
        if name not in self._columns:
            return frozenset()
        months = sorted({ANY_MONTH} | {month_of(row) for row in rows})
        ids, found = [event_id(row) for row in rows], set[str]()
        for first in range(0, len(ids), MAX_LISTED):
            known = await self._server.rows(
                f"select distinct event_id from {self.path(RAW + name)}"
                " where _partition_id in %(months)s and event_id in %(ids)s",
                months=tuple(map(str, months)),
                ids=tuple(ids[first : first + MAX_LISTED]),
            )
            found |= {event for (event,) in known}
        return frozenset(found)

    async def insert(
        self, name: str, rows: Sequence[Row], fitted: FittedRows, *, token: str
    ) -> None:
        """Adds the rows. Raises SinkBusy."""
        block = insertable(rows, fitted)
        present = self._columns[name]
        await self._server.insert(
            self.path(RAW + name),
            block,
            token=token,
            may_convert=any(present[n] is None for n in block if n not in NOT_NULL),
        )

    def _fitted(self, tables: Mapping[str, Sequence[Row]]) -> dict[str, FittedRows]:
        fitted = {}
        for name, rows in tables.items():
            present = {**self._columns.get(name, {}), KEEPS_TIME: None}
            table = TableColumns(columns=present, fields=self._fields.get(name, {}))
            fitted[name] = held(fitted_rows(rows, table))
        return fitted

    def _missing(self, fitted: Mapping[str, FittedRows]) -> dict[str, Mapping[str, ColumnType]]:
        """Of tables that lack something the columns that the rows need."""
        return {
            name: each.columns
            for name, each in fitted.items()
            if each.new_fields or self._lacks(name, each.columns)
        }

    def _lacks(self, name: str, columns: Mapping[str, ColumnType]) -> bool:
        return name not in self._columns or bool(columns.keys() - self._columns[name].keys())

    def _visible(self, name: str) -> frozenset[str]:
        return frozenset(self._columns[name]) - {KEEPS_TIME}

    async def _add(self, name: str, columns: Mapping[str, ColumnType]) -> None:
        """Makes the table, or those of the columns that it lacks."""
        table = self.path(RAW + name)
        if name not in self._columns:
            defined = ", ".join(definition(n, kind) for n, kind in columns.items())
            await self._server.run(
                f"create table if not exists {table} ({defined}, {quoted(KEEPS_TIME)} Bool)"
                f" engine = ReplacingMergeTree order by event_id partition by {PARTITION}"
                f" settings non_replicated_deduplication_window = {_LAST_TOKENS}, {FLUSHED}"
            )
        present = self._columns.get(name, columns)
        missing = {n: kind for n, kind in columns.items() if n not in present}
        if missing:
            added = ", ".join(
                f"add column if not exists {definition(n, kind)}" for n, kind in missing.items()
            )
            await self._server.run(f"alter table {table} {added}")

    async def _show(self, name: str) -> None:
        """Makes the view again: its columns are those that the table had when it was made."""
        if name in self._shown:
            await self._refuse_to_replace(name)
        await self._server.run(
            f"create or replace view {self.path(name)} as"
            f" select * except {quoted(KEEPS_TIME)} from {self.path(RAW + name)} final"
            # repeats share their partition
            " settings do_not_merge_across_partitions_select_final = 1"
        )

    async def _refuse_to_replace(self, name: str) -> None:
        """Raises StartupError if what has this name is no view, which would be lost."""
        others = await self._server.rows(
            "select 1 from system.tables where database = %(schema)s and name = %(name)s"
            " and engine != 'View'",
            schema=self._schema,
            name=name,
        )
        if others:
            raise StartupError(
                f"{self._schema}.{name} is a table of somebody else's: move it, or choose another"
                " FOREBAY_STORE__SCHEMA"
            )

    async def _keep_names(self, fitted: Mapping[str, FittedRows]) -> None:
        named = [
            (name, field, column)
            for name, each in fitted.items()
            for field, column in each.new_fields.items()
        ]
        if not named:
            return
        tables, fields, columns = zip(*named, strict=True)
        await self._server.insert(
            self.path(FIELDS_TABLE),
            {
                "table_name": Column("String", tables),
                "field": Column("String", fields),
                "column_name": Column("String", columns),
            },
        )
