"""Caliper 1.1 as Canvas writes it: how things are named, and what tells the event types apart.

A thing's id is `urn:instructure:canvas:<kind>:<global id>`; what Caliper has no word for stands in
its `extensions`, under `com.instructure.canvas`. No event states its Canvas name.
Source: Canvas documentation, Live Events: event types, Caliper format; IMS Caliper 1.1.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ingest.contract import strict_json

EXTENSIONS = "com.instructure.canvas"
PREFIX = "caliper"
"""What the names of types begin with that have no name of Canvas's."""

_URN = "urn:instructure:canvas:"
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What identifies events of one type.

    `type`, `action` and `object` (the object's type) are Caliper's words. `prefix` is the beginning
    of the object's id, in whole segments between colons. `extension` names a member that only the
    object's extensions of this type have, where the rest fits two types.
    """

    type: str
    action: str
    object: str
    prefix: str
    extension: str | None = None


class Names:
    """The Canvas names of Caliper events. Raises ValueError where two types claim one shape."""

    def __init__(self, shapes: Iterable[tuple[Shape, str]]) -> None:
        self._names: dict[tuple[str, str, str, str], dict[str | None, str]] = {}
        for shape, name in shapes:
            key = (shape.type, shape.action, shape.object, shape.prefix)
            other = self._names.setdefault(key, {}).setdefault(shape.extension, name)
            if other != name:
                raise ValueError(f"catalogue: {name} and {other} claim the same Caliper shape")
        self._depth = max((key[3].count(":") + 1 for key in self._names), default=0)

    def of(self, event: Mapping[str, Any]) -> str:
        """The Canvas name, or `caliper.<type>.<action>` where the shape is nobody's."""
        return self._known(event) or _own_name(event)

    def _known(self, event: Mapping[str, Any]) -> str | None:
        thing, kind, action = event.get("object"), event.get("type"), event.get("action")
        if not (isinstance(thing, dict) and isinstance(kind, str) and isinstance(action, str)):
            return None
        of_thing, name = thing.get("type"), iri(thing)
        if not isinstance(of_thing, str) or name is None:
            return None
        # the longest prefix wins; an id of any number of segments costs no more than ours have
        segments = name.split(":", self._depth)[:-1]
        for count in range(len(segments), 0, -1):
            found = self._names.get((kind, action, of_thing, ":".join(segments[:count])))
            if found is not None:
                return _by_extension(found, extensions(thing))
        return None


def iri(thing: Any) -> str | None:
    """The id of a thing, which Caliper states whole or by its id alone."""
    name = thing.get("id") if isinstance(thing, dict) else thing
    return name if isinstance(name, str) else None


def canvas_id(thing: Any, kind: str | None = None) -> str | None:
    """The id that Canvas gave to a thing, or None where it is none of Canvas's, or of this kind."""
    name = iri(thing)
    if name is None or not name.startswith(_URN if kind is None else f"{_URN}{kind}:"):
        return None
    kind_and_id = name[len(_URN) :]
    return (kind_and_id.rpartition(":")[2] or None) if ":" in kind_and_id else None


def extensions(thing: Any) -> Mapping[str, Any]:
    """What Canvas says of a thing beyond Caliper; empty where it says nothing."""
    beyond = thing.get("extensions") if isinstance(thing, dict) else None
    members = beyond.get(EXTENSIONS) if isinstance(beyond, dict) else None
    return members if isinstance(members, dict) else {}


def entity_id(event: Mapping[str, Any]) -> str | None:
    """The id of the entity that an event is about: its object."""
    thing = event.get("object")
    return canvas_id(thing) or strict_json.text(extensions(thing).get("entity_id"))


def _by_extension(names: Mapping[str | None, str], members: Mapping[str, Any]) -> str | None:
    for extension, name in names.items():
        if extension is not None and extension in members:
            return name
    return names.get(None)


def _own_name(event: Mapping[str, Any]) -> str:
    words = [word for name in ("type", "action") if (word := strict_json.text(event.get(name)))]
    return ".".join([PREFIX, *(_WORD.sub("_", word).lower() for word in words)])
