"""Claims of any type, made from its catalogue entry: all fields, none, or one of a wrong type."""

from collections.abc import Iterator, Mapping
from typing import Any

from ingest.contract.caliper import Shape
from ingest.contract.catalogue import EventType, FieldType, catalogue
from ingest.contract.lti import CLAIM
from ingest.contract.metadata import signed_fields
from tests.emulator.templates import METADATA
from tests.support.builders import (
    CANVAS,
    NOTICE_CLAIM,
    caliper_claims,
    caliper_event,
    live_event_claims,
    notice_claim,
    notice_claims,
)

Body = Mapping[str, Any]

# such as need care: an id that no double holds, times of other zones, texts that look like others
FITTING: Mapping[FieldType, tuple[Any, ...]] = {
    "id": (9_010_000_000_000_123, "10930000000004501"),
    "ids": ([9_010_000_000_000_123, "7", None], []),
    "string": ("12.50", "\N{RIGHT-TO-LEFT MARK}\U0001f30a <p>'\"\\\n"),
    "integer": (-3, "42"),
    "number": (0.1, "33.25", 7),
    "boolean": (False, True),
    "timestamp": ("2026-03-02 09:00:00 -0600", "2026-03-02T15:00:00.123456Z"),
    "object": ({"id": "55", "course_id": 9_010_000_000_000_123, "deep": [{"a": None}]}, {}),
    "array": ([{"id": 5}, "x", 1.5], []),
}
_MISFITS: tuple[Any, ...] = ("not it", 1.5, True, {"a": [1]}, [{"b": 2}])
_FITS_AFTER_ALL: Mapping[FieldType, tuple[type, ...]] = {
    "id": (str,),
    "string": (str,),
    "number": (float,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


def full(entry: EventType, *, choice: int = 0) -> dict[str, Any]:
    """Every documented field with a fitting value; `choice` takes another one each time."""
    body = {name: _fitting(kind, choice) for name, kind in entry.fields.items()}
    if len(entry.key) > 1:
        body[entry.key[0]] = {**FITTING["object"][0], entry.key[1]: "urn-77"}
    return body


def misfits(kind: FieldType) -> tuple[Any, ...]:
    """A value of each JSON type that is not this one; null is any."""
    return tuple(v for v in _MISFITS if type(v) not in _FITS_AFTER_ALL.get(kind, ()))


def spoilt(fields: Mapping[str, FieldType], body: Body) -> Iterator[tuple[str, Body]]:
    """The body with one of its fields of a wrong type, for each field and each wrong type."""
    for name, kind in fields.items():
        for value in misfits(kind):
            yield name, {**body, name: value}


def live_event(entry: EventType, body: Body, *, system: bool) -> dict[str, Any]:
    """Claims of a Live Event of this type, with the metadata of a person's request or of a job."""
    usual = METADATA["system" if system else "user"]
    metadata = {**usual, "event_name": entry.name, "event_time": "2026-03-02T15:00:00.250Z"}
    return live_event_claims(metadata=metadata, body=body)


def notice(entry: EventType, body: Body) -> dict[str, Any]:
    """Claims of a notice of this type."""
    named = {CLAIM + name: value for name, value in body.items() if name != "notice"}
    claim = notice_claim(type=entry.name, more={"a": [1]})
    return notice_claims(**named, **{NOTICE_CLAIM: claim}, sub="5f1c")


def caliper(shape: Shape, body: Body, *, system: bool) -> dict[str, Any]:
    """Claims of an event in Caliper format of this shape."""
    members = {name: value for name, value in body.items() if name != "object"}
    beyond = {shape.extension: "active"} if shape.extension else {}
    thing = {
        "id": f"{shape.prefix}:10000000000077",
        "type": shape.object,
        "extensions": {CANVAS: {**beyond, "entity_id": "10000000000077"}},
    }
    job = {"extensions": {CANVAS: {"job_id": "9", "job_tag": "A#b"}}} if system else {}
    fixed = {"type": shape.type, "action": shape.action, "object": thing}
    return caliper_claims(data=[{**caliper_event(), **job, **members, **fixed}])


def full_caliper() -> dict[str, Any]:
    """Every documented field of a Caliper event, but for those that its shape fixes."""
    given = {"id", "type", "action", "object", "actor", "group", "session", "extensions"}
    fields = catalogue().caliper_fields
    return {n: _fitting(kind, 0) for n, kind in fields.items() if n not in given}


def spoilt_metadata(claims: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The claims with one field of the metadata of a wrong type, for each of them."""
    for name, field in signed_fields().items():
        if name not in claims["metadata"]:
            continue
        for value in misfits(field.type):
            yield name, {**claims, "metadata": {**claims["metadata"], name: value}}


def _fitting(kind: FieldType, choice: int) -> Any:
    values = FITTING[kind]
    return values[choice % len(values)]
