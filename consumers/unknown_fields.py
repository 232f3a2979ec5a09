"""Columns for what the catalogue does not know, and for what the table has of another type.

Pure, for every sink: it reads what columns the table has and which fields it gave columns to, and
writes the rows that come out, along with new names, in one transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers import columns
from consumers.values import Row
from ingest.contract.tables import MAX_UNKNOWN_FIELDS, ColumnType, column_names, text_column


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """What a table has: its columns, and the columns of its unknown fields by these.

    The type of a column is None if it is none of ours: then the store is to convert.
    """

    columns: Mapping[str, ColumnType | None] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedRows:
    """What to write: columns that the rows need, rows by column, and columns newly given."""

    columns: Mapping[str, ColumnType]
    rows: Sequence[Mapping[str, Any]]
    new_fields: Mapping[str, str]


def fitted_rows(rows: Sequence[Row], table: TableColumns) -> FittedRows:
    """One table's rows as the table can hold them.

    A column that the table has keeps its type: what does not fit goes to its `__text` column.
    """
    declared: dict[str, ColumnType] = {}
    shapes = {id(row.columns): row.columns for row in rows}  # rows of one shape share one mapping
    for columns_ in shapes.values():
        declared |= columns_
    fields = _named(rows, declared, table)
    needed = declared | _unknown_columns(rows, fields, table)
    kinds = {name: table.columns.get(name) or kind for name, kind in needed.items()}
    retyped = {
        id(columns_): [n for n, kind in columns_.items() if kinds[n] != kind]
        for columns_ in shapes.values()
    }
    values = [_held(row, retyped[id(row.columns)], fields, kinds) for row in rows]
    changed = (held for held, row in zip(values, rows, strict=True) if held is not row.values)
    texts = {name: "TEXT" for held in changed for name in held if name not in kinds}
    return FittedRows(
        columns={**kinds, **dict.fromkeys(texts, "TEXT")},
        rows=values,
        new_fields={n: c for n, c in fields.items() if table.fields.get(n) != c},
    )


def _named(
    rows: Iterable[Row], declared: Mapping[str, ColumnType], table: TableColumns
) -> Mapping[str, str]:
    """The columns of all unknown fields that have one, in the order of their first coming."""
    # the catalogue may have learnt of a field whose name one of these has
    taken = declared.keys() | set(map(text_column, declared))
    kept = {n: c for n, c in table.fields.items() if not {c, text_column(c)} & taken}
    wanted = {n: None for row in rows for n, v in row.unknown.items() if v is not None}
    room = MAX_UNKNOWN_FIELDS - len(kept)
    new = [name for name in wanted if name not in kept][: max(room, 0)]
    if not new:
        return kept
    used = {*taken, *table.columns, *kept.values(), *map(text_column, kept.values())}
    return kept | column_names(new, taken=used)


def _unknown_columns(
    rows: Iterable[Row], fields: Mapping[str, str], table: TableColumns
) -> dict[str, ColumnType]:
    """The columns that these rows need for unknown fields; the first value decides on a type."""
    needed: dict[str, ColumnType] = {}
    for row in rows:
        for name, value in row.unknown.items():
            if value is not None and name in fields and fields[name] not in needed:
                needed[fields[name]] = columns.natural_type(value)
    return needed


def _held(
    row: Row,
    retyped: Sequence[str],
    fields: Mapping[str, str],
    kinds: Mapping[str, ColumnType],
) -> Mapping[str, Any]:
    """The row's values by column; `retyped` are those of its columns that the table types anew."""
    if not retyped and not row.unknown:
        return row.values
    values = dict(row.values)
    for name in retyped:
        was, value = row.columns[name], values.pop(name, None)
        try:
            values[name] = columns.fit_again(value, was, kinds[name])
        except columns.Misfit:
            values[text_column(name)] = columns.as_text_again(value, was)
    for name, value in row.unknown.items():
        if value is None or name not in fields:
            continue
        column = fields[name]
        try:
            values[column] = columns.fit(value, kinds[column])
        except columns.Misfit:
            values[text_column(column)] = columns.as_text(value)
    return values
