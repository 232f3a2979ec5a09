"""Background tasks: restarted and counted, or the end of the process."""

import asyncio

import pytest

from ingest.shared.background import Background, TaskEnded


async def test_task_that_fails_is_restarted_and_counted() -> None:
    restarted: list[str] = []
    runs = 0
    steady = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError
        steady.set()
        await asyncio.Event().wait()

    async with Background(restarted=restarted.append, first_pause_s=0.001) as background:
        background.start("keys", work)
        await steady.wait()
    assert restarted == ["keys", "keys"]


async def test_task_that_returns_is_done() -> None:
    restarted: list[str] = []
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    async with Background(restarted=restarted.append) as background:
        background.start("topic check", work)
        await done.wait()
    assert restarted == []


@pytest.mark.parametrize("error", [None, RuntimeError("disk")])
async def test_end_of_a_needed_task_is_told(error: Exception | None) -> None:
    async def work() -> None:
        if error is not None:
            raise error

    async with Background() as background:
        background.start("drainer", work, needed=True)
        with pytest.raises(TaskEnded, match=r"^drainer$"):
            await background.wait_for_end()


async def test_tasks_end_with_the_block_the_last_one_first() -> None:
    ended: list[str] = []
    began = asyncio.Semaphore(0)

    async def work(name: str) -> None:
        began.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async with Background() as background:
        background.start("first", lambda: work("first"), needed=True)
        background.start("second", lambda: work("second"))
        await began.acquire()
        await began.acquire()
        waiting = asyncio.create_task(background.wait_for_end())
    assert ended == ["second", "first"]
    assert not waiting.done()
    waiting.cancel()
