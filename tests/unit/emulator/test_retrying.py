"""Retries as Canvas makes them, against a receiver that fails on plan. Waits are scaled down."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import jwt
import orjson
import pytest

from tests.emulator.canvas import Canvas
from tests.emulator.key_store import Keys
from tests.emulator.retry_plan import RetryPlan
from tests.unit.emulator.receiver_stub import accept, eventually, receiver_stub

SCALE = 0.0003
"""The four tries take 0.18 to 0.34 s."""


@pytest.fixture
async def canvas(keys: Keys) -> AsyncIterator[Canvas]:
    async with Canvas(seed=3, keys=keys, timeout_s=0.3) as canvas:
        yield canvas


def _refuse(path: str, body: bytes) -> tuple[int, Any]:
    return 503, {"reason": "not_durable"}


class Failing:
    """Refuses everything while told to; keeps the tries of each event, and when they came."""

    def __init__(self, *, first: int) -> None:
        self.failing_tries = first
        self.tries: dict[str, list[bytes]] = defaultdict(list)
        self.times_s: dict[str, list[float]] = defaultdict(list)

    def __call__(self, path: str, body: bytes) -> tuple[int, Any]:
        claims = jwt.decode(body, options={"verify_signature": False})
        event = orjson.dumps([claims["metadata"], claims["body"]]).decode()
        self.tries[event].append(body)
        self.times_s[event].append(time.monotonic())
        return (503 if len(self.tries[event]) <= self.failing_tries else 202), {}


async def test_an_event_is_lost_after_four_tries(canvas: Canvas) -> None:
    failing = Failing(first=99)
    async with receiver_stub(failing) as receiver:
        report = await canvas.send_events(
            receiver.url, count=8, retry_plan=RetryPlan.canvas(time_scale=SCALE)
        )
    assert [len(bodies) for bodies in failing.tries.values()] == [4] * 8
    assert all(len(set(bodies)) == 1 for bodies in failing.tries.values())
    assert (report.attempts, report.events, report.not_accepted) == (32, 8, 8)
    lane = report.lanes["live-events"]
    assert (lane.events, lane.accepted, lane.lost) == (8, 0, 8)
    lost = [canvas.oracle.entries[key].name for key in canvas.oracle.lost]
    assert lane.lost_by_name == canvas.oracle.lost_by_name() == {n: lost.count(n) for n in lost}
    assert report.budget.used == {"timeout": 0, "error": 8}
    assert not report.budget.deactivated


async def test_tries_are_spread_as_planned(canvas: Canvas) -> None:
    failing = Failing(first=3)
    plan = RetryPlan.canvas(time_scale=SCALE)
    async with receiver_stub(failing) as receiver:
        report = await canvas.send_events(receiver.url, count=5, retry_plan=plan, concurrency=1)
    # with one request at a time, serials are in the order of arrival
    for serial, times_s in enumerate(failing.times_s.values()):
        gaps_s = [later - before for before, later in pairwise(times_s)]
        waits_s = plan.waits_s(serial)
        assert len(gaps_s) == 3
        assert all(gap >= wait for gap, wait in zip(gaps_s, waits_s, strict=True))
    assert (report.accepted, report.budget.exhausted["error"]) == (5, 0)


async def test_new_events_keep_their_schedule_while_retries_wait(canvas: Canvas) -> None:
    failing = Failing(first=99)
    plan = RetryPlan(delays_s=(1.5,))
    async with receiver_stub(failing) as receiver:
        sending = asyncio.create_task(
            canvas.send_events(receiver.url, count=60, rate=200, concurrency=2, retry_plan=plan)
        )
        await eventually(lambda: len(failing.tries) == 60)
        # two at a time, and yet all sixty were sent before the first of them was due again
        assert {len(bodies) for bodies in failing.tries.values()} == {1}
        assert canvas.waiting_retries > 50
        assert canvas.oracle.counts().undecided > 50
        assert canvas.oracle.counts().lost == 0
        report = await sending
    assert (report.attempts, report.not_accepted) == (120, 60)
    assert canvas.waiting_retries == 0
    assert len(canvas.oracle.lost) == 60
    assert canvas.oracle.undecided == frozenset()


async def test_a_notice_is_never_tried_again_whatever_the_plan(canvas: Canvas) -> None:
    async with receiver_stub(_refuse) as receiver:
        report = await canvas.stream(
            receiver.url,
            rate=100,
            duration_s=0.3,
            notice_share=0.5,
            retry_plan=RetryPlan.canvas(time_scale=SCALE),
        )
    sent = [path for path, _, _ in receiver.requests]
    events, notices = report.lanes["live-events"], report.lanes["pns"]
    assert sent.count("/live-events") == 4 * events.lost == 4 * events.events > 0
    assert sent.count("/pns") == notices.lost == notices.events > 0
    # a lost notice costs no subscription anything
    assert report.budget.exhausted == {"timeout": 0, "error": events.lost}


async def test_no_answer_costs_the_dearer_budget(canvas: Canvas) -> None:
    release = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await canvas.send_events(url, count=2)
        release.set()
    report = await canvas.send_events(
        "http://127.0.0.1:9", count=3, retry_plan=RetryPlan.canvas(time_scale=SCALE)
    )
    assert report.statuses == {"none": 12}
    assert report.budget.used == canvas.budget.used == {"timeout": 5, "error": 0}
    assert canvas.oracle.longest_request_s >= 0.3
    assert canvas.oracle.answers() == {"no answer": 14}


async def test_a_share_of_the_retries_has_other_bytes(canvas: Canvas) -> None:
    failing = Failing(first=99)
    async with receiver_stub(failing) as receiver:
        await canvas.send_events(
            receiver.url,
            count=30,
            retry_plan=RetryPlan.canvas(time_scale=SCALE, resign_share=0.5),
        )
    first_bytes = sum(body == bodies[0] for bodies in failing.tries.values() for body in bodies[1:])
    assert {len(bodies) for bodies in failing.tries.values()} == {4}
    assert 25 < first_bytes < 65


async def test_a_retry_signed_anew_after_a_rotation_has_the_new_key(
    canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = canvas.keys.live_events.next
    failing = await _rotated_between_two_tries(canvas, monkeypatch, resign=True)
    assert canvas.keys.live_events.current is new
    for first, second in failing.tries.values():
        assert first != second
        jwt.decode(second, jwt.PyJWK(new.jwk()), algorithms=["RS256"])


async def test_a_retry_that_is_not_signed_anew_outlives_a_rotation(
    canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if more retries waited than their bytes are kept for
    monkeypatch.setattr("tests.emulator.sender._MAX_KEPT", 5)
    failing = await _rotated_between_two_tries(canvas, monkeypatch, resign=False)
    assert all(first == second for first, second in failing.tries.values())


async def _rotated_between_two_tries(
    canvas: Canvas, monkeypatch: pytest.MonkeyPatch, *, resign: bool
) -> Failing:
    """Thirty events, each of which failed once before the keys were rotated and not after."""
    # made ahead, for the first retry may be due before a fresh key is
    rotated = await asyncio.to_thread(canvas.keys.rotated)
    monkeypatch.setattr(Keys, "rotated", lambda keys: rotated)
    failing = Failing(first=1)
    plan = RetryPlan(delays_s=(0.8,), resign=resign)
    async with receiver_stub(failing) as receiver:
        sending = asyncio.create_task(canvas.send_events(receiver.url, count=30, retry_plan=plan))
        await eventually(lambda: len(failing.tries) == 30)
        assert {len(bodies) for bodies in failing.tries.values()} == {1}
        await canvas.rotate_keys()
        report = await sending
    assert (report.accepted, report.attempts, len(failing.tries)) == (30, 60, 30)
    return failing


async def test_rotation_in_mid_stream_changes_the_signer_at_once(canvas: Canvas) -> None:
    old = canvas.keys
    stop = asyncio.Event()
    async with receiver_stub(accept) as receiver:
        sending = asyncio.create_task(
            canvas.stream(receiver.url, rate=200, until=stop, notice_share=0.5, concurrency=16)
        )
        await eventually(lambda: len(receiver.requests) >= 20)
        await canvas.rotate_keys()
        # what was signed before may still be on its way, sixteen requests at a time
        marker = len(receiver.requests) + 16
        await eventually(lambda: len(receiver.requests) >= marker + 30)
        stop.set()
        await sending
    seen = {"/live-events": set[str](), "/pns": set[str]()}
    for path, body, _ in receiver.requests[marker:]:
        token = body if path == "/live-events" else orjson.loads(body)["notices"][0]["jwt"]
        seen[path].add(jwt.get_unverified_header(token)["kid"])
    assert canvas.keys.live_events.current is old.live_events.next
    assert canvas.keys.platform.current is old.platform.next
    for path, ring in (("/live-events", canvas.keys.live_events), ("/pns", canvas.keys.platform)):
        assert ring.current.kid in seen[path]
        assert seen[path] <= {key["kid"] for key in ring.jwks()["keys"]}
