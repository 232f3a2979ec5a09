"""One table per event type and format: the body's top-level fields as columns.

Fields that the catalogue lacks go along as they are: what columns they get depends on the table.

The body of a Caliper event has other fields than its type's table has columns, so it has a table of
its own, `<table>__caliper`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from consumers import columns
from consumers.projections import head
from consumers.values import Row
from ingest.contract.caliper import canvas_id
from ingest.contract.catalogue import Catalogue, FieldType
from ingest.contract.envelope import Envelope
from ingest.contract.tables import (
    CONTEXT,
    COURSE,
    TYPED_HEAD,
    ColumnType,
    caliper_table,
    states_context,
    text_column,
    typed_columns,
)

_IS_COURSE = "Course"
"""The type of a context that is a course."""

CourseOf = Callable[[Mapping[str, Any]], str | None]
"""The id of the course that a body names."""


class TypedTables:
    """Rows for the tables of the types that the catalogue knows."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._shapes = {
            (entry.source, entry.name): _Shape.of(entry.table, entry.fields, entry.course_id)
            for entry in catalogue
        }
        self._caliper_shapes = {
            (entry.source, entry.name): _Shape.of(
                caliper_table(entry), catalogue.caliper_fields, _caliper_course
            )
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A type's table: its name and columns, for each field its column and the column's type."""

    table: str
    columns: Mapping[str, ColumnType]
    fields: Mapping[str, tuple[str, ColumnType]]
    states_context: bool
    course_of: CourseOf

    @classmethod
    def of(cls, table: str, declared: Mapping[str, FieldType], course_of: CourseOf) -> "_Shape":
        fields = typed_columns(declared)
        return cls(
            table=table,
            columns={**TYPED_HEAD, **dict(fields.values())},
            fields=fields,
            states_context=states_context(declared),
            course_of=course_of,
        )

    def row(self, envelope: Envelope) -> Row:
        body = envelope.body
        values = head.typed_head(envelope)
        there = values["context_type"], values["context_id"]
        texts: dict[str, str] = {}
        for field, (name, kind) in self.fields.items():
            value = body.get(field)
            try:
                values[name] = columns.fit(value, kind)
            except columns.Misfit:
                values[name] = None
                texts[text_column(name)] = columns.as_text(value)
        if text_column(COURSE) not in texts:
            values[COURSE] = self._course(body, values, there)
        head.make_global(values, envelope)
        return Row(
            table=self.table,
            columns=self._columns_with(texts),
            values=values | texts if texts else values,
            repeats_keep_time=head.repeats_keep_time(envelope, values["event_time"]),
            unknown={n: v for n, v in body.items() if n not in self.fields},
        )

    def _course(
        self, body: Mapping[str, Any], values: Mapping[str, Any], there: tuple[str, str]
    ) -> str | None:
        """The course that the event is about, else the one where the user was."""
        stated: str | None = values.get(COURSE)
        if stated is None:
            stated = self.course_of(body)
        if stated is None and self.states_context:
            stated = _if_course(*(values[name] for name in CONTEXT))
        return _if_course(*there) if stated is None else stated

    def _columns_with(self, texts: Mapping[str, Any]) -> Mapping[str, ColumnType]:
        if not texts:
            return self.columns
        return {**self.columns, **dict.fromkeys(texts, "TEXT")}


def _if_course(context_type: str | None, context_id: str | None) -> str | None:
    return context_id if context_type == _IS_COURSE else None


def _caliper_course(body: Mapping[str, Any]) -> str | None:
    """The object where that is a course; where it is in one, the context is the course."""
    return canvas_id(body.get("object"), "course")
