"""What may be under way at once: bodies that are half here, whole requests, and for how long.

Notices have no second chance, Live Events have three; so the last eighth is for notices only.
Source: Canvas documentation, Live Events: retries; LTI Platform Notification Service.
"""

import asyncio
import time
from types import TracebackType
from typing import Any, Self

from ingest.contract.envelope import Source
from ingest.errors import NotDurable, Overloaded, RequestTimeout

_MAX_SWEEP_S = 0.25


class DeadlinePassed(NotDurable):
    """A request took longer than it may, whatever it waited for."""


class Arrivals:
    """Bodies that are half here: bounded in bytes by themselves, and in time; for one event loop.

    Where the bytes do not suffice, the body that has waited longest goes: a stranger's slow ones
    are old, a genuine one is here in milliseconds.
    """

    def __init__(self, *, max_bytes: int, timeout_s: float) -> None:
        self._limits = _shares(max_bytes)
        self._timeout_s = timeout_s
        self._here: dict[Source, dict[Arrival, None]] = {"live-events": {}, "pns": {}}
        self.held_bytes: dict[Source, int] = {"live-events": 0, "pns": 0}

    def __len__(self) -> int:
        return sum(map(len, self._here.values()))

    def begin(self, source: Source) -> "Arrival":
        """A body's stay, for an `async with` block, which raises RequestTimeout, or Overloaded
        where it has to go for another."""
        return Arrival(self, source, self._timeout_s)

    def make_room(self, newcomer: "Arrival", size_bytes: int) -> None:
        """Raises Overloaded where the newcomer itself has waited longest."""
        while sum(self.held_bytes.values()) + size_bytes > self._limits[newcomer.source]:
            oldest = self._oldest(newcomer.source)
            if oldest is None or oldest is newcomer:
                raise Overloaded("body bytes")
            self.leave(oldest)
            oldest.overtake()

    def join(self, arrival: "Arrival") -> None:
        self._here[arrival.source][arrival] = None

    def leave(self, arrival: "Arrival") -> None:
        """Its bytes count no more; once, however it ends."""
        if arrival in self._here[arrival.source]:
            del self._here[arrival.source][arrival]
            self.held_bytes[arrival.source] -= arrival.held_bytes

    def _oldest(self, source: Source) -> "Arrival | None":
        """Who goes first for this source; notices within their reserve go for notices alone."""
        reserve = self._limits["pns"] - self._limits["live-events"]
        may_go: list[Source] = ["live-events"]
        if source == "pns" or self.held_bytes["pns"] > reserve:
            may_go.append("pns")
        first = [next(iter(self._here[each])) for each in may_go if self._here[each]]
        return min(first, key=lambda arrival: arrival.began_s, default=None)


class Arrival:
    """One body that is half here."""

    __slots__ = ("_arrivals", "_deadline", "_is_overtaken", "began_s", "held_bytes", "source")

    def __init__(self, arrivals: Arrivals, source: Source, timeout_s: float) -> None:
        self._arrivals = arrivals
        self._deadline = asyncio.timeout(timeout_s)
        self._is_overtaken = False
        self.began_s = time.monotonic()
        self.held_bytes = 0
        self.source = source

    def hold(self, size_bytes: int) -> None:
        """Counts so much more of the body in. Raises Overloaded."""
        self._arrivals.make_room(self, size_bytes)
        self._arrivals.held_bytes[self.source] += size_bytes
        self.held_bytes += size_bytes

    def overtake(self) -> None:
        """Ends the stay for another body's sake."""
        self._is_overtaken = True
        if not self._deadline.expired():
            self._deadline.reschedule(0)

    async def __aenter__(self) -> Self:
        await self._deadline.__aenter__()
        self._arrivals.join(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._arrivals.leave(self)
        try:
            await self._deadline.__aexit__(kind, error, trace)
        except TimeoutError:
            raise (Overloaded("body bytes") if self._is_overtaken else RequestTimeout) from None


class Admission:
    """Counts whole requests under way, and ends what takes too long; for one event loop."""

    def __init__(self, *, max_requests: int, max_body_bytes: int, timeout_s: float) -> None:
        self._max_requests = _shares(max_requests)
        self._max_body_bytes = _shares(max_body_bytes)
        self._timeout_s = timeout_s
        self._sweep_s = min(_MAX_SWEEP_S, timeout_s / 20)
        self._sweeping: asyncio.TimerHandle | None = None
        self._places: dict[Place, float] = {}  # when each one's head came
        self.body_bytes = 0

    @property
    def requests(self) -> int:
        """How many are under way."""
        return len(self._places)

    def enter(self, source: Source, size_bytes: int, *, began_s: float) -> "Place":
        """A place for one request whose head came at `began_s` of the monotonic clock, and whose
        body is whole; given back by its `with` block. Raises Overloaded."""
        if len(self._places) >= self._max_requests[source]:
            raise Overloaded("requests")
        if self.body_bytes + size_bytes > self._max_body_bytes[source]:
            raise Overloaded("body bytes")
        if self._sweeping is None:
            self._sweep_later()
        return Place(self, self._places, size_bytes, began_s)

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(self._sweep_s, self._sweep)

    def _sweep(self) -> None:
        # one look at all of them costs less than a timer for each
        overdue = time.monotonic() - self._timeout_s
        for place, began_s in self._places.items():
            if began_s <= overdue:
                place.end()
        self._sweeping = None
        if self._places:
            self._sweep_later()


class Place:
    """One request under way. Its `with` block raises DeadlinePassed where it took too long."""

    __slots__ = ("_admission", "_began_s", "_is_ended", "_places", "_size_bytes", "_task")

    def __init__(
        self, admission: Admission, places: "dict[Place, float]", size_bytes: int, began_s: float
    ) -> None:
        self._admission = admission
        self._places = places
        self._size_bytes = size_bytes
        self._began_s = began_s
        self._is_ended = False
        self._task: asyncio.Task[Any] | None = None

    def end(self) -> None:
        """Cancels the request, once."""
        if not self._is_ended and self._task is not None:
            self._is_ended = True
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._places[self] = self._began_s
        self._admission.body_bytes += self._size_bytes
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del self._places[self]
        self._admission.body_bytes -= self._size_bytes
        if self._is_ended and not self._others_want() and isinstance(error, asyncio.CancelledError):
            raise DeadlinePassed from error

    def _others_want(self) -> bool:
        """Whether somebody besides us has cancelled it; takes our own cancellation back."""
        return self._task is not None and self._task.uncancel() > 0


def _shares(limit: int) -> dict[Source, int]:
    return {"live-events": limit - limit // 8, "pns": limit}
