"""Dead letters of workers that read the embedded log."""

from pathlib import Path

import pytest

from consumers.dead_letter import EmbeddedDeadLetters, dead_letter_record
from consumers.errors import StartupError
from consumers.values import DeadLetter
from ingest.contract.eventlog.eventlog import EventLogReader
from tests.unit.consumers.builders import PREFIX, stored_as, unreadable_record

LETTER = DeadLetter(record=stored_as(unreadable_record(1), 77), reason="not_an_envelope")


def test_a_dead_letter_is_the_record_and_where_and_why() -> None:
    record = dead_letter_record(LETTER, prefix=PREFIX, worker="tables")
    assert record.topic == f"{PREFIX}.dlq.tables.v1"
    assert (record.key, record.value) == (LETTER.record.key, LETTER.record.value)
    assert record.headers == (
        ("note", b"kept"),
        ("forebay_reason", b"not_an_envelope"),
        ("forebay_source_topic", LETTER.record.topic.encode()),
        ("forebay_source_partition", b"0"),
        ("forebay_source_offset", b"77"),
        ("forebay_worker", b"tables"),
    )


async def test_dead_letters_are_on_the_disk_when_they_are_kept(tmp_path: Path) -> None:
    letters = EmbeddedDeadLetters(tmp_path, prefix=PREFIX, worker="tables")
    await letters.open()
    await letters.keep([LETTER, LETTER])
    reader = EventLogReader.open(tmp_path / "dead-letters.tables.sqlite3")
    kept = reader.read(0)
    assert [record.value for record in kept] == [LETTER.record.value] * 2
    assert dict(kept[0].headers)["forebay_reason"] == b"not_an_envelope"
    reader.close()
    await letters.close()


async def test_a_place_that_cannot_be_made_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a directory should be")
    letters = EmbeddedDeadLetters(tmp_path / "taken", prefix=PREFIX, worker="tables")
    with pytest.raises(StartupError, match="dead letters cannot be kept"):
        await letters.open()
    await letters.close()
