"""Dead letters of workers that read the embedded log."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from consumers.dead_letters.dead_letter import DeadLetters, dead_letter_record, letters
from consumers.dead_letters.embedded import EmbeddedDeadLetters
from consumers.errors import StartupError
from consumers.values import DeadLetter
from ingest.contract.eventlog.eventlog import EventLogReader
from tests.suites.dead_letters import DeadLettersBehaviour, letter_record
from tests.unit.consumers.builders import PREFIX, stored_as, unreadable_record
from tests.unit.consumers.fakes import MemoryDeadLetters

LETTER = DeadLetter(record=stored_as(unreadable_record(1), 77), reason="not_an_envelope")


class Memory:
    """A list."""

    prefix = PREFIX

    def __init__(self) -> None:
        self._letters = MemoryDeadLetters()

    async def letters(self) -> DeadLetters:
        return self._letters

    def unopened(self) -> DeadLetters:
        return self._letters


class EmbeddedPlace:
    """The file of a worker."""

    prefix = PREFIX

    def __init__(self, directory: Path, opened: AsyncExitStack) -> None:
        self._directory = directory
        self._opened = opened

    async def letters(self) -> DeadLetters:
        kept = self.unopened()
        await kept.open()
        return kept

    def unopened(self) -> DeadLetters:
        kept = EmbeddedDeadLetters(self._directory, worker="tables")
        self._opened.push_async_callback(kept.close)
        return kept


class TestMemoryDeadLetters(DeadLettersBehaviour):
    @pytest.fixture
    def place(self) -> Memory:
        return Memory()


class TestEmbeddedDeadLetters(DeadLettersBehaviour):
    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[EmbeddedPlace]:
        async with AsyncExitStack() as opened:
            yield EmbeddedPlace(tmp_path, opened)

    async def test_letters_are_on_the_disk_when_they_are_kept(
        self, place: EmbeddedPlace, tmp_path: Path
    ) -> None:
        await (await place.letters()).append([letter_record(PREFIX, 1)])
        reader = EventLogReader.open(tmp_path / "dead-letters.tables.sqlite3")
        assert [record.value for record in reader.read(0)] == [LETTER.record.value]
        reader.close()


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


async def test_a_damaged_record_whose_topic_is_no_text_can_be_kept() -> None:
    damaged = stored_as(unreadable_record(1), 3, damaged=True)
    scrambled = type(damaged)(
        topic="\udcff", partition=0, offset=3, timestamp_ms=0, key=b"", value=b"", damaged=True
    )
    kept = MemoryDeadLetters()
    letter = DeadLetter(record=scrambled, reason="damaged")
    await kept.append([dead_letter_record(letter, prefix=PREFIX, worker="tables")])
    ((found,), _) = await letters(kept)
    assert (found.place, found.record.damaged) == ("\\udcff/0@3", True)


async def test_a_place_that_cannot_be_made_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a directory should be")
    kept = EmbeddedDeadLetters(tmp_path / "taken", worker="tables")
    with pytest.raises(StartupError, match="dead letters cannot be kept"):
        await kept.open()
    await kept.close()
