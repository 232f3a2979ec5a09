"""A sink in memory: the reference for what a sink does, and a fake for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consumers.batch import Batch
from consumers.errors import WorkerRunning
from consumers.unknown_fields import TableColumns, fitted_rows
from consumers.values import NextOffsets, Partition, Row
from ingest.contract.tables import ColumnType


@dataclass(slots=True)
class MemoryStore:
    """What outlives a sink: rows by table and `event_id`, columns by table, and offsets.

    `fields` has the columns of fields that the catalogue does not know, by table,
    `running` how many sinks of a worker are open.
    """

    tables: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    columns: dict[str, dict[str, ColumnType]] = field(default_factory=dict)
    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    offsets: dict[tuple[str, str], dict[Partition, int]] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)


class MemorySink:
    """Writes to a store in memory."""

    def __init__(self, store: MemoryStore, *, worker: str) -> None:
        self._store = store
        self._worker = worker
        self._is_open = False

    async def open(self) -> None:
        """Says that the worker runs."""
        self._is_open = True
        self._store.running[self._worker] = self._store.running.get(self._worker, 0) + 1

    async def stored_offsets(self, source_id: str) -> NextOffsets:
        """A copy of what is stored."""
        return dict(self._store.offsets.get((self._worker, source_id), {}))

    async def write(self, batch: Batch) -> Mapping[str, int]:
        """Rows by `event_id`, the first one stays; per partition the greatest offset."""
        written: dict[str, int] = {}
        for name, rows in batch.tables.items():
            written[name] = self._write_rows(name, rows)
        stored = self._store.offsets.setdefault((self._worker, batch.source_id), {})
        for partition, offset in batch.next_offsets.items():
            stored[partition] = max(offset, stored.get(partition, 0))
        return written

    def _write_rows(self, name: str, rows: Sequence[Row]) -> int:
        table = self._store.tables.setdefault(name, {})
        columns = self._store.columns.setdefault(name, {})
        fields = self._store.fields.setdefault(name, {})
        before = len(table)
        fitted = fitted_rows(rows, TableColumns(columns=columns, fields=fields))
        columns.update(fitted.columns)
        fields.update(fitted.new_fields)
        for row in fitted.rows:
            table.setdefault(row["event_id"], row)
        return len(table) - before

    async def all_offsets(self) -> Mapping[str, NextOffsets]:
        """Copies of what is stored."""
        return {
            source_id: dict(offsets)
            for (worker, source_id), offsets in self._store.offsets.items()
            if worker == self._worker
        }

    async def replace_offsets(self, source_id: str, offsets: NextOffsets) -> None:
        """Replaces the mapping."""
        if self._store.running.get(self._worker):
            raise WorkerRunning(self._worker)
        self._store.offsets[self._worker, source_id] = dict(offsets)

    async def close(self) -> None:
        """Says that the worker has ended."""
        if self._is_open:
            self._is_open = False
            self._store.running[self._worker] -= 1
