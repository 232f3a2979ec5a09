"""Background tasks: restarted and counted, or the end of the process."""

import asyncio
import contextlib
from functools import partial

import pytest
from structlog.testing import capture_logs

from ingest.shared import background as background_module
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


@pytest.mark.parametrize("error", [None, RuntimeError("disk"), asyncio.CancelledError()])
async def test_end_of_a_needed_task_is_told(error: BaseException | None) -> None:
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


async def test_cancellation_of_what_a_task_awaits_is_a_failure_like_others() -> None:
    restarted: list[str] = []
    steady = asyncio.Event()
    shared = asyncio.get_running_loop().create_future()
    shared.cancel()

    async def work() -> None:
        if not restarted:
            await shared
        steady.set()
        await asyncio.Event().wait()

    async with Background(restarted=restarted.append, first_pause_s=0.001) as background:
        background.start("keys", work)
        await steady.wait()
    assert restarted == ["keys"]


async def test_failure_within_a_task_group_is_named_by_its_cause() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def work() -> None:
        async with asyncio.TaskGroup() as loops:
            loops.create_task(fail())

    with capture_logs() as lines:
        async with Background() as background:
            background.start("drainer", work, needed=True)
            with pytest.raises(TaskEnded):
                await asyncio.wait_for(background.wait_for_end(), 5)
    (line,) = lines
    assert (line["task"], line["cause"]) == ("drainer", "ZeroDivisionError")
    assert line["at"].endswith("in fail")


async def test_task_whose_group_failed_is_seen_to_fail_again() -> None:
    restarted: list[str] = []
    steady = asyncio.Event()
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()

    async def fail() -> None:
        raise ZeroDivisionError

    async def work() -> None:
        if not restarted:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(fail())
        if len(restarted) == 1:
            await cancelled
        steady.set()
        await asyncio.Event().wait()

    async with Background(restarted=restarted.append, first_pause_s=0.001) as background:
        background.start("keys", work)
        await asyncio.wait_for(steady.wait(), 5)
    assert restarted == ["keys", "keys"]


async def test_failure_of_the_clean_up_is_no_reason_to_restart() -> None:
    restarted: list[str] = []
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError

    with capture_logs():
        async with Background(restarted=restarted.append, first_pause_s=0) as background:
            background.start("keys", work)
            await began.wait()
    assert restarted == []


async def test_guarded_work_is_done_while_the_needed_ones_run() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    async def seven() -> int:
        return 7

    async with Background() as background:
        background.start("drainer", work, needed=True)
        assert await background.guard(seven()) == 7


async def test_guarded_work_ends_with_a_needed_task() -> None:
    given_up = asyncio.Event()

    async def work() -> None:
        raise RuntimeError

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async with Background() as background:
        background.start("drainer", work, needed=True)
        with pytest.raises(TaskEnded, match=r"^drainer$"):
            await background.guard(long())
        await given_up.wait()


async def test_failure_of_guarded_work_is_its_own() -> None:
    async def work() -> None:
        raise ValueError("mine")

    async with Background() as background:
        with pytest.raises(ValueError, match="mine"):
            await background.guard(work())


async def test_task_that_does_not_stop_is_named_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "_STOP_TIMEOUT_S", 0.01)
    may_end, began = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        began.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    with capture_logs() as lines:
        async with Background() as background:
            background.start("drainer", stubborn)
            await began.wait()
    may_end.set()
    assert [line["task"] for line in lines] == ["drainer"]


async def test_failure_while_stopping_is_said_and_stops_nobody_else() -> None:
    began, ended = asyncio.Semaphore(0), asyncio.Event()

    async def work(fails: bool) -> None:
        began.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            if fails:
                raise RuntimeError

    with capture_logs() as lines:
        async with Background() as background:
            background.start("drainer", lambda: work(False), needed=True)
            background.start("keys", lambda: work(True))
            await began.acquire()
            await began.acquire()
    assert [(line["task"], line["cause"]) for line in lines] == [("keys", "RuntimeError")]
    assert ended.is_set()


async def test_stopped_task_ends_and_the_others_go_on() -> None:
    ended, began = list[str](), asyncio.Event()

    async def work(name: str) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    restarted: list[str] = []
    async with Background(restarted=restarted.append, first_pause_s=0) as background:
        for name in ("keys a", "keys b"):
            background.start(name, partial(work, name))
        await began.wait()
        background.stop("keys a")
        background.start("keys a", partial(work, "keys a again"))
        await asyncio.sleep(0.01)
        assert ended == ["keys a"]
    assert sorted(ended) == ["keys a", "keys a again", "keys b"]
    assert restarted == []
