"""Group commit: while one batch is under way, the next one gathers."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from ingest.contract.record import Record
from ingest.errors import NotDurable, Unavailable

Send = Callable[[Iterable[Record]], Awaitable[int]]
"""Makes the first records of those offered durable, and tells how many; at least one."""


class Gathering:
    """Records that wait for one sender. At most one call of `send` is under way at a time."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: deque[tuple[Record, asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def append(self, record: Record) -> None:
        """Returns when the record is durable. Raises what `send` raised, as Unavailable."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((record, done))
        if self._task is None:
            # begins in the loop's next turn, with all that this turn's requests bring
            self._task = asyncio.create_task(self._drain())
        await done

    async def finish(self, timeout_s: float) -> bool:
        """Waits until nothing waits any more; False if that took too long."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout_s)
        return self._task is None

    async def _drain(self) -> None:
        try:
            while self._waiting:
                for _ in range(await self._send(record for record, _ in self._waiting)):
                    _settle(self._waiting.popleft()[1])
        except Exception as error:
            # what gathered meanwhile would only wait for the same trouble
            while self._waiting:
                _settle(self._waiting.popleft()[1], error)
        finally:
            self._task = None


def _settle(done: asyncio.Future[None], error: Exception | None = None) -> None:
    if done.done():  # whoever waited has gone
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error if isinstance(error, Unavailable) else NotDurable(repr(error)))
