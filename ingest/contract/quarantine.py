"""The quarantine topic's record: an authentic token that could not be used, kept whole."""

import hashlib
from collections.abc import Mapping
from typing import Literal

import orjson

from ingest.contract.codec import CONTENT_TYPE
from ingest.contract.record import Record
from ingest.contract.topics import quarantine_topic

QuarantineReason = Literal[
    "expired",
    "tenant_unknown",
    "key_gone",
    "unreadable_claims",
    "too_large_for_topic",
    "unsupported_format",
]


def unpublishable(prefix: str, record: Record, *, reason: QuarantineReason, source: str) -> Record:
    """A quarantine record for a record whose token is gone: `record` has the place of `token`.

    Its members are topic, key, headers (pairs of texts) and value, key and value as text.
    """
    headers = {name: value.decode() for name, value in record.headers}
    known = {"event_id": "ce_id", "received_at": "ce_receivedtime", "tenant": "ce_tenant"}
    metadata = {name: headers[header] for name, header in known.items() if header in headers}
    content = {
        "topic": record.topic,
        "key": record.key.decode(),
        "headers": list(headers.items()),
        "value": record.value.decode(),
    }
    return Record(
        topic=quarantine_topic(prefix),
        key=metadata.get("event_id", "").encode() or record.key,
        headers=(CONTENT_TYPE,),
        value=orjson.dumps(
            {"metadata": {**metadata, "reason": reason, "source": source}, "record": content}
        ),
    )


def reason_of(record: Record, prefix: str) -> str | None:
    """The reason in a quarantine record; None for any other record."""
    if record.topic != quarantine_topic(prefix):
        return None
    return str(orjson.loads(record.value).get("metadata", {}).get("reason", ""))


def quarantine_record(prefix: str, metadata: Mapping[str, str], token: str) -> Record:
    """A record `{"metadata": {event_id?, reason, received_at, source, tenant?}, "token": …}`.

    Its key is the event id, or the token's SHA-256 where there is none, so that later decisions
    about one token share its key.
    """
    key = metadata.get("event_id") or hashlib.sha256(token.encode()).hexdigest()
    return Record(
        topic=quarantine_topic(prefix),
        key=key.encode(),
        headers=(CONTENT_TYPE,),
        value=orjson.dumps({"metadata": metadata, "token": token}),
    )
