"""Whether subscribers of an older contract can read what a newer one describes.

Additions are fine. A topic or field that is gone, a field of another type, and a field that was
always there and need not be any more are not.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Contract = Mapping[str, Mapping[str, Any]]
"""Schemas by name, as `schemas.schemas` gives them, of any release."""

_PARTS = ("metadata", "body", "caliper")


def breaks(old: Contract, new: Contract) -> list[str]:
    """What breaks subscribers of `old`, one line each, by topic; empty if nothing does."""
    return [line for name in sorted(old) for line in _broken(name, old[name], new.get(name))]


def _broken(name: str, old: Mapping[str, Any], new: Mapping[str, Any] | None) -> Iterator[str]:
    if new is None:
        yield f"{name}: the topic is gone"
        return
    now = _types(new)
    for field, was in _types(old).items():
        if field not in now:
            yield f"{name}: {field} is gone"
        elif now[field] != was:
            yield f"{name}: {field} was {was}, is {now[field]}"
    for field in sorted(_required(old) - _required(new)):
        if field in now:
            yield f"{name}: {field} is no longer always there"


def _types(schema: Mapping[str, Any]) -> dict[str, str]:
    """The promised fields with their types in words: `body.due_at` is `string date-time | null`."""
    return {
        f"{part}.{field}": _in_words(promised)
        for part, definition in _definitions(schema).items()
        for field, promised in definition.get("properties", {}).items()
    }


def _required(schema: Mapping[str, Any]) -> set[str]:
    return {
        f"{part}.{field}"
        for part, definition in _definitions(schema).items()
        for field in definition.get("required", ())
    }


def _definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    definitions = schema.get("$defs", {})
    return {part: definitions[part] for part in _PARTS if part in definitions}


def _in_words(promised: Mapping[str, Any]) -> str:
    types = promised.get("type", "anything")
    first, *others = [types] if isinstance(types, str) else types
    if "items" in promised:
        first = f"{first} of ({_in_words(promised['items'])})"
    if "format" in promised:
        first = f"{first} {promised['format']}"
    return " | ".join([first, *others])
