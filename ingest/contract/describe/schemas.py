"""JSON Schema 2020-12 of what topics hold, one schema per topic, made from the catalogue.

`$defs` state the promise: the fields of metadata and body with their types. The rest enforces it
and lets pass what `metadata.issues` names, since a value that does not fit stays as it was signed.
Only keywords are used that mean the same in draft-07, which is what AsyncAPI's tools read.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from ingest.contract.catalogue import EventType, FieldNote, FieldType, catalogue
from ingest.contract.envelope import SOURCES, Source
from ingest.contract.metadata import MetadataField, our_fields, signed_fields
from ingest.contract.topics import QUARANTINE, UNRECOGNISED, schema_id, schema_name

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,}Z$"
_TYPES: Mapping[FieldType, Schema] = {
    "id": {"type": ["string", "null"]},
    "ids": {"type": ["array", "null"], "items": {"type": ["string", "null"]}},
    "string": {"type": ["string", "null"]},
    "integer": {"type": ["integer", "null"]},
    "number": {"type": ["number", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "timestamp": {"type": ["string", "null"], "format": "date-time", "pattern": _TIME},
    "object": {"type": ["object", "null"]},
    "array": {"type": ["array", "null"]},
}
_PROMISE = (
    "Fields may be null or absent unless required, and fields that are not listed may come at any "
    "time. $defs state the types. A value that does not fit its type stays as it was signed and is "
    "named in metadata.issues; nothing else of another type passes this schema, save that one such "
    "name within metadata lifts the types of all its optional fields."
)


def schemas() -> dict[str, Schema]:
    """All schemas by name, sorted: `live-events.submission-created.v1`."""
    known = {schema_name(entry.source, entry.name): _of_type(entry) for entry in catalogue()}
    others = {schema_name(source, UNRECOGNISED): _of_unrecognised(source) for source in SOURCES}
    return dict(sorted({**known, **others, QUARANTINE: _of_quarantine()}.items()))


def _of_type(entry: EventType) -> Schema:
    fixed: dict[str, Schema] = {
        "source": {"const": entry.source},
        "event_type": {"const": entry.name},
    }
    return {
        "$schema": DIALECT,
        "$id": schema_id(entry.source, entry.name),
        "title": entry.name,
        "description": f"{entry.about} {_PROMISE}",
        **_envelope(fixed),
        **_body_rules(entry),
        "$defs": {"metadata": _metadata(), "body": _body(entry.fields, entry.notes)}
        | (_caliper_body() if entry.caliper else {}),
    }


def _of_unrecognised(source: Source) -> Schema:
    return {
        "$schema": DIALECT,
        "$id": schema_id(source, UNRECOGNISED),
        "title": f"{source}.{UNRECOGNISED}",
        "description": f"An event of a type that has no schema of its own yet. {_PROMISE}",
        **_envelope({"source": {"const": source}}),
        **(_if_caliper() if source == "live-events" else {}),
        "$defs": {"metadata": _metadata()} | (_caliper_body() if source == "live-events" else {}),
    }


def _of_quarantine() -> Schema:
    text = {"type": "string"}
    names = ("event_id", "reason", "received_at", "source", "tenant")
    metadata = {"required": ["reason", "received_at", "source"]} | _texts(*names)
    record = {"required": ["topic", "key", "headers", "value"]} | _texts("topic", "key", "value")
    return {
        "$schema": DIALECT,
        "$id": f"urn:forebay:schema:{QUARANTINE}",
        "title": "quarantine",
        "description": (
            "A token that is authentic and could not be used, kept whole; or a record that its"
            " topic will never take; or a later decision about one of them, under the same key."
        ),
        "type": "object",
        "oneOf": [
            {"required": ["metadata", "token"]},
            {"required": ["metadata", "record"]},
            {"required": ["decision", "at"]},
        ],
        "properties": {
            "metadata": {"$ref": "#/$defs/metadata"},
            "token": text,
            "record": {"$ref": "#/$defs/record"},
            "decision": {"enum": ["released", "dropped"]},
            "at": text,
        },
        "$defs": {"metadata": metadata, "record": record},
    }


def _texts(*names: str) -> Schema:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


def _envelope(fixed: Mapping[str, Schema]) -> Schema:
    """What holds of every envelope; what forebay itself always sets holds without exception."""
    always = [name for name, field in our_fields().items() if field.always]
    misfits = {"issues": {"contains": {"pattern": "^metadata\\."}}}
    metadata = {
        "type": "object",
        "required": always,
        "properties": {n: _promised("metadata", n) for n in (*always, "issues")} | dict(fixed),
        # not field by field as in the body: that would be most of every schema
        "anyOf": [{"$ref": "#/$defs/metadata"}, {"required": ["issues"], "properties": misfits}],
    }
    return {
        "type": "object",
        "required": ["metadata", "body"],
        "properties": {"metadata": metadata, "body": {"type": "object"}},
    }


def _body_rules(entry: EventType) -> Schema:
    rules = _rules(entry.fields, "body")
    if not entry.caliper:
        return rules
    return _if_caliper() | ({"else": rules} if rules else {})


def _if_caliper() -> Schema:
    # a Caliper event has the fields of that format instead of the type's own
    caliper = {"properties": {"metadata": {"properties": {"format": {"const": "caliper"}}}}}
    return {"if": caliper, "then": _rules(catalogue().caliper_fields, "caliper")}


def _rules(fields: Iterable[str], part: str) -> Schema:
    rules = [_body_rule(name, part) for name in fields]
    return {"allOf": rules} if rules else {}  # a keyword without rules is no valid schema


def _body_rule(name: str, part: str) -> Schema:
    typed = {"properties": {"body": {"properties": {name: _promised(part, name)}}}}
    named = {"issues": {"contains": {"const": f"body.{name}"}}}
    metadata = {"required": ["issues"], "properties": named}
    return {"anyOf": [typed, {"properties": {"metadata": metadata}}]}


def _promised(part: str, field: str) -> Schema:
    pointer = quote(field.replace("~", "~0").replace("/", "~1"))
    return {"$ref": f"#/$defs/{part}/properties/{pointer}"}


def _metadata() -> Schema:
    fields = {**our_fields(), **signed_fields()}
    return {
        "description": "The same for every type; further signed fields keep their own names.",
        "type": "object",
        "required": [name for name, field in fields.items() if field.always],
        "properties": {name: _metadata_field(name, field) for name, field in fields.items()},
    }


def _metadata_field(name: str, field: MetadataField) -> Schema:
    schema = dict(_TYPES[field.type])
    if name in our_fields() and not name.startswith("subscription_"):
        schema["type"] = schema["type"][0]
    if name == "event_id":
        schema["pattern"] = "^[0-9a-f]{64}$"
    if name in ("issues", "truncated"):
        schema["items"] = {"type": "string"}
    if field.values:
        schema["enum"] = list(field.values)
    return {**schema, "description": _sentence(field.about)}


def _caliper_body() -> Schema:
    fields = _body(catalogue().caliper_fields, catalogue().caliper_notes)
    return {"caliper": {**fields, "description": "The body where metadata.format is caliper."}}


def _body(fields: Mapping[str, FieldType], notes: Mapping[str, FieldNote]) -> Schema:
    return {
        "description": "The type's own fields.",
        "type": "object",
        "properties": {
            name: {**_TYPES[declared], "description": _noted(notes.get(name))}
            for name, declared in fields.items()
        },
    }


def _noted(note: FieldNote | None) -> str:
    if note is None:
        return ""
    scope = f" ({note.scope} id)" if note.scope else ""
    return _sentence(f"{note.about}{scope}")


def _sentence(about: str) -> str:
    return f"{about[0].upper()}{about[1:]}."
