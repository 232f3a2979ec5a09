"""Envelope to record and back: CloudEvents 1.0 in Kafka's binary mode, JSON as the value.

Source: CloudEvents specification 1.0.2 and its Kafka protocol binding (headers `ce_…`).
"""

from functools import lru_cache
from typing import Any

import orjson

from ingest.contract import strict_json
from ingest.contract.catalogue import catalogue
from ingest.contract.envelope import SOURCES, Envelope, Source
from ingest.contract.record import Record, StoredRecord
from ingest.contract.topics import key_of, schema_id, topic_of

CONTENT_TYPE = ("content-type", b"application/json")
_SPECVERSION = ("ce_specversion", b"1.0")
_CE_TYPE_PREFIX: dict[Source, str] = {
    "live-events": "com.instructure.canvas.",
    "pns": "org.imsglobal.lti.pns.",
}


class Undecodable(ValueError):
    """The record's value is not an envelope; the text says why, without any of its content."""


def encode(envelope: Envelope, *, prefix: str, traceparent: str | None = None) -> Record:
    """The record of an envelope, with topic, key and CloudEvents headers.

    `traceparent` is the W3C trace context of the request that brought it, if it had one.
    """
    entity_id = catalogue().entity_id(envelope)
    return Record(
        topic=topic_of(envelope, prefix),
        key=key_of(envelope, entity_id),
        headers=_headers(envelope, entity_id, traceparent),
        value=orjson.dumps({"metadata": envelope.metadata, "body": envelope.body}),
    )


def decode(record: StoredRecord | Record) -> Envelope:
    """The envelope of a record; integers of any size stay exact. Raises Undecodable."""
    try:
        value: Any = strict_json.loads(record.value)
    except strict_json.NotJSON as error:
        raise Undecodable("the value is not JSON") from error
    if not isinstance(value, dict):
        raise Undecodable("the value is not a JSON object")
    metadata, body = value.get("metadata"), value.get("body")
    if not isinstance(metadata, dict) or not isinstance(body, dict):
        raise Undecodable("the value has no metadata object or no body object")
    for name in ("event_id", "event_type", "source"):
        if not isinstance(metadata.get(name), str):
            raise Undecodable(f"metadata.{name} is missing or not a text")
    if metadata["source"] not in SOURCES:
        raise Undecodable("metadata.source is not one of ours")
    return Envelope(metadata, body)


def ce_type(source: Source, event_type: str) -> str:
    """A type as CloudEvents names it: `com.instructure.canvas.submission_created`."""
    return _CE_TYPE_PREFIX[source] + event_type


def _headers(
    envelope: Envelope, entity_id: str | None, traceparent: str | None
) -> tuple[tuple[str, bytes], ...]:
    metadata = envelope.metadata
    headers = [
        _SPECVERSION,
        ("ce_id", envelope.event_id.encode()),
        *_type_headers(envelope.source, envelope.event_type, metadata.get("issuer", "")),
        ("ce_tenant", metadata["tenant"].encode()),
        ("ce_receivedtime", metadata["received_at"].encode()),
        CONTENT_TYPE,
    ]
    event_time = metadata.get("event_time")
    if isinstance(event_time, str) and "metadata.event_time" not in metadata.get("issues", ()):
        headers.append(("ce_time", event_time.encode()))
    if entity_id:
        headers.append(("ce_subject", entity_id.encode()))
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return tuple(headers)


@lru_cache(maxsize=4096)
def _type_headers(source: Source, event_type: str, issuer: str) -> tuple[tuple[str, bytes], ...]:
    return (
        ("ce_source", issuer.encode()),
        ("ce_type", ce_type(source, event_type).encode()),
        ("ce_dataschema", schema_id(source, event_type).encode()),
    )
