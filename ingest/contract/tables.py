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

CONTEXT = ("context_type", "context_id")
COURSE = "course_id"

TYPED_HEAD: Mapping[str, ColumnType] = {
    **HEAD,
    "format": "TEXT",
    "trigger": "TEXT",
    "actor_id": "TEXT",
    "actor_login": "TEXT",
    **dict.fromkeys(CONTEXT, "TEXT"),
    COURSE: "TEXT",
}
"""The columns that the table of any type begins with.

`actor_id`, `context_id` and `course_id` are global ids wherever the event tells its shard, so they
join across all tables; the other columns have ids as they were sent. The course is the one that
the body names; else the context, the body's before the metadata's, where that is a course.
"""

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
    """For each field of a type its column and the column's type.

    What a body says of its course and of its context stands in the columns of the head. Any other
    field whose name the head has is numbered.
    """
    shared = _shared_with_head(fields)
    others = [field for field in fields if field not in shared]
    names = column_names(others, taken=TYPED_HEAD) | {field: field for field in shared}
    return {field: (names[field], _OF_FIELDS[kind]) for field, kind in fields.items()}


def table_columns(fields: Mapping[str, FieldType]) -> dict[str, ColumnType]:
    """All columns of the table of a type with these fields."""
    return {**TYPED_HEAD, **dict(typed_columns(fields).values())}


def states_context(fields: Mapping[str, FieldType]) -> bool:
    """Whether bodies with these fields name the place that their entity belongs to."""
    # the id alone, of what nobody says, is some service's own
    return all(name in fields for name in CONTEXT)


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
    names = _Names(taken)
    return {field: names.give(re.sub(r"[^a-z0-9_]", "_", field.lower()) or "_") for field in fields}


def _shared_with_head(fields: Mapping[str, FieldType]) -> frozenset[str]:
    context = CONTEXT if states_context(fields) else ()
    return frozenset(context) | ({COURSE} & fields.keys())


class _Names:
    """Gives names that are free, each once.

    What a name is cut to depends on how many digits its number has. Of the names that are cut to
    the same, the search goes on where it last stopped, so that many alike cost no more than others.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._used = set(taken)
        self._next: dict[tuple[str, int], int] = {}

    def give(self, wanted: str) -> str:
        name = wanted if self._is_free(wanted) else self._numbered(wanted)
        self._used |= {name, text_column(name)}
        return name

    def _numbered(self, wanted: str) -> str:
        digits = 0
        while True:
            digits += 1
            cut, end = wanted[: MAX_NAME_BYTES - len("__") - digits], 10**digits
            first = self._next.get((cut, digits), max(2, end // 10))
            free = (n for n in range(first, end) if self._is_free(f"{cut}__{n}"))
            number = self._next[cut, digits] = next(free, end)
            if number < end:
                return f"{cut}__{number}"

    def _is_free(self, name: str) -> bool:
        if len(name) > MAX_NAME_BYTES:
            return False
        return name not in self._used and text_column(name) not in self._used
