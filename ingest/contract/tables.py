"""The tables that events become: their columns, and how columns are named.

Whoever queries tables builds on this, so it is part of the contract.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from ingest.contract.catalogue import EventType, FieldType

ColumnType = Literal["TEXT", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMPTZ", "JSON"]
"""What a column holds: `str`, `int`, `float`, `bool`, an aware `datetime`, or JSON as `str`."""

HEAD: Mapping[str, ColumnType] = {
    "event_id": "TEXT",
    "event_time": "TIMESTAMPTZ",
    "received_at": "TIMESTAMPTZ",
    "tenant": "TEXT",
}
"""The columns that most tables begin with."""

TYPED_HEAD: Mapping[str, ColumnType] = {**HEAD, "actor_id": "TEXT"}
"""The columns that the table of any type begins with."""

EVENTS = "events"
EVENTS_COLUMNS: Mapping[str, ColumnType] = {
    "event_id": "TEXT",
    "event_type": "TEXT",
    "event_time": "TIMESTAMPTZ",
    "received_at": "TIMESTAMPTZ",
    "source": "TEXT",
    "format": "TEXT",
    "tenant": "TEXT",
    "producer": "TEXT",
    "root_account_uuid": "TEXT",
    "subscription_id": "TEXT",
    "user_id": "TEXT",
    "context_type": "TEXT",
    "context_id": "TEXT",
    "metadata": "JSON",
    "body": "JSON",
}

COURSE_COPIES = "course_copies"
COURSE_COPIES_COLUMNS: Mapping[str, ColumnType] = {
    **HEAD,
    "issuer": "TEXT",
    "client_id": "TEXT",
    "deployment_id": "TEXT",
    "context_id": "TEXT",
    "context_label": "TEXT",
    "context_title": "TEXT",
    "origin_context_id": "TEXT",
    "origin_context_ids": "JSON",
}

MAX_UNKNOWN_FIELDS = 200
"""How many unknown fields get columns of their own in one table; the rest is in `events.body`."""

MAX_NAME_BYTES = 55
"""Longest column name, which leaves room for `__text` within PostgreSQL's 63 bytes."""

_TEXT = "__text"
_CALIPER = "__caliper"
_OF_FIELDS: Mapping[FieldType, ColumnType] = {
    "id": "TEXT",
    "ids": "JSON",
    "string": "TEXT",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
    "object": "JSON",
    "array": "JSON",
}


def typed_columns(fields: Mapping[str, FieldType]) -> dict[str, tuple[str, ColumnType]]:
    """For each field of a type its column and the column's type."""
    names = column_names(fields, taken=TYPED_HEAD)
    return {field: (names[field], _OF_FIELDS[kind]) for field, kind in fields.items()}


def caliper_table(entry: EventType) -> str:
    """Where the type's events in Caliper format are."""
    return entry.table + _CALIPER


def text_column(column: str) -> str:
    """Where a value goes as text that does not fit its column."""
    return column + _TEXT


def column_names(fields: Iterable[str], *, taken: Iterable[str]) -> dict[str, str]:
    """Each field's column: lower case, other characters `_`; `__2`, `__3` where that is not free.

    A field's `__text` column is never free for another field.
    """
    used = set(taken)
    names: dict[str, str] = {}
    for field in fields:
        name = _free_name(re.sub(r"[^a-z0-9_]", "_", field.lower()) or "_", used)
        used |= {name, text_column(name)}
        names[field] = name
    return names


def _free_name(wanted: str, used: set[str]) -> str:
    name, number = wanted, 1
    while name in used or text_column(name) in used or len(name) > MAX_NAME_BYTES:
        number += 1
        suffix = f"__{number}"
        name = wanted[: MAX_NAME_BYTES - len(suffix)] + suffix
    return name
