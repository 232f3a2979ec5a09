"""Keys that change while events flow, and a key server that fails."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest

from tests.emulator.key_server import MOVED, Mode
from tests.integration.ingest.site import Site, eventually, notices
from tests.support.keys import SigningKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIVE = "/live-events"
ROTATIONS = 2
"""So that the last one shows a key that the receiver has not seen."""


async def test_no_event_is_refused_while_keys_rotate(site: Site) -> None:
    sending = asyncio.create_task(site.canvas.send_events(site.url, count=1_500))
    for rotation in range(1, ROTATIONS + 1):
        await eventually(partial(_has_sent, site, rotation * 400), timeout_s=60)
        site.canvas.rotate_live_events_keys()
    assert not sending.done()
    report = await sending
    assert report.statuses == {"202": report.events}, report.examples


async def test_no_notice_is_refused_after_a_rotation_of_the_platforms_keys(site: Site) -> None:
    for _ in range(ROTATIONS):
        site.canvas.rotate_platform_keys()
    report = await site.canvas.send_notices(site.url, count=20, batch=4)
    assert report.ok, report.examples


async def test_tokens_of_unknown_keys_wait_for_a_failing_key_server(site: Site) -> None:
    stranger = SigningKey.generate("2031-07-04T00:00:00Z")
    claims = site.canvas.school.live_event(1, stream="by hand").claims
    token = stranger.sign({**claims, "exp": int(time.time()) + 3_600}).encode()
    site.canvas.key_server.fail_with(500)
    try:
        unknown = asyncio.create_task(site.post(LIVE, token))
        answers = [await site.post(LIVE, site.live_event(n)) for n in range(100, 120)]
        answers.append(await site.post("/pns", notices([site.notice(100)])))
        answer = await unknown
        assert {good.status for good in answers} == {202}
        assert (answer.status, answer.json()) == (202, {"outcome": "deferred"})
        assert (await site.admin("/readyz")).status == 200
    finally:
        site.canvas.key_server.fail_with(None)
    await eventually(partial(_is_refused, site, "unknown_key"))
    later = await site.post(LIVE, token)
    assert (later.status, later.json()["reason"]) == (401, "unknown_key")


async def test_a_key_server_that_says_nothing_holds_nobody(site: Site) -> None:
    tokens = []
    for number in range(5):
        claims = site.canvas.school.live_event(number, stream="by hand").claims
        stranger = SigningKey.generate(f"2032-0{number + 1}-01T00:00:00Z")
        tokens.append(stranger.sign({**claims, "exp": int(time.time()) + 3_600}).encode())
    await site.canvas.key_server.misbehave(Mode.HANG)
    try:
        answers = await asyncio.gather(*(site.post(LIVE, token) for token in tokens))
        assert {answer.json()["outcome"] for answer in answers} == {"deferred"}
    finally:
        await site.canvas.key_server.behave()
    await eventually(partial(_nothing_is_deferred, site))


async def test_no_redirect_leads_to_keys_of_somebody_else(site: Site) -> None:
    claims = site.canvas.school.live_event(1, stream="by hand").claims
    stranger = SigningKey.generate("2033-07-04T00:00:00Z")
    token = stranger.sign({**claims, "exp": int(time.time()) + 3_600}).encode()
    await site.canvas.key_server.misbehave(Mode.REDIRECT)
    try:
        answer = await site.post(LIVE, token)
        assert answer.json() == {"outcome": "deferred"}
    finally:
        await site.canvas.key_server.behave()
    await eventually(partial(_nothing_is_deferred, site))
    paths = site.canvas.key_server.requests.keys()
    assert [path for path in paths if path.startswith(MOVED)] == []


async def _is_refused(site: Site, reason: str) -> bool:
    return (await site.metrics()).settled()["rejected", reason] == 1


async def _nothing_is_deferred(site: Site) -> bool:
    return (await site.metrics()).value("forebay_events_held", lane="deferred") == 0


async def _has_sent(site: Site, count: int) -> bool:
    return len(site.canvas.oracle.entries) >= count
