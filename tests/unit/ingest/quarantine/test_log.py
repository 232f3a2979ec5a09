"""Quarantine folded: what is open, what was decided, what cannot be read."""

from collections.abc import AsyncGenerator

from ingest.contract.quarantine import decision_record
from ingest.contract.record import Record, StoredRecord
from ingest.quarantine.log import contents
from tests.unit.ingest.quarantine.stored_records import (
    PREFIX,
    TOPIC,
    MemoryLog,
    expired_record,
    stored_record,
)

_AT = "2026-09-22T00:00:00.000Z"


async def test_entry_is_open_until_a_decision_after_it() -> None:
    first, second = expired_record(1), expired_record(2)
    log = MemoryLog(first, second, decision_record(PREFIX, first.key, "released", at=_AT))
    found = await contents(log, content_of=lambda kept: False)
    assert [(e.kept.key, e.state, e.decided_at) for e in found.entries] == [
        (first.key, "released", _AT),
        (second.key, "open", None),
    ]


async def test_what_is_kept_anew_after_a_decision_is_open_again() -> None:
    record = expired_record()
    log = MemoryLog(record, decision_record(PREFIX, record.key, "dropped", at=_AT), record)
    (entry,) = (await contents(log, content_of=lambda kept: False)).entries
    assert entry.state == "open"


async def test_decision_in_another_partition_counts_by_its_time() -> None:
    record = expired_record()
    decision = decision_record(PREFIX, record.key, "dropped", at=_AT)

    class Repartitioned(MemoryLog):
        async def records(self) -> AsyncGenerator[StoredRecord, None]:
            yield stored_record(decision, offset=0, partition=0, at_ms=200)
            yield stored_record(record, offset=7, partition=1, at_ms=100)

    (entry,) = (await contents(Repartitioned(), content_of=lambda kept: False)).entries
    assert entry.state == "dropped"


async def test_unreadable_records_are_counted_and_hide_nothing() -> None:
    junk = Record(topic=TOPIC, key=b"k", value=b"junk")
    orphan = decision_record(PREFIX, b"gone", "dropped", at=_AT)
    found = await contents(MemoryLog(junk, expired_record(), orphan), content_of=lambda kept: False)
    assert (len(found.entries), found.unreadable) == (1, 1)


async def test_tokens_that_nobody_asked_for_are_not_held() -> None:
    first, second = expired_record(1), expired_record(2)
    found = await contents(MemoryLog(first, second), content_of=lambda kept: kept.key == second.key)
    assert [entry.kept.token is None for entry in found.entries] == [True, False]
