"""Envelopes and records for tests of the consumers."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.contract.codec import encode
from ingest.contract.envelope import Envelope
from ingest.contract.record import Record, StoredRecord

PREFIX = "reservoir"
EVENT_TYPES = ("course_created", "submission_created", "enrollment_updated")

_FIRST = datetime(2026, 9, 7, 6, 30, tzinfo=UTC)


def event_id(number: int) -> str:
    """The id of the event of this number."""
    return hashlib.sha256(f"event {number}".encode()).hexdigest()


def time_text(number: int) -> str:
    """The time of the event of this number, one second after the one before."""
    moment = _FIRST + timedelta(seconds=number)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def live_event(
    number: int,
    event_type: str = "course_created",
    body: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> Envelope:
    """A Live Event in Canvas's format; `metadata` adds to or replaces what it has."""
    ours = {
        "event_id": event_id(number),
        "event_type": event_type,
        "event_time": time_text(number),
        "received_at": time_text(number + 2),
        "source": "live-events",
        "format": "canvas",
        "tenant": "north",
        "issuer": "https://events.example.edu",
        "root_account_uuid": "Rt0",
        "user_id": "4711",
    }
    return Envelope(ours | metadata, {"name": f"Hydraulics {number}"} if body is None else body)


def copy_notice(number: int, body: Mapping[str, Any] | None = None, **metadata: Any) -> Envelope:
    """A context-copy notice."""
    ours = {
        "event_id": event_id(number),
        "event_type": "LtiContextCopyNotice",
        "event_time": time_text(number),
        "received_at": time_text(number + 2),
        "source": "pns",
        "format": "pns",
        "tenant": "north",
        "issuer": "https://canvas.example.edu",
        "client_id": "30000000000071",
        "deployment_id": "8:e2b7",
        "notice_id": f"notice-{number}",
    }
    copied = {
        "context": {"id": f"new-{number}", "label": "HYD-2", "title": "Hydraulics II"},
        "origin_contexts": [f"old-{number}"],
    }
    return Envelope(ours | metadata, copied if body is None else body)


def record_of(envelope: Envelope, prefix: str = PREFIX) -> Record:
    """The record that the receiver would write."""
    return encode(envelope, prefix=prefix)


def event_record(number: int, prefix: str = PREFIX) -> Record:
    """A record of the event of this number; types take turns."""
    event_type = EVENT_TYPES[number % len(EVENT_TYPES)]
    return record_of(live_event(number, event_type, {"name": f"text {number}"}), prefix)


def unreadable_record(number: int, prefix: str = PREFIX) -> Record:
    """A record in an event topic that holds no envelope."""
    return Record(
        topic=event_record(number, prefix).topic,
        key=f"key {number}".encode(),
        value=f"not an envelope {number}".encode(),
        headers=(("note", b"kept"),),
    )


def stored_as(record: Record, offset: int, *, damaged: bool = False) -> StoredRecord:
    """The record as a log gives it back."""
    return StoredRecord(
        topic=record.topic,
        partition=0,
        offset=offset,
        timestamp_ms=1_788_000_000_000 + offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
        damaged=damaged,
    )
