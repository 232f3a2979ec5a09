"""A quarantine in memory, and entries for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from ingest.contract.envelope import Source
from ingest.contract.moments import rfc3339
from ingest.contract.quarantine import QuarantineReason, quarantine_record
from ingest.contract.record import Record, StoredRecord
from ingest.contract.topics import quarantine_topic
from ingest.normalising.identity import event_id
from tests.support import builders

PREFIX = "canvas"
TOPIC = quarantine_topic(PREFIX)
LATE_S = 7_200
"""So long after `builders.NOW_S` its tokens have expired."""


class MemoryLog:
    """A log in memory; `failing` is raised for every record of that topic."""

    def __init__(self, *records: Record) -> None:
        self.appended: list[Record] = list(records)
        self.failing: dict[str, Exception] = {}

    async def records(self) -> AsyncGenerator[StoredRecord, None]:
        """What is in the quarantine topic."""
        for offset, record in enumerate(self.appended):
            if record.topic == TOPIC:
                yield stored_record(record, offset=offset)

    async def append(self, record: Record) -> None:
        """Appends it, or raises what is to be raised."""
        if record.topic in self.failing:
            raise self.failing[record.topic]
        self.appended.append(record)

    async def close(self) -> None:
        """Nothing to let go of."""


def stored_record(
    record: Record, *, offset: int, partition: int = 0, at_ms: int = 0
) -> StoredRecord:
    """A record as a log gives it back."""
    return StoredRecord(
        topic=record.topic,
        partition=partition,
        offset=offset,
        timestamp_ms=at_ms or offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


def kept_record(
    token: bytes,
    reason: QuarantineReason,
    *,
    source: Source = "live-events",
    at_s: float = builders.NOW_S,
    event_id: str | None = None,
    tenant: str | None = None,
) -> Record:
    """A quarantine record of a token."""
    return quarantine_record(
        PREFIX,
        token.decode(),
        reason=reason,
        source=source,
        received_at=rfc3339(at_s),
        event_id=event_id,
        tenant=tenant,
    )


def expired_record(number: int = 0, **claims: Any) -> Record:
    """The quarantine record of an event that came too late."""
    payload = builders.live_event_claims(
        metadata=builders.live_event_metadata(request_id=f"request-{number}"), **claims
    )
    known_id = event_id(builders.live_event(payload))
    at_s = builders.NOW_S + LATE_S
    return kept_record(builders.token(payload), "expired", at_s=at_s, event_id=known_id)
