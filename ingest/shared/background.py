"""A program's background tasks: each has a name and an owner, and none ends unseen."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from ingest.shared.logs import place_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Work = Callable[[], Awaitable[None]]
Result = TypeVar("Result")

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_STEADY_AFTER_S = 60.0
_STOP_TIMEOUT_S = 5.0


class TaskEnded(Exception):
    """A task that the program cannot do without has ended; the text is its name."""


class Background:
    """Runs tasks while its `async with` block runs; at its end cancels them, the last one first.

    `restarted` is told the name of each task that ended with an error and is begun again.
    """

    def __init__(
        self,
        *,
        restarted: Callable[[str], None] = lambda task: None,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._restarted = restarted
        self._first_pause_s = first_pause_s
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def start(self, name: str, work: Work, *, needed: bool = False) -> None:
        """Runs `work` until the block ends.

        A needed one must not end at all: if it does, `wait_for_end` raises. Any other may return,
        and after an error is begun again with backoff.
        """
        keep = self._keep_needed if needed else self._keep
        self._tasks.append(asyncio.create_task(keep(name, work), name=name))

    def stop(self, name: str) -> None:
        """Cancels the tasks of this name, which nobody needs any more, and forgets them."""
        for task in [task for task in self._tasks if task.get_name() == name]:
            self._tasks.remove(task)
            task.cancel()

    async def wait_for_end(self) -> None:
        """Raises TaskEnded once a needed task has ended; until then it waits."""
        raise TaskEnded(await asyncio.shield(self._ended))

    async def guard(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` returns, unless a needed task ends first: then raises TaskEnded."""
        doing = asyncio.create_task(work)
        try:
            await asyncio.wait((doing, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done():
                raise TaskEnded(self._ended.result())
            return await doing
        finally:
            doing.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        while self._tasks:
            await _stopped(self._tasks.pop())

    async def _keep_needed(self, name: str, work: Work) -> None:
        try:
            await work()
            log.error("background task ended, stopping the process", task=name)
        except (Exception, asyncio.CancelledError) as error:
            if self._told_to_stop(error):
                raise
            _say(error, "background task failed, stopping the process", task=name)
        if not self._ended.done():
            self._ended.set_result(name)

    async def _keep(self, name: str, work: Work) -> None:
        clock = asyncio.get_running_loop().time
        pause_s = self._first_pause_s
        while True:
            began_s = clock()
            try:
                await work()
                return
            except (Exception, asyncio.CancelledError) as error:
                if self._told_to_stop(error):
                    raise
                if clock() - began_s > _STEADY_AFTER_S:
                    pause_s = self._first_pause_s
                what = "background task failed, restarting it"
                _say(error, what, task=name, pause_s=pause_s)
                self._restarted(name)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _told_to_stop(self, error: BaseException) -> bool:
        """Whether the running task was cancelled; else its error is one, whatever its kind.

        A cancellation that nobody asked this task for came from what it awaited.
        """
        task = asyncio.current_task()
        assert task is not None
        if self._stopping or (isinstance(error, asyncio.CancelledError) and task.cancelling()):
            return True
        while task.cancelling():  # a task group that failed leaves its own request behind
            task.uncancel()
        return False


async def _stopped(task: asyncio.Task[None]) -> None:
    """Cancels it, and waits for its end, within a bound."""
    task.cancel()
    await asyncio.wait([task], timeout=_STOP_TIMEOUT_S)
    name = task.get_name()
    if not task.done():
        log.error("background task does not stop, going on without it", task=name)
    elif not task.cancelled() and (error := task.exception()) is not None:
        _say(error, "background task failed while it stopped", task=name)


def _say(error: BaseException, what: str, **fields: object) -> None:
    while isinstance(error, BaseExceptionGroup):  # a task group's; its first says what happened
        error = error.exceptions[0]
    log.error(what, **fields, cause=type(error).__name__, at=place_of(error))
