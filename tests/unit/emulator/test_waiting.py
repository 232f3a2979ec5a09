from __future__ import annotations

import asyncio
import time
import tracemalloc
from functools import partial

from tests.emulator.deliveries import Outgoing
from tests.emulator.waiting import Try, Waiting


def _nothing(attempt: int, /) -> Outgoing:
    raise NotImplementedError


async def _turns() -> None:
    """Every task that could go on has gone on; nothing here waits for anything outside."""
    for _ in range(10):
        await asyncio.sleep(0)


def _try(serial: int, attempt: int = 2) -> Try:
    return Try(serial=serial, attempt=attempt, job=_nothing)


async def test_they_are_taken_when_due_and_in_that_order() -> None:
    waiting = Waiting(max_retries=9)
    started_s = time.monotonic()
    taking = [asyncio.create_task(waiting.take()) for _ in range(3)]
    for delay_s, serial in ((0.15, 3), (0.05, 1), (0.1, 2)):
        waiting.put(delay_s, _try(serial))
        await asyncio.sleep(0)
    taken = [(await task).serial for task in taking]
    assert taken == [1, 2, 3]
    assert time.monotonic() - started_s >= 0.15


async def test_all_is_settled_only_when_the_last_that_was_taken_is() -> None:
    waiting = Waiting(max_retries=9)
    await asyncio.wait_for(waiting.all_settled(), 1)
    waiting.put(0, _try(1))
    await waiting.take()
    waiting.put(0, _try(1, attempt=3))
    waiting.settled()
    end = asyncio.create_task(waiting.all_settled())
    await waiting.take()
    await _turns()
    assert not end.done()
    waiting.settled()
    await asyncio.wait_for(end, 1)


async def test_there_is_no_room_while_too_many_retries_wait() -> None:
    waiting = Waiting(max_retries=1)
    waiting.put(0, _try(1, attempt=1))
    await asyncio.wait_for(waiting.room(), 1)
    waiting.put(0, _try(2))
    room = asyncio.create_task(waiting.room())
    assert (await waiting.take()).attempt == 1
    await _turns()
    assert not room.done()
    assert (await waiting.take()).attempt == 2
    await asyncio.wait_for(room, 1)


async def test_many_thousands_waiting_cost_little() -> None:
    waiting = Waiting(max_retries=20_000)
    tracemalloc.start()
    try:
        for serial in range(10_000):
            waiting.put(600, Try(serial=serial, attempt=2, job=partial(_nothing, serial)))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert waiting.retries == len(waiting) == 10_000
    assert used < 6_000_000
