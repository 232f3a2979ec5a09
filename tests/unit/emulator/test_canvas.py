"""The emulator as a whole, against a receiver that answers as told."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt
import orjson
import pytest

from tests.emulator.canvas import Canvas
from tests.emulator.forgeries import live_events, notices
from tests.emulator.key_store import Keys
from tests.emulator.traffic import CONTENT_TYPES
from tests.unit.emulator.receiver_stub import accept, receiver_stub


@pytest.fixture
async def canvas(keys: Keys) -> AsyncIterator[Canvas]:
    async with Canvas(seed=3, keys=keys, timeout_s=5) as canvas:
        yield canvas


async def _json(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        response.raise_for_status()
        return await response.json()


async def test_what_it_sends_verifies_against_the_keys_it_shows(canvas: Canvas) -> None:
    async with receiver_stub(accept) as receiver:
        report = await canvas.send_events(receiver.url, count=10)
    keys = jwt.PyJWKSet.from_dict(await _json(canvas.jwks_url))
    sent: set[str] = set()
    for body in receiver.bodies:
        key = keys[jwt.get_unverified_header(body)["kid"]]
        claims = jwt.decode(body, key, algorithms=["RS256"], issuer=canvas.live_events_issuer)
        sent.add(claims["metadata"]["event_name"])
    assert sent == {canvas.school.live_event(n).name for n in range(10)}
    assert (report.events, report.accepted, report.ok) == (10, 10, True)


async def test_calls_go_on_where_the_last_one_stopped(canvas: Canvas) -> None:
    async with receiver_stub(accept) as receiver:
        await canvas.send_events(receiver.url, count=5)
        await canvas.send_signed(receiver.url, canvas.sign_events(5))
        await canvas.send_events(receiver.url, count=5)
    assert len(canvas.oracle.accepted) == 15
    assert canvas.oracle.accepted == {canvas.school.live_event(n).content_key() for n in range(15)}


async def test_a_share_of_the_events_is_in_caliper_format(canvas: Canvas) -> None:
    async with receiver_stub(accept) as receiver:
        await canvas.send_events(receiver.url, count=40, caliper_share=0.5)
        await canvas.send_events(receiver.url, count=3, caliper_share=1, name="logged_in")
    claims = [jwt.decode(b, options={"verify_signature": False}) for b in receiver.bodies]
    assert 10 < sum("data" in c for c in claims[:40]) < 30
    assert {c["data"][0]["action"] for c in claims[40:]} == {"LoggedIn"}
    assert len(canvas.oracle.accepted) == 43


async def test_a_type_without_a_caliper_example_is_a_key_error(canvas: Canvas) -> None:
    for share, name in ((0.5, "heartbeat"), (0.5, "caliper.view_event.viewed"), (0, "x")):
        with pytest.raises(KeyError):
            await canvas.send_events("http://127.0.0.1:9", count=1, caliper_share=share, name=name)


async def test_the_oracle_keeps_what_was_answered_2xx_and_nothing_else(canvas: Canvas) -> None:
    refused: set[str] = set()

    def first_four_fail(path: str, body: bytes) -> tuple[int, Any]:
        claims = jwt.decode(body, options={"verify_signature": False})
        if len(refused) < 4:
            refused.add(json.dumps(claims["metadata"], sort_keys=True))
            return 503, {"reason": "not_durable"}
        return 202, {"outcome": "spooled", "event_id": "0" * 64}

    async with receiver_stub(first_four_fail) as receiver:
        report = await canvas.send_events(receiver.url, count=20)
    lost = {canvas.oracle.entries[key].name for key in canvas.oracle.not_accepted}
    assert (report.accepted, report.not_accepted, report.ok) == (16, 4, False)
    assert len(canvas.oracle.accepted) == 16
    assert lost == {json.loads(metadata)["event_name"] for metadata in refused}
    assert report.statuses == {"202": 16, "503": 4}
    assert report.outcomes == {"spooled": 16}
    assert report.reasons == {"not_durable": 4}


async def test_no_answer_is_no_acceptance(canvas: Canvas) -> None:
    report = await canvas.send_events("http://127.0.0.1:9", count=3)
    assert (report.accepted, report.not_accepted, report.statuses) == (0, 3, {"none": 3})
    assert canvas.oracle.accepted == frozenset()
    assert "Cannot connect" in report.examples[0]


async def test_a_receiver_that_is_too_slow_has_not_answered(keys: Keys) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Canvas(seed=3, keys=keys, timeout_s=0.2) as canvas:
        report = await canvas.send_events(f"http://127.0.0.1:{port}", count=1)
    assert report.statuses == {"none": 1}
    assert report.latency_ms["max"] >= 200


@pytest.mark.parametrize("resign", [False, True])
async def test_a_failed_delivery_is_tried_again_if_asked(canvas: Canvas, resign: bool) -> None:
    tries: Counter[str] = Counter()

    def second_try(path: str, body: bytes) -> tuple[int, Any]:
        claims = jwt.decode(body, options={"verify_signature": False})
        tries[json.dumps(claims["metadata"])] += 1
        return (202 if tries.total() > 3 else 500), {}

    async with receiver_stub(second_try) as receiver:
        report = await canvas.send_events(
            receiver.url, count=3, concurrency=3, retries=2, resign_retries=resign
        )
    assert (report.events, report.accepted, report.attempts) == (3, 3, 6)
    assert set(tries.values()) == {2}
    if not resign:
        assert set(Counter(receiver.bodies).values()) == {2}


async def test_repeats_are_the_same_content_and_half_of_them_other_bytes(canvas: Canvas) -> None:
    async with receiver_stub(accept) as receiver:
        report = await canvas.send_events(receiver.url, count=60, repeat_share=0.5)
    assert report.events == report.accepted == len(canvas.oracle.accepted) == 60
    assert 15 < report.repeats < 45
    assert len(receiver.bodies) == 60 + report.repeats
    same_bytes = len(receiver.bodies) - len(set(receiver.bodies))
    assert 0 < same_bytes < report.repeats


async def test_tokens_may_be_quoted_and_content_types_take_turns(canvas: Canvas) -> None:
    async with receiver_stub(accept) as receiver:
        await canvas.send_events(receiver.url, count=80, quoted_share=0.5)
    quoted = [body for body in receiver.bodies if body.startswith(b'"')]
    assert 20 < len(quoted) < 60
    assert all(json.loads(body).count(".") == 2 for body in quoted)
    assert {kind for _, _, kind in receiver.requests} == set(CONTENT_TYPES)


async def test_forgeries_are_strewn_in_and_a_gullible_receiver_is_found_out(
    canvas: Canvas,
) -> None:
    async with receiver_stub(accept) as receiver:
        report = await canvas.send_events(receiver.url, count=60, forged_share=0.5)
    assert (report.events, report.accepted) == (60, 60)
    assert 15 < report.forgeries < 45
    assert report.misjudged_forgeries == report.forgeries
    assert not report.ok
    assert not canvas.oracle.forged & canvas.oracle.accepted


async def test_every_forgery_is_sent_once(canvas: Canvas) -> None:
    def refuse(path: str, body: bytes) -> tuple[int, Any]:
        return 401, {"reason": "bad_signature"}

    async with receiver_stub(refuse) as receiver:
        report = await canvas.send_forgeries(receiver.url)
    kinds = (*live_events(), *notices())
    right = [kind for kind in kinds if kind.expected[0].says == "bad_signature"]
    assert report.forgeries == len(kinds) == len(receiver.requests)
    assert report.misjudged_forgeries == len(kinds) - len(right)
    paths = Counter(path for path, _, _ in receiver.requests)
    assert paths == {"/live-events": len(live_events()), "/pns": len(notices())}


async def test_notices_go_out_in_batches_of_one_type(canvas: Canvas) -> None:
    async with receiver_stub(accept) as receiver:
        report = await canvas.send_notices(receiver.url, count=11, batch=4)
    keys = jwt.PyJWKSet.from_dict(await _json(canvas.platform_jwks_url))
    batches = [orjson.loads(body)["notices"] for body in receiver.bodies]
    assert sorted(len(batch) for batch in batches) == [3, 4, 4]
    for batch in batches:
        kinds: set[str] = set()
        for notice in batch:
            key = keys[jwt.get_unverified_header(notice["jwt"])["kid"]]
            claims = jwt.decode(
                notice["jwt"], key, algorithms=["RS256"], audience=canvas.school.client_id
            )
            kinds.add(claims["https://purl.imsglobal.org/spec/lti/claim/notice"]["type"])
        assert len(kinds) == 1
    assert (report.events, report.accepted) == (11, 11)


async def test_each_notice_of_a_batch_has_its_own_fate(canvas: Canvas) -> None:
    def one_in_two(path: str, body: bytes) -> tuple[int, Any]:
        fates = [{"outcome": "published"}, {"outcome": "rejected", "reason": "bad_signature"}]
        return 202, {"notices": fates}

    async with receiver_stub(one_in_two) as receiver:
        report = await canvas.send_notices(receiver.url, count=6, batch=2)
    assert (report.accepted, report.not_accepted) == (3, 3)
    assert report.reasons == {"bad_signature": 3}


async def test_rate_holds_back(canvas: Canvas) -> None:
    async with receiver_stub(accept) as receiver:
        report = await canvas.send_events(receiver.url, count=11, rate=50)
    assert 0.19 < report.duration_s < 2


async def test_progress_is_told(canvas: Canvas) -> None:
    told: list[tuple[int, int]] = []
    async with receiver_stub(accept) as receiver:
        await canvas.send_events(
            receiver.url, count=4, on_progress=lambda done, planned: told.append((done, planned))
        )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_one_type_alone(canvas: Canvas) -> None:
    async with receiver_stub(accept) as receiver:
        await canvas.send_events(receiver.url, count=3, name="heartbeat")
    assert canvas.oracle.accepted_by_name() == {"heartbeat": 3}
    with pytest.raises(KeyError):
        await canvas.send_events(receiver.url, count=1, name="flood_warning")


async def test_rotation_changes_signer_and_key_set_together(canvas: Canvas) -> None:
    before = await _json(canvas.jwks_url)
    platform_before = await _json(canvas.platform_jwks_url)
    canvas.rotate_live_events_keys()
    after = await _json(canvas.jwks_url)
    [event] = canvas.sign_events(1)
    assert [key["kid"] for key in after["keys"][:2]] == [key["kid"] for key in before["keys"][1:]]
    assert jwt.get_unverified_header(event.token)["kid"] == before["keys"][2]["kid"]
    assert await _json(canvas.platform_jwks_url) == platform_before


async def test_the_key_server_fails_and_dawdles_as_told(canvas: Canvas) -> None:
    canvas.key_server.fail_with(503)
    with pytest.raises(aiohttp.ClientResponseError, match="503"):
        await _json(canvas.jwks_url)
    canvas.key_server.fail_with(None)
    canvas.key_server.delay(0.1)
    started_s = time.perf_counter()
    await _json(canvas.jwks_url)
    assert time.perf_counter() - started_s >= 0.1
    assert canvas.key_server.requests == {"/jwks": 2}


async def test_it_tells_the_receiver_where_the_keys_are(canvas: Canvas) -> None:
    assert canvas.receiver_environment() == {
        "FOREBAY_LIVE_EVENTS__ISSUER": canvas.live_events_issuer,
        "FOREBAY_LIVE_EVENTS__JWKS_URL": canvas.jwks_url,
    }
    assert canvas.platform_jwks_url in canvas.tenants_toml()
