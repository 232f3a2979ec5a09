"""The tables that forebay keeps for itself in every SQL store, beside those of events.

`OFFSETS_TABLE` says how far each worker's tables are complete, `FIELDS_TABLE` which column a field
has that the catalogue does not know.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from consumers.batch import Batch
from consumers.values import NextOffsets, Partition, Row
from ingest.contract.tables import ColumnType

OFFSETS_TABLE = "forebay_offsets"
OFFSET_COLUMNS: Mapping[str, ColumnType] = {
    "worker": "TEXT",
    "source_id": "TEXT",
    "topic": "TEXT",
    "partition": "BIGINT",
    "next_offset": "BIGINT",
}
"""One row for each worker, source, topic and partition."""

FIELDS_TABLE = "forebay_unknown_fields"
FIELD_COLUMNS: Mapping[str, ColumnType] = {
    "table_name": "TEXT",
    "field": "TEXT",
    "column_name": "TEXT",
}
"""One row for each table and field."""


def offset_rows(worker: str, source_id: str, offsets: NextOffsets) -> list[dict[str, Any]]:
    """The rows of `OFFSETS_TABLE`, in an order that all writers share."""
    return [
        {
            "worker": worker,
            "source_id": source_id,
            "topic": partition.topic,
            "partition": partition.number,
            "next_offset": offset,
        }
        for partition, offset in sorted(offsets.items())
    ]


def offsets_by_source(rows: Iterable[Sequence[Any]]) -> dict[str, dict[Partition, int]]:
    """What rows of (source id, topic, partition, next offset) say."""
    found: dict[str, dict[Partition, int]] = {}
    for source_id, topic, number, offset in rows:
        found.setdefault(source_id, {})[Partition(topic, number)] = offset
    return found


def columns_by_table(rows: Iterable[Sequence[Any]]) -> dict[str, dict[str, str]]:
    """What rows of (table, field, column) say: per table the column of each field."""
    found: dict[str, dict[str, str]] = {}
    for name, field, column in rows:
        found.setdefault(name, {})[field] = column
    return found


def all_columns(rows: Iterable[Row]) -> dict[str, ColumnType]:
    """What these rows of one table need together."""
    # rows of one shape share one mapping
    distinct = {id(row.columns): row.columns for row in rows}.values()
    return {name: kind for each in distinct for name, kind in each.items()}


def event_id(row: Row) -> str:
    """Whose row it is."""
    ours: str = row.values["event_id"]
    return ours


def has_unknown(batch: Batch) -> bool:
    """Whether some row has fields that the catalogue does not know."""
    return any(row.unknown for rows in batch.tables.values() for row in rows)
