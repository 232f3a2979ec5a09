"""What came that the contract does not know: types and fields, by name, never a value.

Bounded in memory whatever comes: names beyond the first hundred of a kind are counted as one.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Set
from itertools import islice
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from ingest.contract.catalogue import EventType, FieldType, catalogue
from ingest.contract.envelope import Envelope
from ingest.contract.metadata import our_fields, signed_fields

MAX_NAMES = 100
"""How many types, and how many fields, are counted by name."""

OTHER = "other"
"""The name under which all further ones are counted."""

_MAX_NAME_LENGTH = 100
_MAX_FIELDS = 1_000
"""Of how many unknown fields of one event the names are looked at; the rest is counted as other."""
_MAX_DEPTH, _MAX_MEMBERS = 3, 20
# a claim of every notice, of no type that could be declared: it may be a text or a list of them
_KNOWN_METADATA = frozenset({*our_fields(), *signed_fields(), "aud"})
# names with digits or signs may be data, such as ids that a mapping is keyed by
_PLAIN_NAME = re.compile(r"[A-Za-z_@$][A-Za-z_]{0,39}")


class Unknown(Struct, frozen=True):
    """What is unknown: a type where `field` is empty, else a path such as `body.colour`.

    Fields of metadata belong to no type.
    """

    source: str
    event_type: str
    field: str = ""

    @property
    def kind(self) -> Literal["type", "field"]:
        """What is counted together towards the bound."""
        return "field" if self.field else "type"


class Sighting(Struct, frozen=True):
    """How often it came, when first and last, and the shape that it had when it first came.

    The shape has names and JSON types of members, no values: `{"points": "number"}`.
    """

    count: int
    first_seen: str
    last_seen: str
    shape: Any


class Drift:
    """What this process has seen. For one thread only."""

    def __init__(self) -> None:
        self._seen: dict[Unknown, Sighting] = {}
        self._named: Counter[str] = Counter()

    def see(self, envelope: Envelope) -> None:
        """Counts what is unknown in one event."""
        if _is_known(envelope):
            return
        at = str(envelope.metadata.get("received_at", ""))
        for unknown, count, value in _unknown_in(envelope):
            key = bounded(self._seen, self._named, unknown)
            known = self._seen.get(key)
            if known is None:
                self._named[key.kind] += 1
                shape = None if _is_other(key) else shape_of(value)
                self._seen[key] = Sighting(count, at, at, shape)
            else:
                self._seen[key] = replace(known, count=known.count + count, last_seen=at)

    def seen(self) -> Mapping[Unknown, Sighting]:
        """All of it, since the process started."""
        return dict(self._seen)


def bounded(seen: Container[Unknown], named: Mapping[str, int], unknown: Unknown) -> Unknown:
    """`unknown`, or what stands for all others of its kind where `named` has too many of it."""
    if unknown in seen or named[unknown.kind] < MAX_NAMES:
        return unknown
    field = OTHER if unknown.field else ""
    return Unknown(unknown.source, "" if field else OTHER, field)


def kinds(seen: Iterable[Unknown]) -> Counter[str]:
    """How many there are of each kind."""
    return Counter(unknown.kind for unknown in seen)


def shape_of(value: Any, depth: int = 0) -> Any:
    """Names and JSON types in place of values; names that may be data are shown as `*`."""
    if isinstance(value, Mapping):
        if depth == _MAX_DEPTH:
            return "object"
        some = islice(value.items(), _MAX_MEMBERS)
        return {_plain(name): shape_of(child, depth + 1) for name, child in some}
    if isinstance(value, list):
        return "array" if depth == _MAX_DEPTH else [shape_of(v, depth + 1) for v in value[:1]]
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "null" if value is None else "string"


def _is_known(envelope: Envelope) -> bool:
    entry = catalogue().of(envelope)
    if entry is None or not _KNOWN_METADATA.issuperset(envelope.metadata):
        return False
    return envelope.body.keys() <= _fields(entry, envelope).keys()


def _unknown_in(envelope: Envelope) -> Iterator[tuple[Unknown, int, Any]]:
    """What is unknown, how often, and its value."""
    source, entry = envelope.source, catalogue().of(envelope)
    if entry is None:
        name = envelope.event_type[:_MAX_NAME_LENGTH]
        yield Unknown(source, name), 1, envelope.body
    else:
        known = _fields(entry, envelope).keys()
        yield from _unknown_fields(source, entry.name, "body", envelope.body, known)
    yield from _unknown_fields(source, "", "metadata", envelope.metadata, _KNOWN_METADATA)


def _unknown_fields(
    source: str, event_type: str, at: str, members: Mapping[str, Any], known: Set[str]
) -> Iterator[tuple[Unknown, int, Any]]:
    names = members.keys() - known
    for name in islice(names, _MAX_FIELDS):
        yield Unknown(source, event_type, f"{at}.{name[:_MAX_NAME_LENGTH]}"), 1, members[name]
    if len(names) > _MAX_FIELDS:
        yield Unknown(source, "", OTHER), len(names) - _MAX_FIELDS, None


def _fields(entry: EventType, envelope: Envelope) -> Mapping[str, FieldType]:
    in_caliper = envelope.metadata.get("format") == "caliper"
    return catalogue().caliper_fields if in_caliper else entry.fields


def _plain(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "*"


def _is_other(unknown: Unknown) -> bool:
    return OTHER in (unknown.field, unknown.event_type)
