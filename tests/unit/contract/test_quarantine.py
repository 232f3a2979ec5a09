"""The quarantine topic's records: what is written is read back, and what is not ours is refused."""

import hashlib
from typing import Any

import orjson
import pytest

from ingest.contract.quarantine import (
    DECISIONS,
    REASONS,
    Decided,
    Decision,
    Quarantined,
    QuarantineReason,
    Unreadable,
    decision_record,
    quarantine_record,
    read_quarantine,
    reason_of,
)
from ingest.contract.record import Record, StoredRecord

_PREFIX = "campus"
_METADATA: dict[str, Any] = {
    "reason": "expired",
    "received_at": "2026-09-21T14:13:20.000Z",
    "source": "pns",
    "event_id": "7e" * 32,
    "tenant": "north-campus",
}


def _stored(record: Record, *, damaged: bool = False) -> StoredRecord:
    return StoredRecord(
        topic=record.topic,
        partition=0,
        offset=1,
        timestamp_ms=1,
        key=record.key,
        value=record.value,
        headers=record.headers,
        damaged=damaged,
    )


def _raw(value: Any) -> StoredRecord:
    text = value if isinstance(value, bytes) else orjson.dumps(value)
    return _stored(Record(topic="campus.quarantine.v1", key=b"k", value=text))


@pytest.mark.parametrize("reason", REASONS)
def test_token_is_read_back_with_all_that_is_known_of_it(reason: QuarantineReason) -> None:
    record = quarantine_record(_PREFIX, "a.b.c", **{**_METADATA, "reason": reason})
    assert record.topic == "campus.quarantine.v1"
    assert read_quarantine(_stored(record)) == Quarantined(
        key=b"7e" * 32,
        reason=reason,
        source="pns",
        received_at="2026-09-21T14:13:20.000Z",
        event_id="7e" * 32,
        tenant="north-campus",
        token="a.b.c",
        record=None,
    )


def test_token_without_an_id_is_kept_under_its_hash() -> None:
    metadata = {name: _METADATA[name] for name in ("reason", "received_at", "source")}
    kept = read_quarantine(_stored(quarantine_record(_PREFIX, "a.b.c", **metadata)))
    assert isinstance(kept, Quarantined)
    assert kept.key == hashlib.sha256(b"a.b.c").hexdigest().encode()
    assert (kept.event_id, kept.tenant) == (None, None)


def test_record_without_a_token_is_read_back_whole() -> None:
    record = Record(
        topic="campus.live-events.course-created.v1",
        key="account:été".encode(),
        value='{"body": "é"}'.encode(),
        headers=(
            ("ce_id", b"id-1"),
            ("ce_receivedtime", b"2026-09-21T14:13:20.000Z"),
            ("ce_tenant", b"north-campus"),
            ("ce_subject", "é".encode()),
        ),
    )
    written = quarantine_record(_PREFIX, record, reason="too_large_for_topic", source="live-events")
    kept = read_quarantine(_stored(written))
    assert isinstance(kept, Quarantined)
    assert (kept.record, kept.token) == (record, None)
    assert (kept.key, kept.event_id, kept.tenant) == (b"id-1", "id-1", "north-campus")
    assert kept.received_at == "2026-09-21T14:13:20.000Z"
    assert kept.reason == "too_large_for_topic"


@pytest.mark.parametrize("decision", DECISIONS)
def test_decision_is_read_back_under_the_key_of_what_it_is_about(decision: Decision) -> None:
    record = decision_record(_PREFIX, b"k", decision, at="2026-09-22T00:00:00.000Z")
    assert record.topic == "campus.quarantine.v1"
    assert reason_of(record, _PREFIX) == ""
    assert read_quarantine(_stored(record)) == Decided(
        key=b"k", decision=decision, at="2026-09-22T00:00:00.000Z"
    )


def test_decision_says_where_nothing_could_be_verified_and_older_ones_say_nothing() -> None:
    at = "2026-09-22T00:00:00.000Z"
    record = decision_record(_PREFIX, b"k", "released", at=at, unverified=True)
    assert orjson.loads(record.value) == {"decision": "released", "at": at, "unverified": True}
    decided = Decided(key=b"k", decision="released", at=at, unverified=True)
    assert read_quarantine(_stored(record)) == decided
    record = decision_record(_PREFIX, b"k", "released", at=at)
    assert orjson.loads(record.value) == {"decision": "released", "at": at}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        [],
        {},
        {"metadata": {}, "token": "t"},
        {"metadata": {**_METADATA, "reason": "boredom"}, "token": "t"},
        {"metadata": {**_METADATA, "source": "elsewhere"}, "token": "t"},
        {"metadata": _METADATA},
        {"metadata": _METADATA, "token": 5},
        {"metadata": _METADATA, "record": {"topic": "t"}},
        {"metadata": _METADATA, "record": {"topic": "t", "key": 1, "headers": [], "value": ""}},
        {"metadata": _METADATA, "record": {"topic": "t", "key": "", "headers": [1], "value": ""}},
        {"metadata": _METADATA, "record": {"topic": 5, "key": "", "headers": [], "value": ""}},
        {"decision": "forgotten", "at": "2026-09-22T00:00:00.000Z"},
        {"decision": "released"},
    ],
)
def test_what_we_never_write_is_unreadable(value: Any) -> None:
    with pytest.raises(Unreadable):
        read_quarantine(_raw(value))


def test_damaged_record_is_unreadable() -> None:
    sound = quarantine_record(_PREFIX, "a.b.c", **_METADATA)
    with pytest.raises(Unreadable):
        read_quarantine(_stored(sound, damaged=True))
