"""Dead letters written after all, and what a replay that ends half-way leaves to the next."""

from collections.abc import Awaitable, Callable, Sequence

import pytest

from consumers.batch import Batch
from consumers.dead_letters.dead_letter import Letter, dead_letter_record, letters
from consumers.dead_letters.replay import LETTERS_AT_ONCE, Replay
from consumers.projections import all_tables
from consumers.sinks.memory import MemorySink, MemoryStore
from consumers.values import DeadLetter
from ingest.contract.catalogue import catalogue
from tests.unit.consumers.builders import PREFIX, event_id, event_record, stored_as
from tests.unit.consumers.fakes import Crash, Fuse, FusedDeadLetters, FusedSink

COUNT = 2 * LETTERS_AT_ONCE + 3


def replay(
    kept: FusedDeadLetters,
    write: Callable[[Batch], Awaitable[object]],
    on_progress: Callable[[int], object] = lambda more: None,
) -> Replay:
    return Replay(
        kept=kept,
        write=write,
        project=all_tables(catalogue()),
        prefix=PREFIX,
        worker="tables",
        on_progress=on_progress,
    )


async def kept_letters() -> FusedDeadLetters:
    """As many as take three parts, all of which can be read by now."""
    kept = FusedDeadLetters()
    for number in range(COUNT):
        letter = DeadLetter(
            record=stored_as(event_record(number), number), reason="projection_failed"
        )
        await kept.append([dead_letter_record(letter, prefix=PREFIX, worker="tables")])
    return kept


async def still_open(kept: FusedDeadLetters) -> Sequence[Letter]:
    found, _ = await letters(kept)
    return [letter for letter in found if letter.state == "open"]


@pytest.mark.parametrize("blows_at", [1, 2, 3, LETTERS_AT_ONCE + 4, COUNT + 5, COUNT + 8])
async def test_a_replay_that_is_killed_is_gone_on_with_by_the_next(blows_at: int) -> None:
    kept, store = await kept_letters(), MemoryStore()
    kept.fuse = Fuse(blows_at=blows_at)
    first = FusedSink(MemorySink(store, worker="tables"), kept.fuse)
    with pytest.raises(Crash):
        await replay(kept, first.write).replay(await still_open(kept))
    kept.fuse = Fuse()
    left = await still_open(kept)
    assert 0 < len(left) <= COUNT
    second = MemorySink(store, worker="tables")
    await replay(kept, second.write).replay(left)
    assert await still_open(kept) == []
    assert sorted(store.tables["events"]) == sorted(event_id(n) for n in range(COUNT))


async def test_progress_is_told_part_by_part() -> None:
    kept, sink, told = await kept_letters(), MemorySink(MemoryStore(), worker="tables"), list[int]()
    await replay(kept, sink.write, told.append).replay(await still_open(kept))
    assert told == [LETTERS_AT_ONCE, LETTERS_AT_ONCE, 3]
