"""Columns in ClickHouse's types, and rows as the columns of one insert. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from consumers import columns
from consumers.sinks.clickhouse_client import Column
from consumers.unknown_fields import FittedRows
from consumers.values import Row
from ingest.contract.tables import ColumnType, text_column

KEEPS_TIME = "forebay_keeps_time"
"""Whether every repeat of the row's event has the row's `event_time`; views leave it out."""

NOT_NULL = frozenset({"event_id", KEEPS_TIME})
"""Columns that every row has a value of, whatever its table."""

ANY_MONTH = 0
"""The partition of rows whose repeats may come with another time, or that have none."""

PARTITION = f"if({KEEPS_TIME}, toYYYYMM(assumeNotNull(event_time)), {ANY_MONTH})"
"""What `month_of` says, in SQL. Repeats share it, since only within a partition are they merged."""

JSON_COMMENT = "JSON"
"""How the comment of a column begins that holds JSON as text."""

_SQL_TYPES: Mapping[ColumnType, str] = {
    "TEXT": "Nullable(String)",
    "BIGINT": "Nullable(Int64)",
    "DOUBLE": "Nullable(Float64)",
    "BOOLEAN": "Nullable(Bool)",
    "TIMESTAMPTZ": "Nullable(DateTime64(6, 'UTC'))",
    "JSON": "Nullable(String)",
}
_TYPES: Mapping[str, ColumnType] = {
    **{sql: kind for kind, sql in _SQL_TYPES.items() if kind != "JSON"},
    "LowCardinality(Nullable(String))": "TEXT",
}
_OF_FEW_VALUES = frozenset(
    {"event_type", "source", "format", "tenant", "producer", "trigger", "context_type"}
)
_FIRST, _END = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC)
"""What DateTime64 holds for sure; beyond it, functions and formats cut times silently."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def definition(name: str, kind: ColumnType) -> str:
    """The column as `create table` has it."""
    if name == "event_id":
        return f"{quoted(name)} String"
    if kind == "TEXT" and name in _OF_FEW_VALUES:
        return f"{quoted(name)} LowCardinality(Nullable(String))"
    comment = f" comment '{JSON_COMMENT}'" if kind == "JSON" else ""
    return f"{quoted(name)} {_SQL_TYPES[kind]}{comment}"


def column_type(sql_type: str, comment: str) -> ColumnType | None:
    """The type of a column that is there; None if it is none of ours."""
    kind = _TYPES.get(sql_type)
    return "JSON" if kind == "TEXT" and comment.startswith(JSON_COMMENT) else kind


def quoted(name: str) -> str:
    """A name in SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def month_of(row: Row) -> int:
    """The partition that the row belongs to, as 202609, or `ANY_MONTH`."""
    time: datetime | None = row.values.get("event_time")
    if not row.repeats_keep_time or time is None or not _is_held(time):
        return ANY_MONTH
    utc = time.astimezone(UTC)
    return utc.year * 100 + utc.month


def held(fitted: FittedRows) -> FittedRows:
    """The same with every time that no DateTime64 holds as text, in the `__text` column."""
    times = [name for name, kind in fitted.columns.items() if kind == "TIMESTAMPTZ"]
    rows = [_held(row, times) for row in fitted.rows]
    texts = {name: None for row in rows for name in row if name not in fitted.columns}
    if not texts:
        return replace(fitted, rows=rows)
    return replace(fitted, rows=rows, columns={**fitted.columns, **dict.fromkeys(texts, "TEXT")})


def insertable(rows: Sequence[Row], fitted: FittedRows) -> dict[str, Column]:
    """These rows, fitted, as columns; those that are NULL throughout are left out."""
    block: dict[str, Column] = {}
    for name, kind in fitted.columns.items():
        values = _values(fitted.rows, name)
        if name == "event_id":
            block[name] = Column("String", values)
        elif any(value is not None for value in values):
            block[name] = Column(_SQL_TYPES[kind], _sent(values, kind))
    keeps = [month_of(row) != ANY_MONTH for row in rows]
    return {**block, KEEPS_TIME: Column("Bool", keeps)}


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    try:
        return list(map(itemgetter(name), rows))  # twice as fast, and nearly all rows have it
    except KeyError:
        return [row.get(name) for row in rows]


def _sent(values: Sequence[Any], kind: ColumnType) -> Sequence[Any]:
    if kind != "TIMESTAMPTZ":
        return values
    # exact, where the driver would go through a float
    return [None if time is None else (time - _EPOCH) // _MICROSECOND for time in values]


def _held(row: Mapping[str, Any], times: Sequence[str]) -> Mapping[str, Any]:
    misfits = [n for n in times if (time := row.get(n)) is not None and not _is_held(time)]
    if not misfits:
        return row
    texts = {text_column(n): columns.as_text_again(row[n], "TIMESTAMPTZ") for n in misfits}
    return {**row, **dict.fromkeys(misfits), **texts}


def _is_held(time: datetime) -> bool:
    return _FIRST <= time < _END
