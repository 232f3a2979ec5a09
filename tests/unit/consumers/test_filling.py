"""The batch between the task that reads and the one that writes."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from consumers.batch_size import BatchSize
from consumers.filling import Filling
from consumers.values import Partition
from tests.suites.sinks import row

HERE = Partition("here", 0)
LATER = BatchSize(flush_interval_s=60, max_rows=2)
AT_ONCE = BatchSize(flush_interval_s=0, max_rows=2)


def fill(filling: Filling, *numbers: int, lag_records: int = 0) -> None:
    for number in numbers:
        filling.batch.add([row(number)])
        filling.cover({HERE: number + 1}, lag_records=lag_records)


async def waits(call: Coroutine[Any, Any, object]) -> "asyncio.Task[object]":
    """The call, under way, once it is known to wait."""
    task = asyncio.create_task(call)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_batch_is_taken_when_its_first_record_has_waited() -> None:
    filling = Filling(AT_ONCE)
    taking = await waits(filling.take())
    fill(filling, 1)
    assert getattr(await taking, "row_count", None) == 1
    assert filling.batch.is_empty


async def test_a_batch_is_taken_before_its_time_when_it_is_full() -> None:
    filling = Filling(LATER)
    fill(filling, 1)
    taking = await waits(filling.take())
    fill(filling, 2)
    assert getattr(await taking, "row_count", None) == 2


async def test_a_batch_waits_longer_while_much_is_unread() -> None:
    filling = Filling(BatchSize(flush_interval_s=0.001, longest_interval_s=60))
    fill(filling, 1, lag_records=10**9)
    taking = await waits(filling.take())
    fill(filling, 2, lag_records=0)
    assert getattr(await taking, "row_count", None) == 2


async def test_at_the_end_what_is_there_is_taken_and_then_nothing() -> None:
    filling = Filling(LATER)
    fill(filling, 1)
    taking = await waits(filling.take())
    filling.end()
    assert getattr(await taking, "row_count", None) == 1
    assert await filling.take() is None


async def test_there_is_room_again_once_a_full_batch_is_taken() -> None:
    filling = Filling(LATER)
    await filling.room()
    fill(filling, 1, 2)
    waiting = await waits(filling.room())
    await filling.take()
    await waiting


@pytest.mark.parametrize(("numbers", "gave_up"), [((1,), True), ((), False)])
async def test_a_new_epoch_gives_up_what_is_there(numbers: tuple[int, ...], gave_up: bool) -> None:
    filling = Filling(LATER)
    fill(filling, *numbers)
    assert filling.begin(epoch=7) == gave_up
    assert (filling.batch.is_empty, filling.batch.epoch) == (True, 7)
    await waits(filling.take())
