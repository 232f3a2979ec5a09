"""Bounds and contents of a batch."""

from consumers.batch import BatchBuilder
from consumers.values import DeadLetter, Partition
from tests.suites.sinks import row
from tests.unit.consumers.builders import stored_as, unreadable_record

HERE, THERE = Partition("here", 0), Partition("there", 1)


def builder(max_rows: int = 3, max_bytes: int = 1_000) -> BatchBuilder:
    return BatchBuilder(epoch=4, max_rows=max_rows, max_bytes=max_bytes)


def test_of_repeats_the_first_stays() -> None:
    batch = builder()
    batch.add([row(1, text="first"), row(1, table="others")])
    batch.add([row(1, text="second")])
    tables = batch.freeze("log").tables
    assert [kept.values["text"] for kept in tables["things"]] == ["first"]
    assert batch.row_count == 2


def test_rows_fill_it() -> None:
    batch = builder(max_rows=2)
    full = []
    for number in (1, 2):
        batch.add([row(number)])
        full.append(batch.is_full)
    assert full == [False, True]


def test_bytes_fill_it() -> None:
    batch = builder(max_bytes=100)
    full = []
    for timestamp_ms in (5, 4):
        batch.weigh(value_bytes=60, timestamp_ms=timestamp_ms)
        full.append(batch.is_full)
    assert full == [False, True]
    assert (batch.record_count, batch.oldest_ms) == (2, 4)


def test_without_offsets_there_is_nothing_to_write() -> None:
    assert builder().is_empty
    batch = builder()
    batch.cover({HERE: 1})
    assert not batch.is_empty


def test_later_offsets_replace_earlier_ones() -> None:
    batch = builder()
    batch.cover({HERE: 1, THERE: 7})
    batch.cover({HERE: 2})
    assert batch.freeze("log").next_offsets == {HERE: 2, THERE: 7}


def test_what_was_frozen_does_not_change() -> None:
    batch = builder()
    batch.add([row(1)])
    batch.cover({HERE: 1})
    frozen = batch.freeze("log")
    batch.add([row(2)])
    batch.add_dead_letter(DeadLetter(record=stored_as(unreadable_record(1), 1), reason="damaged"))
    batch.cover({HERE: 2})
    assert len(frozen.tables["things"]) == 1
    assert frozen.dead_letters == ()
    assert frozen.next_offsets == {HERE: 1}
    assert (frozen.source_id, frozen.epoch) == ("log", 4)
