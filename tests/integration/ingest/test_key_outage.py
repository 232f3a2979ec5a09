"""A receiver that is started anew while its keys cannot be fetched, and strangers meanwhile."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

from tests.emulator.key_server import LIVE_EVENTS_PATH
from tests.integration.ingest.site import Site, eventually, notices, running_site
from tests.support.keys import SigningKey


async def test_a_restart_in_an_outage_of_the_key_source_knows_its_keys(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        first = await site.post("/live-events", site.live_event(1))
        await eventually(partial(_has_kept, site, 2))
        site.canvas.key_server.fail_with(500)
        assert await asyncio.to_thread(site.program.stop) == 0
        await asyncio.to_thread(site.program.start)
        answers = [first, await site.post("/live-events", site.live_event(2))]
        answers.append(await site.post("/pns", notices([site.notice(3)])))
        assert [answer.status for answer in answers] == [202] * 3
        assert [answer.json().get("outcome") for answer in answers[:2]] == ["published"] * 2
        assert answers[2].json()["notices"][0]["outcome"] == "published"
        # how old they are is told as it is, and it makes nobody unready
        assert await _age_s(site) > 0
        await eventually(partial(_is_older, site, await _age_s(site)))
        assert (await site.admin("/readyz")).status == 200
        site.canvas.key_server.fail_with(None)


async def test_strangers_make_us_fetch_and_keep_nothing(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        assert (await site.post("/live-events", site.live_event(1))).status == 202
        before = site.canvas.key_server.requests.copy()
        answers = [await site.post(path, body) for path, body in _of_strangers(site) * 20]
        statuses = {answer.status for answer in answers}
        scrape = await site.metrics()
        assert statuses == {400, 403, 503}
        assert site.canvas.key_server.requests == before
        assert before[LIVE_EVENTS_PATH] >= 1
        assert scrape.value("forebay_events_held", lane="deferred") == 0
        assert scrape.value("forebay_canvas_budget_used_ratio") == 0
        assert len(site.log()) == 1


async def test_forged_notices_of_our_client_are_refused_but_for_a_few(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        stranger = SigningKey.generate("stranger")
        now_s = int(time.time())
        claims = {
            **site.canvas.school.notice(1, "LtiContextCopyNotice", stream="by hand").claims,
            "exp": now_s + 3_600,
        }
        forged = [
            stranger.sign(claims, headers={"kid": f"made-up-{n}"}).encode() for n in range(600)
        ]
        answers = await asyncio.gather(
            *(site.post("/pns", notices(forged[n : n + 200])) for n in range(0, 600, 200))
        )
        outcomes = [notice["outcome"] for a in answers for notice in a.json()["notices"]]
        assert outcomes.count("deferred") <= 60
        await eventually(partial(_nothing_is_deferred, site))
        settled = (await site.metrics()).settled()
        assert not [line for line in settled if line[0] in ("published", "quarantined")]
        assert settled["rejected", "unknown_key"] >= 256
        assert site.log() == []


def _of_strangers(site: Site) -> list[tuple[str, bytes]]:
    """Of another account, of none, of another client, of platforms that nobody pins, of nobody."""
    stranger = SigningKey.generate("stranger")
    event = {**site.canvas.school.live_event(1, stream="by hand").claims, "exp": 2**40}
    notice = site.canvas.school.notice(1, "LtiContextCopyNotice", stream="by hand").claims
    metadata = {**event["metadata"], "root_account_uuid": "another"}
    nameless = {
        "metadata": {n: v for n, v in metadata.items() if n != "root_account_uuid"},
        "subscription": {"id": "another"},
    }
    beta = {**notice, "iss": "https://canvas.beta.instructure.com"}
    unreadable = stranger.sign_text(b'{"alg":"RS256","kid":"k"}', b"{broken").encode()
    return [
        ("/live-events", stranger.sign({**event, "metadata": metadata}).encode()),
        ("/live-events", stranger.sign({**event, **nameless}).encode()),
        ("/pns", notices([stranger.sign({**notice, "aud": "1", "azp": "1"}).encode()])),
        ("/pns", notices([stranger.sign(beta).encode()])),
        ("/pns", notices([unreadable])),
        ("/live-events", unreadable),
    ]


async def _age_s(site: Site) -> float:
    return (await site.metrics()).value("forebay_jwks_age_seconds")


async def _is_older(site: Site, age_s: float) -> bool:
    return await _age_s(site) > age_s


async def _has_kept(site: Site, count: int) -> bool:
    return len(list((site.directory / "data").glob("jwks-*.json"))) == count


async def _nothing_is_deferred(site: Site) -> bool:
    return (await site.metrics()).value("forebay_events_held", lane="deferred") == 0
