"""Group commit: while one batch is under way, the next one fills."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Generic, TypeVar

from ingest.errors import NotDurable, Unavailable

Item = TypeVar("Item")


class GroupCommit(Generic[Item]):
    """Items that wait for one sender. At most one call of `send` is under way at a time.

    `send` makes the first items of those offered durable, at least one, and tells how many. What
    it raises fails all that wait.
    `on_orphan` gets each item that became durable after its owner had stopped waiting.
    """

    def __init__(
        self,
        send: Callable[[Iterable[Item]], Awaitable[int]],
        *,
        on_orphan: Callable[[Item], None] | None = None,
    ) -> None:
        self._send = send
        self._on_orphan = on_orphan
        self._waiting: deque[tuple[Item, asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def append(self, item: Item) -> None:
        """Returns when the item is durable. Raises what `send` raised."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._task is None:
            # begins in the loop's next turn, with all that this turn's requests bring
            self._task = asyncio.create_task(self._drain())
        try:
            await done
        except asyncio.CancelledError:
            # cancelled in the very turn in which it became durable
            if done.done() and not done.cancelled() and done.exception() is None:
                self._orphaned(item)
            raise

    async def finish(self, timeout_s: float) -> bool:
        """Waits until nothing waits any more; False if that took too long."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout_s)
        return self._task is None

    async def _drain(self) -> None:
        try:
            while self._waiting:
                self._succeed(await self._send(self._offered()))
        except Exception as error:
            # what came meanwhile would only wait for the same trouble
            self._fail(_known(error))
        finally:
            self._task = None

    def _offered(self) -> Iterator[Item]:
        return (item for item, _ in self._waiting)

    def _succeed(self, count: int) -> None:
        for _ in range(count):
            item, done = self._waiting.popleft()
            if not done.done():
                done.set_result(None)
            else:
                self._orphaned(item)

    def _orphaned(self, item: Item) -> None:
        if self._on_orphan is not None:
            self._on_orphan(item)

    def _fail(self, error: Exception) -> None:
        while self._waiting:
            _, done = self._waiting.popleft()
            if not done.done():
                done.set_exception(error)


def _known(error: Exception) -> Exception:
    """What callers expect; whatever else happened, the item may be durable or not."""
    return error if isinstance(error, Unavailable) else NotDurable(repr(error))
