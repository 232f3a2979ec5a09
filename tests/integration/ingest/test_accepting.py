"""Good events in all their guises, what is kept apart, and what the receiver says of itself."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from ingest.contract.codec import decode
from ingest.contract.record import StoredRecord
from ingest.contract.topics import quarantine_topic
from tests.integration.ingest.site import Site, notices
from tests.integration.ingest.wire import Answer, exchange, head

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIVE = "/live-events"
SOURCES = ("live-events", "pns")
QUARANTINE = quarantine_topic("canvas")
TRACEPARENT = "00-5f1e7b0c9d2a4e6f8091a2b3c4d5e6f7-1a2b3c4d5e6f7081-01"


async def accepted(site: Site, body: bytes, headers: dict[str, str] | None = None) -> Any:
    """The receipt of a Live Event."""
    answer = await site.post(LIVE, body, headers)
    assert answer.status == 202, answer
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def records_of(site: Site, event_id: str) -> list[StoredRecord]:
    """The log's records of one event, by its CloudEvents id."""
    return [r for r in site.log() if dict(r.headers).get("ce_id") == event_id.encode()]


async def test_a_token_is_accepted_however_it_is_wrapped(site: Site) -> None:
    token = site.live_event(1)
    wrapped = [token, b'"%b"' % token, b" \r\n%b\n\t" % token, b'\n " %b " \n' % token]
    receipts = [await accepted(site, body) for body in wrapped]
    assert receipts == [receipts[0]] * len(wrapped)
    assert receipts[0]["outcome"] == "published"
    assert receipts[0].keys() == {"outcome", "event_id"}


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "text/plain; charset=utf-16", "multipart/form-data", "nonsense", ""],
)
async def test_any_content_type_or_none_is_accepted(site: Site, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert (await accepted(site, site.live_event(2), headers))["outcome"] == "published"


async def test_an_envelope_holds_the_answered_id_and_the_trace(site: Site) -> None:
    token = site.live_event(3, name="submission_created")
    receipt = await accepted(site, token, {"traceparent": TRACEPARENT})
    (record,) = records_of(site, receipt["event_id"])
    assert record.topic == "canvas.live-events.submission-created.v1"
    assert decode(record).event_id == receipt["event_id"]
    assert dict(record.headers)["traceparent"] == TRACEPARENT.encode()


@pytest.mark.parametrize("traceparent", ["", "00-zz-1-01", TRACEPARENT.upper(), "00-" + "0" * 50])
async def test_a_trace_that_is_none_does_not_travel(site: Site, traceparent: str) -> None:
    number = 10 + len(traceparent)
    receipt = await accepted(site, site.live_event(number), {"traceparent": traceparent})
    (record,) = records_of(site, receipt["event_id"])
    assert "traceparent" not in dict(record.headers)


async def test_a_repeat_has_the_same_id_however_it_is_signed(site: Site) -> None:
    claims = site.canvas.school.live_event(4, stream="by hand").claims
    key, now_s = site.canvas.keys.live_events.current, int(time.time())
    ids = set()
    for iat in (now_s, now_s - 60, now_s + 60):
        token = key.sign({**claims, "iat": iat, "exp": iat + 3600})
        ids.add((await accepted(site, token.encode()))["event_id"])
    assert len(ids) == 1


@pytest.mark.parametrize("age_s", [3600 + 200, -200])
async def test_clocks_may_differ_by_some_minutes(site: Site, age_s: int) -> None:
    claims = site.canvas.school.live_event(5, stream="by hand").claims
    iat = int(time.time()) - age_s
    token = site.canvas.keys.live_events.current.sign(
        {**claims, "iat": iat, "nbf": iat, "exp": iat + 3600}
    )
    assert (await accepted(site, token.encode()))["outcome"] == "published"


async def test_an_expired_event_is_quarantined_whole(site: Site) -> None:
    claims = site.canvas.school.live_event(6, stream="by hand").claims
    iat = int(time.time()) - 7_200
    key = site.canvas.keys.live_events.current
    token = key.sign({**claims, "iat": iat, "exp": iat + 3600}).encode()
    await assert_quarantined(site, b'"%b"' % token, token, "expired")


async def test_an_event_that_nobody_claims_is_quarantined_whole(site: Site) -> None:
    event = site.canvas.school.live_event(7, stream="by hand").claims
    metadata = {n: v for n, v in event["metadata"].items() if not n.startswith("root_account")}
    token = site.live_event(7, metadata=metadata, subscription={"id": "of-nobody"})
    await assert_quarantined(site, token, token, "tenant_unknown")


async def test_a_caliper_event_is_published_to_the_topic_of_its_type(site: Site) -> None:
    event = site.canvas.school.caliper_event(8, name="grade_change", stream="by hand")
    receipt = await accepted(site, site.signed(event.claims))
    assert receipt == {"outcome": "published", "event_id": event.content_key()}
    (record,) = records_of(site, receipt["event_id"])
    assert record.topic == "canvas.live-events.grade-change.v1"


async def test_a_caliper_event_without_a_type_is_quarantined_whole(site: Site) -> None:
    claims = site.canvas.school.caliper_event(9, stream="by hand").claims
    entry = {name: value for name, value in claims["data"][0].items() if name != "type"}
    token = site.signed({**claims, "data": [entry]})
    await assert_quarantined(site, token, token, "unsupported_format")


async def assert_quarantined(site: Site, body: bytes, token: bytes, reason: str) -> None:
    """Accepted, kept apart under its id with the token as it was signed, and in no other topic."""
    receipt = await accepted(site, body)
    event_id = receipt["event_id"]
    assert receipt == {"outcome": "quarantined", "reason": reason, "event_id": event_id}
    (record,) = (r for r in site.log() if r.key == event_id.encode())
    assert record.topic == QUARANTINE
    kept = orjson.loads(record.value)
    assert kept["token"].encode() == token
    assert kept["metadata"]["reason"] == reason
    assert kept["metadata"]["event_id"] == event_id
    assert kept["metadata"]["source"] == "live-events"
    assert ("tenant" in kept["metadata"]) == (reason != "tenant_unknown")
    assert not records_of(site, event_id)
    repeated = await accepted(site, body)
    assert repeated == receipt


async def test_an_expired_notice_is_quarantined_beside_a_good_one(site: Site) -> None:
    good = site.notice(8)
    notice = site.canvas.school.notice(9, "LtiContextCopyNotice", stream="by hand")
    iat = int(time.time()) - 7_200
    key = site.canvas.keys.platform.current
    expired = key.sign({**notice.claims, "iat": iat, "exp": iat + 3600}).encode()
    answer = await site.post("/pns", notices([expired, good]))
    first, second = answer.json()["notices"]
    assert (answer.status, first["outcome"], second["outcome"]) == (202, "quarantined", "published")
    assert first["event_id"] == notice.content_key()


async def test_the_ledger_balances_at_every_moment(site: Site) -> None:
    before = await site.metrics()
    sending = asyncio.create_task(
        site.canvas.send_events(
            site.url, count=500, concurrency=32, repeat_share=0.1, forged_share=0.1
        )
    )
    scrapes = 0
    while not sending.done():
        scrape = await site.metrics()
        assert [scrape.imbalance(source) for source in SOURCES] == [0, 0]
        scrapes += 1
    report = await sending
    assert scrapes >= 5
    after = await site.metrics()
    assert [after.imbalance(source) for source in SOURCES] == [0, 0]
    assert after.value("forebay_events_held") == 0
    name = "forebay_events_received_total"
    # each of the report's attempts is one event: none is retried where all are answered
    assert after.value(name) - before.value(name) == report.attempts
    settled = after.settled() - before.settled()
    published, repeats = settled["published", ""], settled["published", "repeat"]
    assert published + repeats == report.outcomes["published"]
    assert repeats > 0


async def test_the_metrics_tell_of_time_and_tenants(site: Site) -> None:
    await accepted(site, site.live_event(20))
    scrape = await site.metrics()
    last = scrape.value("forebay_tenant_last_event_timestamp_seconds", tenant="school")
    assert abs(time.time() - last) < 30
    assert scrape.value("forebay_ack_seconds_count", source="live-events") >= 1
    age_s = scrape.value("forebay_jwks_age_seconds", issuer=site.canvas.live_events_issuer)
    assert 0 <= age_s < 300


ADMIN_PATHS = ["/livez", "/readyz", "/readyz?verbose", "/metrics", "/version", "/openapi.json"]


@pytest.mark.parametrize("path", ADMIN_PATHS)
async def test_the_admin_listener_tells_and_the_public_one_does_not(site: Site, path: str) -> None:
    assert (await site.admin(path)).status == 200
    answer = await exchange(site.port, head("GET", path))
    assert (answer.status, answer.json()["reason"]) == (404, "not_found")


@pytest.mark.parametrize("path", [LIVE, "/pns"])
async def test_the_admin_listener_takes_no_events(site: Site, path: str) -> None:
    async with site.session.post(site.program.admin_url + path, data=b"x") as response:
        assert response.status == 404


async def test_readiness_names_each_thing_that_it_looks_at(site: Site) -> None:
    answer: Answer = await site.admin("/readyz?verbose")
    first, *checks = answer.body.decode().splitlines()
    assert first == "ready"
    names = [check.removeprefix("[+] ").partition(": ")[0] for check in checks]
    assert all(check.startswith("[+] ") for check in checks)
    assert names[0] == "durable"
    assert f"keys of {site.canvas.live_events_issuer}" in names
    assert (await site.admin("/readyz")).body == b"ready\n"


async def test_the_version_and_the_description_are_json(site: Site) -> None:
    assert (await site.admin("/version")).json()["program"] == "forebay-ingest"
    assert (await site.admin("/openapi.json")).json()["paths"].keys() >= {LIVE, "/pns"}
