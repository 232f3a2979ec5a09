"""The event types that we know, from `catalogue.toml`: one entry drives all about its type."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from ingest.contract.envelope import SOURCES, Envelope, Source

FieldType = Literal[
    "id", "ids", "string", "integer", "number", "boolean", "timestamp", "object", "array"
]
FIELD_TYPES: frozenset[str] = frozenset(get_args(FieldType))


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
    `notes` say of every field what it holds.
    """

    source: Source
    name: str
    about: str
    fields: Mapping[str, FieldType]
    key: tuple[str, ...] = ()
    category: str = ""
    entity: str | None = None
    documented: bool = True
    notes: Mapping[str, FieldNote] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """The typed table's name: words in lower case, joined by `_`."""
        words = _snake(self.name) if self.source == "pns" else self.name
        return re.sub(r"[^a-z0-9]", "_", words.lower())

    def entity_id(self, body: Mapping[str, Any]) -> str | None:
        """The id of the entity that `body` is about, or None where it states none."""
        value: Any = body
        for step in self.key:
            value = value.get(step) if isinstance(value, Mapping) else None
        return value if isinstance(value, str) and value else None


class Catalogue:
    """All known types, by source and name."""

    def __init__(self, types: Iterator[EventType]) -> None:
        self._types = {(entry.source, entry.name): entry for entry in types}

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


@cache
def catalogue() -> Catalogue:
    """The catalogue that this release ships, read once."""
    text = files("ingest.contract").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return Catalogue(_entries(tomllib.loads(text)))


def _entries(data: Mapping[str, Any]) -> Iterator[EventType]:
    for source in SOURCES:
        for name, entry in data[source].items():
            yield _entry(source, name, entry)


def _entry(source: Source, name: str, entry: Mapping[str, Any]) -> EventType:
    fields = {field_name: spec["type"] for field_name, spec in entry.get("fields", {}).items()}
    unknown = set(fields.values()) - FIELD_TYPES
    if unknown:
        raise ValueError(f"catalogue: {name} has fields of unknown type {sorted(unknown)}")
    key = tuple(entry["key"].split(".")) if "key" in entry else ()
    return EventType(
        source=source,
        name=name,
        about=entry["about"],
        fields=fields,
        key=key,
        category=entry["category"],
        entity=entry.get("entity"),
        documented=entry.get("documented", True),
        notes={field_name: _note(spec) for field_name, spec in entry.get("fields", {}).items()},
    )


def _note(spec: Mapping[str, Any]) -> FieldNote:
    return FieldNote(about=spec["about"], scope=spec.get("scope"))


def _snake(camel: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", camel)
