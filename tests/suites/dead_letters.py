"""What every place for dead letters does: subclass `DeadLettersBehaviour`, provide `place`."""

from typing import Protocol

from consumers.dead_letters.dead_letter import (
    DeadLetters,
    dead_letter_record,
    decision_record,
    letters,
)
from consumers.values import DeadLetter, PoisonReason
from ingest.contract.record import Record
from tests.unit.consumers.builders import stored_as, unreadable_record

MANY = 700
WORKER = "tables"
AT = "2026-09-07T12:00:00.000Z"


class Place(Protocol):
    """A place under test, empty at first; its topic begins with `prefix`."""

    prefix: str

    async def letters(self) -> DeadLetters:
        """Opened; the place closes it."""
        ...

    def unopened(self) -> DeadLetters:
        """As a command has it that only looks."""
        ...


def letter_record(
    prefix: str, number: int, reason: PoisonReason = "not_an_envelope", *, offset: int | None = None
) -> Record:
    """The dead letter of a record that nobody can read."""
    record = stored_as(unreadable_record(number, prefix), number if offset is None else offset)
    return dead_letter_record(
        DeadLetter(record=record, reason=reason), prefix=prefix, worker=WORKER
    )


class DeadLettersBehaviour:
    """What is appended is kept in order, letters and decisions alike."""

    async def test_nothing_is_kept_at_first(self, place: Place) -> None:
        assert await letters(place.unopened()) == ([], 0)

    async def test_many_letters_of_one_batch_are_all_kept_in_order(self, place: Place) -> None:
        kept = await place.letters()
        await kept.append([letter_record(place.prefix, number) for number in range(MANY)])
        found, unreadable = await letters(place.unopened())
        assert ([letter.record.offset for letter in found], unreadable) == (list(range(MANY)), 0)

    async def test_a_letter_comes_back_as_the_record_that_it_was(self, place: Place) -> None:
        await (await place.letters()).append([letter_record(place.prefix, 5)])
        ((found,), _) = await letters(place.unopened())
        was = unreadable_record(5, place.prefix)
        came = found.record
        assert (came.topic, came.partition, came.offset) == (was.topic, 0, 5)
        assert (came.key, came.value, came.headers) == (was.key, was.value, was.headers)
        assert (found.reason, found.state) == ("not_an_envelope", "open")

    async def test_a_letter_kept_twice_is_one(self, place: Place) -> None:
        kept = await place.letters()
        await kept.append([letter_record(place.prefix, 1)])
        await kept.append([letter_record(place.prefix, 1), letter_record(place.prefix, 2)])
        found, _ = await letters(place.unopened())
        assert [letter.record.offset for letter in found] == [1, 2]

    async def test_a_decision_is_about_one_letter_even_of_many_with_its_key(
        self, place: Place
    ) -> None:
        kept = await place.letters()
        await kept.append([letter_record(place.prefix, 1, offset=n) for n in (10, 11)])
        (first, _), _ = await letters(kept)
        await kept.append(
            [decision_record(first, "replayed", at=AT, prefix=place.prefix, worker=WORKER)]
        )
        found, unreadable = await letters(place.unopened())
        assert [(one.record.offset, one.state, one.decided_at) for one in found] == [
            (10, "replayed", AT),
            (11, "open", None),
        ]
        assert unreadable == 0

    async def test_a_letter_kept_after_a_decision_is_open_again(self, place: Place) -> None:
        kept = await place.letters()
        await kept.append([letter_record(place.prefix, 1)])
        ((first,), _) = await letters(kept)
        await kept.append(
            [decision_record(first, "dropped", at=AT, prefix=place.prefix, worker=WORKER)]
        )
        await kept.append([letter_record(place.prefix, 1)])
        ((found,), _) = await letters(place.unopened())
        assert found.state == "open"

    async def test_what_is_no_letter_is_counted(self, place: Place) -> None:
        kept = await place.letters()
        foreign = letter_record(place.prefix, 1)
        await kept.append([Record(topic=foreign.topic, key=b"k", value=b"v"), foreign])
        found, unreadable = await letters(place.unopened())
        assert (len(found), unreadable) == (1, 1)
