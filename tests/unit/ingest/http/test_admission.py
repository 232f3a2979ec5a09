"""What may be under way at once: notices last turned away, every place given back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from ingest.contract.envelope import Source
from ingest.errors import Overloaded, RequestTimeout
from ingest.http.admission import Admission, Arrival, Arrivals, DeadlinePassed, Place


def _admission(
    *, max_requests: int = 16, max_body_bytes: int = 800, timeout_s: float = 60
) -> Admission:
    return Admission(max_requests=max_requests, max_body_bytes=max_body_bytes, timeout_s=timeout_s)


def _enter(admission: Admission, source: Source, size_bytes: int = 0, *, age_s: float = 0) -> Place:
    return admission.enter(source, size_bytes, began_s=time.monotonic() - age_s)


@pytest.mark.parametrize(("source", "share"), [("live-events", 14), ("pns", 16)])
async def test_last_eighth_of_the_places_is_for_notices(source: Source, share: int) -> None:
    admission = _admission(max_requests=16)
    with contextlib.ExitStack() as under_way:
        for _ in range(share):
            under_way.enter_context(_enter(admission, source))
        with pytest.raises(Overloaded):
            _enter(admission, source)
        assert admission.requests == share
    assert admission.requests == 0
    _enter(admission, source)


async def test_notices_find_a_place_where_live_events_find_none() -> None:
    admission = _admission(max_requests=8)
    with contextlib.ExitStack() as under_way:
        for _ in range(7):
            under_way.enter_context(_enter(admission, "live-events"))
        with pytest.raises(Overloaded):
            _enter(admission, "live-events")
        with _enter(admission, "pns"), pytest.raises(Overloaded):
            _enter(admission, "pns")


@pytest.mark.parametrize(("source", "share"), [("live-events", 700), ("pns", 800)])
async def test_last_eighth_of_the_bytes_is_for_notices(source: Source, share: int) -> None:
    admission = _admission(max_body_bytes=800)
    with pytest.raises(Overloaded):
        _enter(admission, source, share + 1)
    with _enter(admission, source, share - 1), _enter(admission, source, 1):
        with pytest.raises(Overloaded):
            _enter(admission, source, 1)
        assert admission.body_bytes == share
    assert admission.body_bytes == 0


async def test_bytes_are_given_back_whatever_becomes_of_the_request() -> None:
    admission = _admission()
    with contextlib.suppress(KeyError), _enter(admission, "pns", 300):
        raise KeyError
    assert (admission.requests, admission.body_bytes) == (0, 0)


async def test_request_that_hangs_is_ended_and_the_task_goes_on() -> None:
    admission = _admission(timeout_s=0.05)
    with pytest.raises(DeadlinePassed):
        await _hang(admission)
    assert (admission.requests, admission.body_bytes) == (0, 0)
    with _enter(admission, "pns"):
        await asyncio.sleep(0)  # raises if a cancellation were left over


async def test_deadline_ends_only_what_is_overdue() -> None:
    admission = _admission(timeout_s=5)
    old = asyncio.create_task(_hang(admission, age_s=4.8))
    await asyncio.sleep(0)
    with _enter(admission, "pns"):  # raises DeadlinePassed if it were ended as well
        await asyncio.wait({old})
    assert isinstance(old.exception(), DeadlinePassed)


async def test_time_that_the_body_took_counts_whoever_came_first() -> None:
    admission = _admission(timeout_s=30)
    young = asyncio.create_task(_hang(admission))
    await asyncio.sleep(0)
    with pytest.raises(DeadlinePassed):
        await _hang(admission, age_s=30)
    assert admission.requests == 1
    young.cancel()
    await asyncio.wait({young})


async def test_somebody_elses_cancellation_is_not_taken_for_a_deadline() -> None:
    admission = _admission()
    task = asyncio.create_task(_hang(admission))
    await asyncio.sleep(0)
    assert admission.requests == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert admission.requests == 0


async def test_body_that_has_waited_longest_goes_for_the_newcomer() -> None:
    arrivals = Arrivals(max_bytes=800, timeout_s=60)
    first, second = [await _arriving(arrivals, "live-events", 300) for _ in range(2)]
    third = await _arriving(arrivals, "live-events", 400)
    with pytest.raises(Overloaded):
        await first.task
    assert _still_here(second, third)
    assert sum(arrivals.held_bytes.values()) == 700
    await _all_end(second, third)
    assert (len(arrivals), sum(arrivals.held_bytes.values())) == (0, 0)


async def test_body_that_grows_goes_itself_if_it_has_waited_longest() -> None:
    arrivals = Arrivals(max_bytes=800, timeout_s=60)
    async with arrivals.begin("live-events") as oldest:
        other = await _arriving(arrivals, "live-events", 700)
        with pytest.raises(Overloaded):
            oldest.hold(1)
    assert _still_here(other)
    await _all_end(other)


async def test_notices_within_their_reserve_go_for_notices_alone() -> None:
    arrivals = Arrivals(max_bytes=800, timeout_s=60)
    notice = await _arriving(arrivals, "pns", 100)
    event = await _arriving(arrivals, "live-events", 600)
    newer_event = await _arriving(arrivals, "live-events", 600)
    with pytest.raises(Overloaded):
        await event.task
    assert _still_here(notice, newer_event)
    newer_notice = await _arriving(arrivals, "pns", 200)
    with pytest.raises(Overloaded):
        await notice.task
    assert _still_here(newer_event, newer_notice)
    await _all_end(newer_event, newer_notice)


async def test_notices_beyond_their_reserve_go_as_others_do() -> None:
    """Else a stranger would stop the events by calling slow bodies notices."""
    arrivals = Arrivals(max_bytes=800, timeout_s=60)
    notices = [await _arriving(arrivals, "pns", 200) for _ in range(4)]
    event = await _arriving(arrivals, "live-events", 100)
    with pytest.raises(Overloaded):
        await notices[0].task
    assert _still_here(*notices[1:], event)
    await _all_end(*notices[1:], event)


async def test_body_that_takes_too_long_is_given_up() -> None:
    arrivals = Arrivals(max_bytes=800, timeout_s=0.01)
    with pytest.raises(RequestTimeout):
        await _stay(arrivals, "pns", 1, asyncio.Event())
    assert (len(arrivals), arrivals.held_bytes["pns"]) == (0, 0)


class _Stay:
    """A body that has begun and does not end by itself."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self.task = asyncio.create_task(work)


async def _arriving(arrivals: Arrivals, source: Source, size_bytes: int) -> _Stay:
    began = asyncio.Event()
    stay = _Stay(_stay(arrivals, source, size_bytes, began))
    await began.wait()
    return stay


async def _stay(arrivals: Arrivals, source: Source, size_bytes: int, began: asyncio.Event) -> None:
    async with arrivals.begin(source) as arrival:
        _hold(arrival, size_bytes, began)
        await asyncio.sleep(30)


def _hold(arrival: Arrival, size_bytes: int, began: asyncio.Event) -> None:
    try:
        arrival.hold(size_bytes)
    finally:
        began.set()


def _still_here(*stays: _Stay) -> bool:
    return not any(stay.task.done() for stay in stays)


async def _all_end(*stays: _Stay) -> None:
    for stay in stays:
        stay.task.cancel()
    await asyncio.wait([stay.task for stay in stays])


async def _hang(admission: Admission, *, age_s: float = 0) -> None:
    with _enter(admission, "pns", 1, age_s=age_s):
        await asyncio.sleep(30)
