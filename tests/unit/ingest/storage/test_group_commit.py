"""Group commit: who shares a batch, whom a failure concerns, and who stopped waiting."""

import asyncio
from collections.abc import Callable, Iterable

import pytest

from ingest.errors import NotDurable, Overloaded
from ingest.storage.group_commit import GroupCommit


class _Sender:
    """Takes at most `most` items at a time, when it may; fails as it is told to."""

    def __init__(self, most: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.under_way = 0
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.failure: Callable[[list[int]], None] = lambda batch: None
        self._most = most

    async def __call__(self, items: Iterable[int]) -> int:
        batch = [item for item, _ in zip(items, range(self._most), strict=False)]
        self.under_way += 1
        assert self.under_way == 1
        try:
            await self.may_send.wait()
            self.failure(batch)
        finally:
            self.under_way -= 1
        self.batches.append(batch)
        return len(batch)


async def _turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_one_turn_of_the_loop_brings_goes_together() -> None:
    sender = _Sender()
    commits = GroupCommit(sender)
    await asyncio.gather(*(commits.append(n) for n in range(10)))
    assert sender.batches == [list(range(10))]


async def test_what_comes_while_a_batch_is_under_way_waits_for_the_next() -> None:
    sender = _Sender(most=4)
    sender.may_send.clear()
    commits = GroupCommit(sender)
    tasks = [asyncio.create_task(commits.append(0))]
    await _turn()
    tasks += [asyncio.create_task(commits.append(n)) for n in range(1, 8)]
    await _turn()
    assert len(commits) == 8
    assert not any(task.done() for task in tasks)
    sender.may_send.set()
    await asyncio.gather(*tasks)
    assert sender.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
    assert len(commits) == 0


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (NotDurable("disk"), NotDurable),
        (Overloaded("queue"), Overloaded),
        (RuntimeError("unforeseen"), NotDurable),
        (MemoryError(), NotDurable),
    ],
)
async def test_a_failure_concerns_all_that_wait_and_none_after(
    failure: Exception, told: type[Exception]
) -> None:
    sender = _Sender(most=2)

    def fail(batch: list[int]) -> None:
        raise failure

    sender.failure = fail
    commits = GroupCommit(sender)
    outcomes = await asyncio.gather(*(commits.append(n) for n in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [told] * 5
    sender.failure = lambda batch: None
    await commits.append(9)
    assert sender.batches == [[9]]


async def test_what_nobody_waits_for_any_more_becomes_an_orphan_when_it_is_durable() -> None:
    sender, orphans = _Sender(), list[int]()
    sender.may_send.clear()
    commits = GroupCommit(sender, on_orphan=orphans.append)
    leaving, staying = (asyncio.create_task(commits.append(n)) for n in range(2))
    await _turn()
    leaving.cancel()
    await asyncio.wait([leaving])
    assert orphans == []
    sender.may_send.set()
    await staying
    assert (orphans, sender.batches) == ([0], [[0, 1]])


async def test_what_failed_is_nobodys_orphan() -> None:
    sender, orphans = _Sender(), list[int]()
    sender.may_send.clear()

    def fail(batch: list[int]) -> None:
        raise NotDurable("disk")

    sender.failure = fail
    commits = GroupCommit(sender, on_orphan=orphans.append)
    leaving = asyncio.create_task(commits.append(0))
    await _turn()
    leaving.cancel()
    await asyncio.wait([leaving])
    sender.may_send.set()
    assert await commits.finish(1.0)
    assert orphans == []


async def test_finish_waits_so_long_and_says_whether_all_is_done() -> None:
    sender = _Sender()
    sender.may_send.clear()
    commits = GroupCommit(sender)
    assert await commits.finish(0.01)
    appending = asyncio.create_task(commits.append(0))
    await _turn()
    assert not await commits.finish(0.01)
    sender.may_send.set()
    assert await commits.finish(1.0)
    await appending


async def test_who_stops_waiting_in_the_very_turn_of_success_leaves_an_orphan_too() -> None:
    sender, orphans, tasks = _Sender(), list[int](), list[asyncio.Task[None]]()

    async def first() -> None:
        await commits.append(0)
        tasks[1].cancel()  # its own success is on its way to it

    commits = GroupCommit(sender, on_orphan=orphans.append)
    tasks += [asyncio.create_task(first()), asyncio.create_task(commits.append(1))]
    await asyncio.wait(tasks)
    assert sender.batches == [[0, 1]]
    assert tasks[1].cancelled()
    assert orphans == [1]
