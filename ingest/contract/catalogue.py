"""The event types that we know, from `catalogue.toml`: one entry drives all about its type."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, get_args

from ingest.contract.caliper import Names, Shape
from ingest.contract.caliper import entity_id as caliper_entity_id
from ingest.contract.envelope import SOURCES, Envelope, Source

FieldType = Literal[
    "id", "ids", "string", "integer", "number", "boolean", "timestamp", "object", "array"
]
FIELD_TYPES: frozenset[str] = frozenset(get_args(FieldType))
_COURSE = "course_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNote:
    """What a field holds; `scope` is that of an id, where it is known."""

    about: str
    scope: Literal["global", "local", "service", "opaque"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """One event type.

    `name` is as Canvas writes it. `fields` are the body's top-level fields; every one may be null
    or absent. `key` is the path in the body to the id of the entity that the event is about.
    `carries` says what an absent field of it means: null, or unchanged; `deleted_when` what marks
    it as deleted: `always`, or `path=value`; `trigger` who causes it in Canvas's own example.
    `notes` say of every field what it holds. `caliper` are the shapes that the type has in that
    format; its body then has other fields.
    """

    source: Source
    name: str
    about: str
    fields: Mapping[str, FieldType]
    key: tuple[str, ...] = ()
    category: str = ""
    entity: str | None = None
    documented: bool = True
    trigger: Literal["user", "system"] | None = None
    carries: Literal["snapshot", "partial"] | None = None
    deleted_when: str | None = None
    course: tuple[str, ...] = ()
    notes: Mapping[str, FieldNote] = field(default_factory=dict)
    caliper: tuple[Shape, ...] = ()
    in_caliper: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """The typed table's name: words in lower case, joined by `_`."""
        words = _snake(self.name) if self.source == "pns" else self.name
        return re.sub(r"[^a-z0-9]", "_", words.lower())

    def entity_id(self, body: Mapping[str, Any]) -> str | None:
        """The id of the entity that `body` is about, or None where it states none."""
        return text_at(body, self.key)

    def course_id(self, body: Mapping[str, Any]) -> str | None:
        """The id of the course that `body` is about, or None where it states none."""
        return text_at(body, self.course)


def text_at(body: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
    """The text at a path in a body, or None where there is none, or an empty one."""
    value: Any = body
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, str) and value else None


class Catalogue:
    """All known types, by source and name.

    `caliper_fields` are the top-level fields of every event in Caliper format, `caliper_notes` what
    they hold; `categories` are headings by their names, in the order of documentation. Raises
    ValueError where two types claim one Caliper shape.
    """

    def __init__(
        self,
        types: Iterator[EventType],
        caliper_fields: Mapping[str, FieldType] = MappingProxyType({}),
        caliper_notes: Mapping[str, FieldNote] = MappingProxyType({}),
        categories: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._types = {(entry.source, entry.name): entry for entry in types}
        self.caliper_fields = caliper_fields
        self.caliper_notes = caliper_notes
        self.categories = categories
        self._caliper_names = Names(
            (shape, entry.name) for entry in self for shape in entry.caliper
        )

    def __iter__(self) -> Iterator[EventType]:
        return iter(self._types.values())

    def __len__(self) -> int:
        return len(self._types)

    def find(self, source: Source, name: str) -> EventType | None:
        """The entry, or None for a type that nobody has told us of."""
        return self._types.get((source, name))

    def of(self, envelope: Envelope) -> EventType | None:
        """The entry of an envelope's type, or None."""
        return self.find(envelope.source, envelope.event_type)

    def caliper_type(self, event: Mapping[str, Any]) -> str:
        """The type's name: Canvas's where the event's shape tells, else one under `caliper.`."""
        return self._caliper_names.of(event)

    def entity_id(self, envelope: Envelope) -> str | None:
        """The id of the entity that the event is about, whatever its format; None if unknown."""
        entry = self.of(envelope)
        if envelope.metadata.get("format") != "caliper":
            return entry.entity_id(envelope.body) if entry else None
        # a type without a key is about no entity; its object is something else, or a web address
        return caliper_entity_id(envelope.body) if entry is None or entry.key else None


@cache
def catalogue() -> Catalogue:
    """The catalogue that this release ships, read once."""
    text = files("ingest.contract").joinpath("catalogue.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    of_caliper = data["caliper"]["fields"]
    return Catalogue(
        _entries(data),
        caliper_fields=_types("caliper", of_caliper),
        caliper_notes=_notes(of_caliper),
        categories=data["categories"],
    )


def _entries(data: Mapping[str, Any]) -> Iterator[EventType]:
    for source in SOURCES:
        for name, entry in data[source].items():
            yield _entry(source, name, entry)


def _entry(source: Source, name: str, entry: Mapping[str, Any]) -> EventType:
    fields = entry.get("fields", {})
    return EventType(
        source=source,
        name=name,
        about=entry["about"],
        fields=_types(name, fields),
        key=_path(entry.get("key", "")),
        category=entry["category"],
        entity=entry.get("entity"),
        documented=entry.get("documented", True),
        trigger=entry.get("trigger"),
        carries=entry.get("carries"),
        deleted_when=entry.get("deleted_when"),
        course=_path(entry.get("course", _COURSE if _COURSE in fields else "")),
        notes=_notes(fields),
        caliper=tuple(Shape(**shape) for shape in entry.get("caliper", ())),
        in_caliper={name: _path(at) for name, at in entry.get("in_caliper", {}).items()},
    )


def _path(text: str) -> tuple[str, ...]:
    return tuple(text.split(".")) if text else ()


def _types(name: str, fields: Mapping[str, Any]) -> dict[str, FieldType]:
    types = {field_name: spec["type"] for field_name, spec in fields.items()}
    unknown = set(types.values()) - FIELD_TYPES
    if unknown:
        raise ValueError(f"catalogue: {name} has fields of unknown type {sorted(unknown)}")
    return types


def _notes(fields: Mapping[str, Any]) -> dict[str, FieldNote]:
    return {
        name: FieldNote(about=spec["about"], scope=spec.get("scope"))
        for name, spec in fields.items()
    }


def _snake(camel: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", camel)
