"""What may be under way at once: notices last turned away, every place given back."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ingest.contract.envelope import Source
from ingest.errors import Overloaded
from ingest.http.admission import Admission, DeadlinePassed


def _admission(
    *, max_requests: int = 16, max_body_bytes: int = 800, timeout_s: float = 60
) -> Admission:
    return Admission(max_requests=max_requests, max_body_bytes=max_body_bytes, timeout_s=timeout_s)


@pytest.mark.parametrize(("source", "share"), [("live-events", 14), ("pns", 16)])
async def test_last_eighth_of_the_places_is_for_notices(source: Source, share: int) -> None:
    admission = _admission(max_requests=16)
    with contextlib.ExitStack() as under_way:
        for _ in range(share):
            under_way.enter_context(admission.enter(source))
        with pytest.raises(Overloaded):
            admission.enter(source)
        assert admission.requests == share
    assert admission.requests == 0
    admission.enter(source)


async def test_notices_find_a_place_where_live_events_find_none() -> None:
    admission = _admission(max_requests=8)
    with contextlib.ExitStack() as under_way:
        for _ in range(7):
            under_way.enter_context(admission.enter("live-events"))
        with pytest.raises(Overloaded):
            admission.enter("live-events")
        with admission.enter("pns"), pytest.raises(Overloaded):
            admission.enter("pns")


@pytest.mark.parametrize(("source", "share"), [("live-events", 700), ("pns", 800)])
async def test_last_eighth_of_the_bytes_is_for_notices(source: Source, share: int) -> None:
    admission = _admission(max_body_bytes=800)
    with admission.enter(source) as place:
        place.hold(share - 1)
        place.expect(1)
        with pytest.raises(Overloaded):
            place.expect(2)
        place.hold(1)
        with pytest.raises(Overloaded):
            place.hold(1)
        assert admission.body_bytes == share
    assert admission.body_bytes == 0


async def test_bytes_are_given_back_whatever_becomes_of_the_request() -> None:
    admission = _admission()
    with contextlib.suppress(KeyError), admission.enter("pns") as place:
        place.hold(300)
        raise KeyError
    assert (admission.requests, admission.body_bytes) == (0, 0)


async def test_request_that_hangs_is_ended_and_the_task_goes_on() -> None:
    admission = _admission(timeout_s=0.05)
    with pytest.raises(DeadlinePassed):
        await _hang(admission)
    assert (admission.requests, admission.body_bytes) == (0, 0)
    with admission.enter("pns"):
        await asyncio.sleep(0)  # raises if a cancellation were left over


async def test_deadline_ends_only_what_is_overdue() -> None:
    admission = _admission(timeout_s=0.2)
    old = asyncio.create_task(_hang(admission))
    await asyncio.sleep(0.1)
    with admission.enter("pns"):  # raises DeadlinePassed if it were ended as well
        await asyncio.wait({old})
    assert isinstance(old.exception(), DeadlinePassed)


async def test_somebody_elses_cancellation_is_not_taken_for_a_deadline() -> None:
    admission = _admission()
    task = asyncio.create_task(_hang(admission))
    await asyncio.sleep(0)
    assert admission.requests == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert admission.requests == 0


async def _hang(admission: Admission) -> None:
    with admission.enter("pns") as place:
        place.hold(1)
        await asyncio.sleep(30)
