"""The quarantine topic's records: an authentic token that could not be used, kept whole, and what
an operator decided about it later, under the same key."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, get_args

import orjson
from msgspec import Struct

from ingest.contract import strict_json
from ingest.contract.codec import CONTENT_TYPE
from ingest.contract.envelope import SOURCES, Source
from ingest.contract.record import Record, StoredRecord
from ingest.contract.topics import quarantine_topic

QuarantineReason = Literal[
    "expired",
    "tenant_unknown",
    "tenant_not_allowed",
    "key_gone",
    "unreadable_claims",
    "too_large_for_topic",
    "unsupported_format",
]
REASONS: tuple[QuarantineReason, ...] = get_args(QuarantineReason)
Decision = Literal["released", "dropped"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)


_HEADERS = {"event_id": "ce_id", "received_at": "ce_receivedtime", "tenant": "ce_tenant"}


class Unreadable(ValueError):
    """A record of the quarantine topic that is not as we write them; the text says why."""


class Quarantined(Struct, frozen=True, kw_only=True):
    """What was kept: a `token` as it came, or a finished `record` that was too large.

    `received_at` is RFC 3339 text. `event_id` and `tenant` are None where nobody could tell them.
    """

    key: bytes
    reason: QuarantineReason
    source: Source
    received_at: str
    event_id: str | None
    tenant: str | None
    token: str | None
    record: Record | None


class Decided(Struct, frozen=True, kw_only=True):
    """What an operator decided about everything of this key that came before; `at` is RFC 3339.

    `unverified` says that it was released without a signature that could be checked.
    """

    key: bytes
    decision: Decision
    at: str
    unverified: bool = False


def quarantine_record(
    prefix: str,
    content: str | Record,
    *,
    reason: QuarantineReason,
    source: Source,
    received_at: str | None = None,
    event_id: str | None = None,
    tenant: str | None = None,
) -> Record:
    """A record `{"metadata": {event_id?, reason, received_at, source, tenant?}, "token": …}`.

    `content` is the token, or a finished record whose token is gone: then `record` has the place
    of `token`, with topic, key, headers (pairs of texts) and value, key and value as text, and its
    headers tell what is not given here. `received_at` is RFC 3339 text. The key is the event id, or
    else the token's SHA-256, so that later decisions about one token share its key.
    """
    said = {"event_id": event_id, "received_at": received_at, "tenant": tenant}
    if isinstance(content, Record):
        headers = {name: value.decode() for name, value in content.headers}
        said = {name: value or headers.get(_HEADERS[name]) for name, value in said.items()}
        kept: dict[str, Any] = {"record": _members(content)}
        key = content.key
    else:
        kept = {"token": content}
        key = hashlib.sha256(content.encode()).hexdigest().encode()
    metadata = {name: value for name, value in said.items() if value}
    return Record(
        topic=quarantine_topic(prefix),
        key=metadata.get("event_id", "").encode() or key,
        headers=(CONTENT_TYPE,),
        value=orjson.dumps({"metadata": {**metadata, "reason": reason, "source": source}, **kept}),
    )


def reason_of(record: Record, prefix: str) -> str | None:
    """The reason in a quarantine record; None for any other record."""
    if record.topic != quarantine_topic(prefix):
        return None
    return str(orjson.loads(record.value).get("metadata", {}).get("reason", ""))


def decision_record(
    prefix: str, key: bytes, decision: Decision, *, at: str, unverified: bool = False
) -> Record:
    """A record `{"decision": "released" | "dropped", "at": …}` about what was kept under `key`.

    `at` is RFC 3339 text. `"unverified": true` is beside it where no signature could be checked.
    """
    said: dict[str, Any] = {"decision": decision, "at": at}
    return Record(
        topic=quarantine_topic(prefix),
        key=key,
        headers=(CONTENT_TYPE,),
        value=orjson.dumps(said | ({"unverified": True} if unverified else {})),
    )


def _members(record: Record) -> dict[str, Any]:
    """A record as JSON values; `_record` reads them back."""
    return {
        "topic": record.topic,
        "key": record.key.decode(),
        "headers": [(name, value.decode()) for name, value in record.headers],
        "value": record.value.decode(),
    }


def read_quarantine(stored: StoredRecord) -> Quarantined | Decided:
    """What a record of the quarantine topic says. Raises Unreadable."""
    if stored.damaged:
        raise Unreadable("its checksum is wrong")
    try:
        value = strict_json.loads(stored.value)
    except strict_json.NotJSON as error:
        raise Unreadable("not JSON") from error
    if not isinstance(value, dict):
        raise Unreadable("not a JSON object")
    if "decision" in value:
        return _decided(stored.key, value)
    return _quarantined(stored.key, value)


def _decided(key: bytes, value: Mapping[str, Any]) -> Decided:
    decision, at = value["decision"], value.get("at")
    if decision not in DECISIONS or not isinstance(at, str):
        raise Unreadable("a decision that we do not know, or without its time")
    return Decided(key=key, decision=decision, at=at, unverified=value.get("unverified") is True)


def _quarantined(key: bytes, value: Mapping[str, Any]) -> Quarantined:
    metadata, token, content = value.get("metadata"), value.get("token"), value.get("record")
    if not isinstance(metadata, dict) or metadata.get("reason") not in REASONS:
        raise Unreadable("without a reason that we know")
    if metadata.get("source") not in SOURCES:
        raise Unreadable("without a source that we know")
    if not isinstance(token, str) and not isinstance(content, dict):
        raise Unreadable("neither token nor record")
    return Quarantined(
        key=key,
        reason=metadata["reason"],
        source=metadata["source"],
        received_at=str(metadata.get("received_at", "")),
        event_id=strict_json.text(metadata.get("event_id")),
        tenant=strict_json.text(metadata.get("tenant")),
        token=token if isinstance(token, str) else None,
        record=None if isinstance(token, str) else _record(content or {}),
    )


def _record(content: Mapping[str, Any]) -> Record:
    if not isinstance(content.get("topic"), str):
        raise Unreadable("its record has no topic")
    try:
        return Record(
            topic=content["topic"],
            key=content["key"].encode(),
            value=content["value"].encode(),
            headers=tuple((str(name), value.encode()) for name, value in content["headers"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable("its record is not whole") from error
