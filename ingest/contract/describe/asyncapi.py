"""The topics as an AsyncAPI 3.0 document: what forebay sends, with keys, headers and payloads."""

from typing import Any

from ingest.contract.catalogue import EventType, catalogue
from ingest.contract.codec import ce_type
from ingest.contract.envelope import SOURCES, Source
from ingest.contract.topics import (
    MAX_MESSAGE_BYTES,
    PREFIX_PATTERN,
    QUARANTINE,
    UNRECOGNISED,
    schema_id,
    schema_name,
)

_KAFKA_BINDING = "0.5.0"
_TOPIC = {
    "topicConfiguration": {"cleanup.policy": ["delete"], "max.message.bytes": MAX_MESSAGE_BYTES},
    "bindingVersion": _KAFKA_BINDING,
}
_ABOUT = (
    "Canvas Live Events and LTI platform notices, verified and normalised, one Kafka topic per "
    "event type. Topics are at-least-once and unordered, and hold repeats: event_id is the same "
    "for every repeat, and order comes from event_time alone."
)


def document(release: str, *, schemas_at: str) -> dict[str, Any]:
    """The whole document. `schemas_at` is where the schemas' files are, as a relative address."""
    messages = _messages(schemas_at)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:forebay:contract",
        "info": {
            "title": "forebay",
            "version": release,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name, messages[name]) for name in messages},
        "operations": {name: _operation(name) for name in messages},
        "components": {
            "messages": messages,
            "schemas": {"cloudEventHeaders": _headers()},
            "parameters": {"prefix": _prefix()},
        },
    }


def _messages(schemas_at: str) -> dict[str, dict[str, Any]]:
    known = {schema_name(entry.source, entry.name): _known(entry) for entry in catalogue()}
    others = {schema_name(source, UNRECOGNISED): _unrecognised(source) for source in SOURCES}
    messages = dict(sorted({**known, **others, QUARANTINE: _quarantined()}.items()))
    for name, message in messages.items():
        message["payload"] = {"$ref": f"{schemas_at}/{name}.json"}
    return messages


def _known(entry: EventType) -> dict[str, Any]:
    fixed = {
        "ce_type": {"const": ce_type(entry.source, entry.name)},
        "ce_dataschema": {"const": schema_id(entry.source, entry.name)},
    }
    about = f"the {entry.entity} at body.{'.'.join(entry.key)}" if entry.key else "the event"
    return {
        "name": entry.name,
        "title": entry.name,
        "summary": entry.about,
        "tags": [{"name": entry.category}],
        **_event(fixed, about),
    }


def _unrecognised(source: Source) -> dict[str, Any]:
    fixed = {"ce_dataschema": {"const": schema_id(source, UNRECOGNISED)}}
    return {
        "name": f"{source}.{UNRECOGNISED}",
        "title": f"{source}, unrecognised",
        "summary": "An event of a type that has no topic of its own yet.",
        **_event(fixed, "the event"),
    }


def _quarantined() -> dict[str, Any]:
    return {
        "name": "quarantine",
        "title": "Quarantine",
        "summary": "A token that is authentic and could not be used, kept whole.",
        "bindings": _key("The event's id, or the SHA-256 of the token where there is none."),
    }


def _event(fixed: dict[str, Any], about: str) -> dict[str, Any]:
    headers = {"$ref": "#/components/schemas/cloudEventHeaders"}
    return {
        "headers": {"allOf": [headers, {"type": "object", "properties": fixed}]},
        "bindings": _key(
            "`<root_account_uuid, or client_id>:<entity>`, so that one entity's events share a "
            f"partition. The entity is {about}; without its id the user who acted takes its "
            "place, then the event."
        ),
    }


def _key(about: str) -> dict[str, Any]:
    key = {"type": "string", "description": about}
    return {"kafka": {"key": key, "bindingVersion": _KAFKA_BINDING}}


def _channel(name: str, message: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": f"{{prefix}}.{name}",
        "title": message["title"],
        "summary": message["summary"],
        "parameters": {"prefix": {"$ref": "#/components/parameters/prefix"}},
        "messages": {"event": {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": _TOPIC},
    }


def _operation(name: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/event"}],
    }


def _prefix() -> dict[str, Any]:
    about = f"FOREBAY_TOPICS__PREFIX of the deployment, {PREFIX_PATTERN}"
    return {"description": about, "default": "canvas"}


def _headers() -> dict[str, Any]:
    described = {
        "ce_specversion": "Version of CloudEvents.",
        "ce_id": "The event's id, metadata.event_id.",
        "ce_source": "Who signed it, metadata.issuer.",
        "ce_type": "Type of the event, its own name last.",
        "ce_dataschema": "Id of the payload's schema.",
        "ce_tenant": "Tenant that it belongs to, metadata.tenant.",
        "ce_receivedtime": "When forebay had received it, metadata.received_at.",
        "content-type": "Form of the payload.",
        "ce_time": "When it happened, metadata.event_time; absent if that is no time.",
        "ce_subject": "Id of the entity that it is about; absent if it names none.",
        "traceparent": "W3C trace context of the request that brought it, if it had one.",
    }
    optional = {"ce_time", "ce_subject", "traceparent"}
    fixed = {"ce_specversion": "1.0", "content-type": "application/json"}
    return {
        "description": "CloudEvents 1.0 in Kafka's binary mode; all values are UTF-8 text.",
        "type": "object",
        "required": [name for name in described if name not in optional],
        "properties": {
            name: {
                "type": "string",
                "description": about,
                **({"const": fixed[name]} if name in fixed else {}),
            }
            for name, about in described.items()
        },
    }
