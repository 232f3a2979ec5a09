"""What may be under way at once: requests, the bytes of their bodies, and for how long.

Notices have no second chance, Live Events have three; so the last eighth is for notices only.
Source: Canvas documentation, Live Events: retries; LTI Platform Notification Service.
"""

import asyncio
import time
from types import TracebackType
from typing import Any, Self

from ingest.contract.envelope import Source
from ingest.errors import NotDurable, Overloaded

_MAX_SWEEP_S = 0.25


class DeadlinePassed(NotDurable):
    """A request took longer than it may, whatever it waited for."""


class Admission:
    """Counts what is under way, and ends what takes too long; for one event loop's thread."""

    def __init__(self, *, max_requests: int, max_body_bytes: int, timeout_s: float) -> None:
        self._max_requests = _shares(max_requests)
        self._max_body_bytes = _shares(max_body_bytes)
        self._timeout_s = timeout_s
        self._sweep_s = min(_MAX_SWEEP_S, timeout_s / 20)
        self._sweeping: asyncio.TimerHandle | None = None
        self._places: dict[Place, float] = {}  # when each began, the oldest first
        self.body_bytes = 0

    @property
    def requests(self) -> int:
        """How many are under way."""
        return len(self._places)

    def enter(self, source: Source) -> "Place":
        """A place for one request, given back by its `with` block. Raises Overloaded."""
        if len(self._places) >= self._max_requests[source]:
            raise Overloaded("requests")
        if self._sweeping is None:
            self._sweep_later()
        return Place(self, self._places, self._max_body_bytes[source])

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(self._sweep_s, self._sweep)

    def _sweep(self) -> None:
        # one look at all of them costs less than a timer for each
        overdue = time.monotonic() - self._timeout_s
        for place, began_s in self._places.items():
            if began_s > overdue:
                break
            place.end()
        self._sweeping = None
        if self._places:
            self._sweep_later()


class Place:
    """One request under way. Its `with` block raises DeadlinePassed where it took too long."""

    __slots__ = ("_admission", "_held_bytes", "_is_ended", "_max_bytes", "_places", "_task")

    def __init__(
        self, admission: Admission, places: "dict[Place, float]", max_body_bytes: int
    ) -> None:
        self._admission = admission
        self._places = places
        self._max_bytes = max_body_bytes
        self._held_bytes = 0
        self._is_ended = False
        self._task: asyncio.Task[Any] | None = None

    def expect(self, size_bytes: int) -> None:
        """Raises Overloaded if so much more of a body would not fit; it counts as it arrives.

        What is only announced takes no room: else a few idle connections could take it all.
        """
        if self._admission.body_bytes + size_bytes > self._max_bytes:
            raise Overloaded("body bytes")

    def hold(self, size_bytes: int) -> None:
        """Counts so much of the body in, until the request ends. Raises Overloaded."""
        admission = self._admission
        held_bytes = admission.body_bytes + size_bytes
        if held_bytes > self._max_bytes:
            raise Overloaded("body bytes")
        admission.body_bytes = held_bytes
        self._held_bytes += size_bytes

    def end(self) -> None:
        """Cancels the request, once."""
        if not self._is_ended and self._task is not None:
            self._is_ended = True
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._places[self] = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._places[self]
        self._admission.body_bytes -= self._held_bytes
        if self._is_ended and not self._others_want() and isinstance(error, asyncio.CancelledError):
            raise DeadlinePassed from error

    def _others_want(self) -> bool:
        """Whether somebody besides us has cancelled it; takes our own cancellation back."""
        return self._task is not None and self._task.uncancel() > 0


def _shares(limit: int) -> dict[Source, int]:
    return {"live-events": limit - limit // 8, "pns": limit}
