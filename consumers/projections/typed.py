"""One table per event type and format: the body's top-level fields as columns.

Fields that the catalogue lacks go along as they are: what columns they get depends on the table.

The body of a Caliper event has other fields than its type's table has columns, so it has a table of
its own, `<table>__caliper`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from consumers import columns
from consumers.projections import head
from consumers.values import Row
from ingest.contract.catalogue import Catalogue, FieldType
from ingest.contract.envelope import Envelope
from ingest.contract.tables import TYPED_HEAD, ColumnType, caliper_table, text_column, typed_columns


class TypedTables:
    """Rows for the tables of the types that the catalogue knows."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._shapes = {
            (entry.source, entry.name): _Shape.of(entry.table, entry.fields) for entry in catalogue
        }
        self._caliper_shapes = {
            (entry.source, entry.name): _Shape.of(caliper_table(entry), catalogue.caliper_fields)
            for entry in catalogue
            if entry.caliper
        }

    def rows(self, envelope: Envelope) -> Iterator[Row]:
        """One row in the type's table; none for types nobody told us of."""
        in_caliper = envelope.metadata.get("format") == "caliper"
        shapes = self._caliper_shapes if in_caliper else self._shapes
        shape = shapes.get((envelope.source, envelope.event_type))
        if shape is not None:
            yield shape.row(envelope)


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """A type's table: its name, and for each field its column and the column's type."""

    table: str
    fields: Mapping[str, tuple[str, ColumnType]]

    @classmethod
    def of(cls, table: str, declared: Mapping[str, FieldType]) -> "_Shape":
        return cls(table=table, fields=typed_columns(declared))

    @cached_property
    def columns(self) -> Mapping[str, ColumnType]:
        return {**TYPED_HEAD, **dict(self.fields.values())}

    def row(self, envelope: Envelope) -> Row:
        actor_id = columns.fit_or_null(envelope.metadata.get("user_id"), "TEXT")
        values = head.head(envelope) | {"actor_id": actor_id}
        texts: dict[str, str] = {}
        for field, (name, kind) in self.fields.items():
            value = envelope.body.get(field)
            try:
                values[name] = columns.fit(value, kind)
            except columns.Misfit:
                texts[text_column(name)] = columns.as_text(value)
        return Row(
            table=self.table,
            columns=self._columns_with(texts),
            values=values | texts,
            repeats_keep_time=head.repeats_keep_time(envelope),
            unknown={n: v for n, v in envelope.body.items() if n not in self.fields},
        )

    def _columns_with(self, texts: Mapping[str, Any]) -> Mapping[str, ColumnType]:
        if not texts:
            return self.columns
        return {**self.columns, **dict.fromkeys(texts, "TEXT")}
