"""Deferred verification from an outage to the last token verified; the ledger always balances."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp
import orjson
import pytest
from msgspec.structs import replace

from ingest import verify_deferred as verify_module
from ingest.contract.codec import decode
from ingest.contract.envelope import Source
from ingest.contract.record import Record
from ingest.contract.topics import quarantine_topic
from ingest.errors import (
    NoKeys,
    NotDurable,
    RecordTooLarge,
    Refusal,
    TenantNotAllowed,
    Uncheckable,
    UnknownKey,
)
from ingest.intake import Intake
from ingest.observing.drift import Drift
from ingest.observing.metrics import Metrics
from ingest.publishing.publisher import Publisher
from ingest.spool import spool as spool_module
from ingest.spool.deferred import Deferred, Together
from ingest.spool.files.store import SpoolFile
from ingest.storage.token_bucket import TokenBucket
from ingest.values import Receipt, SignedRequest
from ingest.verify_deferred import DeferredVerification
from ingest.verifying.jwks import KeySource, KeysUnavailable
from ingest.verifying.tenant_rates import TenantRates
from ingest.verifying.verifier import Verifier
from tests.support.builders import (
    LIVE_EVENTS_ISSUER,
    NOW_S,
    PLATFORM,
    live_event_claims,
    notice_claims,
    request,
    signing_key,
    tenants,
    token,
    without,
)
from tests.unit.ingest.publishing.fakes import (
    BALANCED,
    LIMITS,
    PREFIX,
    ROOMY,
    MemoryLog,
    SpoolBench,
    imbalance,
    open_spool,
    until,
)

_RECEIPT = Receipt(outcome="deferred", event_id=None, held_in="deferred")
_OUTAGE_S = 3 * 3600.0
_DAY_S = 24 * 3600.0


class _Keys(KeySource):
    """A key source that answers what `keys` says, or fails while that is None."""

    def __init__(self, issuer: str) -> None:
        session = cast(aiohttp.ClientSession, None)
        super().__init__(issuer=issuer, url="https://k.example.edu", session=session, cooldown_s=0)
        self.keys: Sequence[Any] | None = None
        self.fetches = 0

    async def _download(self) -> bytes:
        self.fetches += 1
        if self.keys is None:
            raise KeysUnavailable("status 500")
        return orjson.dumps({"keys": self.keys})


class _Site:
    """Everything from a token to the log, with an outage of both key sources at first."""

    def __init__(
        self, spool: SpoolBench, metrics: Metrics, *, deferred_max_bytes: int = ROOMY
    ) -> None:
        self.bench = spool
        self.metrics = metrics
        self.log = MemoryLog()
        self.live = _Keys(LIVE_EVENTS_ISSUER)
        self.platform = _Keys(PLATFORM)
        self.intake = Intake(
            verifier=Verifier(
                keys={
                    "live-events": {LIVE_EVENTS_ISSUER: self.live},
                    "pns": {PLATFORM: self.platform},
                },
                tenants=tenants(),
                leeway_s=300,
                may_keep_unknown_tenant=lambda at_s, of: True,
                on_ignored_members=lambda count: None,
            ),
            tenant_rates=TenantRates(None),
            publisher=Publisher(self.log),
            deferred=Deferred(spool.spool, max_bytes=deferred_max_bytes),
            metrics=metrics,
            topic_prefix=PREFIX,
            drift=Drift(),
            quarantine_room=TokenBucket(burst=ROOMY, per_s=0),
        )
        self.verifying = DeferredVerification(spool.spool, self.intake, (self.live, self.platform))

    async def accept(self, text: bytes, source: Source = "live-events", at: float = NOW_S) -> str:
        receipt = await self.intake.accept(request(text, source=source, at=at))
        self.check()
        return receipt.outcome

    def keys_return(self, *names: str) -> None:
        self.live.keys = self.platform.keys = [_jwk(name) for name in names or ("current",)]

    async def verify(self) -> None:
        await self.verifying.verify_all()
        self.check()

    def check(self) -> None:
        assert imbalance(self.metrics.ledger) == BALANCED
        assert min(self.metrics.ledger.held.values()) >= 0

    @property
    def deferred(self) -> int:
        return self.bench.spool.figures().tokens

    def outcomes(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for (_, outcome, reason), count in self.metrics.ledger.settled.items():
            found[outcome, reason] = found.get((outcome, reason), 0) + count
        return found

    def trusted(self) -> list[Record]:
        return [r for r in self.log.records if r.topic != quarantine_topic(PREFIX)]


def _jwk(name: str) -> Any:
    return signing_key("stranger" if name == "stranger" else "current").jwk()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@contextlib.asynccontextmanager
async def _site(place: Path) -> AsyncIterator[_Site]:
    metrics = Metrics()
    async with open_spool(place, LIMITS, metrics.ledger) as bench:
        yield _Site(bench, metrics)


def _event(n: int, **claims: Any) -> bytes:
    return token(live_event_claims(body={"n": n}, **claims))


def _forged(text: bytes) -> bytes:
    """Claims that nobody signed, under the kid of a genuine key."""
    head, _, signature = text.split(b".")
    other = token(live_event_claims(body={"forged": True})).split(b".")[1]
    return b".".join([head, other, signature])


async def test_outage_of_three_hours_loses_no_event_and_lets_none_expire(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _site(place) as site:
        for n in range(30):
            at_s = NOW_S + n * _OUTAGE_S / 30
            monkeypatch.setattr("time.time", lambda at_s=at_s: at_s)
            # each would expire soon after it came, and long before the keys return
            text = _event(n, exp=int(at_s) + 60)
            assert await site.accept(text, at=at_s) == "deferred"
            await site.verify()
            assert (site.deferred, site.log.records) == (n + 1, [])
        monkeypatch.setattr("time.time", lambda: NOW_S + _OUTAGE_S)
        site.keys_return()
        await site.verify()
        envelopes = [decode(each) for each in site.trusted()]
        assert sorted(e.body["n"] for e in envelopes) == list(range(30))
        assert envelopes[0].metadata["received_at"] == "2026-09-21T14:13:20.000Z"
        assert site.outcomes() == {("published", ""): 30}
        assert (site.deferred, site.metrics.ledger.held["deferred", "live-events"]) == (0, 0)


async def test_what_had_expired_when_it_came_is_quarantined(place: Path) -> None:
    async with _site(place) as site:
        await site.accept(_event(0, exp=int(NOW_S) - 301))
        site.keys_return()
        await site.verify()
        assert site.outcomes() == {("quarantined", "expired"): 1}
        assert site.trusted() == []


async def test_cold_start_without_keys_defers_and_the_next_process_verifies(place: Path) -> None:
    async with _site(place) as site:
        for n in range(3):
            await site.accept(_event(n))
        await site.accept(token(notice_claims()), "pns")
    async with _site(place) as site:
        site.check()
        assert site.deferred == 4
        site.keys_return()
        await site.verify()
        assert len(site.trusted()) == 4
        assert site.outcomes() == {("published", ""): 4}
        assert site.metrics.ledger.recovered == {"live-events": 3, "pns": 1}


async def test_forged_tokens_are_counted_as_rejected_and_trusted_by_nobody(place: Path) -> None:
    async with _site(place) as site:
        for n in range(4):
            assert await site.accept(_event(n)) == "deferred"
            assert await site.accept(_forged(_event(n))) == "deferred"
        site.keys_return()
        await site.verify()
        assert site.outcomes() == {("published", ""): 4, ("rejected", "bad_signature"): 4}
        assert all("forged" not in decode(each).body for each in site.trusted())
        assert site.deferred == 0


async def test_token_of_a_key_that_may_have_left_meanwhile_is_kept_whole_in_quarantine(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _site(place) as site:
        text = _event(0)
        await site.accept(text)
        site.keys_return("stranger")
        monkeypatch.setattr("time.time", lambda: NOW_S + _DAY_S + 1)
        await site.verify()
        assert site.outcomes() == {("quarantined", "key_gone"): 1}
        (kept,) = site.log.records
        value = orjson.loads(kept.value)
        assert (kept.topic, value["token"]) == (quarantine_topic(PREFIX), text.decode())
        assert value["metadata"]["reason"] == "key_gone"


async def test_token_whose_key_the_set_of_its_day_lacks_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _site(place) as site:
        await site.accept(token(live_event_claims(), kid="made-up"))
        site.keys_return()
        monkeypatch.setattr("time.time", lambda: NOW_S + _OUTAGE_S)
        await site.verify()
        assert site.outcomes() == {("rejected", "unknown_key"): 1}
        assert (site.deferred, site.log.records) == (0, [])


async def test_rotation_during_the_outage_refuses_no_genuine_event(place: Path) -> None:
    async with _site(place) as site:
        site.keys_return("current")
        await site.live.refresh()
        assert await site.accept(_event(0)) == "published"
        site.live.keys = None
        rotated = token(live_event_claims(body={"n": 1}), key="stranger")
        assert await site.accept(rotated) == "deferred"
        assert await site.accept(_event(2)) == "published"  # the key that is known serves on
        await site.verify()
        assert site.deferred == 1
        site.keys_return("current", "stranger")
        await site.verify()
        assert sorted(decode(each).body["n"] for each in site.trusted()) == [0, 1, 2]
        assert site.outcomes() == {("published", ""): 3}


async def test_nothing_is_deferred_while_the_source_answers(place: Path) -> None:
    async with _site(place) as site:
        site.keys_return()
        for n in range(20):
            with pytest.raises(UnknownKey):
                await site.accept(token(live_event_claims(body={"n": n}), kid=f"made-up-{n}"))
        assert site.deferred == 0
        assert site.outcomes() == {("rejected", "unknown_key"): 20}


async def test_tokens_of_others_are_not_deferred(place: Path) -> None:
    async with _site(place) as site:
        others = live_event_claims(metadata={"event_name": "x", "root_account_uuid": "other"})
        with pytest.raises(TenantNotAllowed):
            await site.accept(token(others))
        with pytest.raises(TenantNotAllowed):
            await site.accept(token(without(notice_claims(), "aud", "azp")), "pns")
        with pytest.raises(NoKeys):
            await site.accept(token(live_event_claims(metadata={"event_name": "x"})))
        assert (site.live.fetches, site.platform.fetches) == (0, 0)
        site.check()
        assert site.deferred == 0


async def test_issuers_whose_keys_return_are_verified_and_the_others_wait(place: Path) -> None:
    async with _site(place) as site:
        await site.accept(_event(0))
        await site.accept(token(notice_claims()), "pns")
        await site.accept(_event(1))
        site.platform.keys = [_jwk("current")]
        await site.verify()
        assert [r.topic for r in site.trusted()] == ["p.pns.lti-context-copy-notice.v1"]
        assert site.metrics.ledger.held["deferred", "live-events"] == site.deferred == 2
        site.keys_return()
        await site.verify()
        assert (len(site.trusted()), site.deferred) == (3, 0)


async def test_verifying_asks_for_keys_that_are_no_older_than_the_tokens(place: Path) -> None:
    """A key set fetched before the token came says nothing about its key."""
    async with _site(place) as site:
        site.keys_return("current")
        await site.live.refresh()
        site.live.keys = None
        rotated = token(live_event_claims(), key="stranger")
        assert await site.accept(rotated) == "deferred"
        site.live.keys = [_jwk("stranger")]
        fetches = site.live.fetches
        await site.verify()
        assert site.live.fetches == fetches + 1
        assert site.outcomes() == {("published", ""): 1}


async def test_token_that_comes_during_the_fetch_is_left_for_the_next(place: Path) -> None:
    async with _site(place) as site:
        await site.accept(_event(0))
        site.keys_return("current")
        begun = site.live._download

        async def slow() -> bytes:
            late = replace(request(token(live_event_claims(), key="stranger")))
            await site.bench.spool.defer(late)
            site.metrics.ledger.found("deferred", "live-events", 1)
            return await begun()

        site.live._download = slow  # type: ignore[method-assign]
        await site.verify()
        assert site.outcomes() == {("published", ""): 1}  # its key may just be new
        assert site.deferred == 1


async def test_token_is_kept_as_it_came(place: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    came = [
        SignedRequest(token=b' "a.b.c"\n', source="pns", received_at=NOW_S + 1 / 3),
        SignedRequest(token=b"d.e.f", source="live-events", received_at=1.5, traceparent=trace),
    ]
    async with _site(place) as site:
        deferred = Deferred(site.bench.spool, max_bytes=ROOMY)
        for each in came:
            assert await deferred.keep(each, Uncheckable(), Together()) == _RECEIPT
        held = await site.bench.spool.read_tokens(after=0, limit=9)
        assert [each.request for each in held] == came


async def test_more_tokens_than_one_read_are_all_verified(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "_AT_ONCE", 7)
    async with _site(place) as site:
        for n in range(30):
            await site.accept(_event(n))
        site.keys_return()
        await site.verify()
        assert (len(site.trusted()), site.deferred) == (30, 0)


async def test_log_that_fails_leaves_tokens_for_the_next_time(place: Path) -> None:
    async with _site(place) as site:
        for n in range(4):
            await site.accept(_event(n))
        site.keys_return()

        def fail(record: Record) -> None:
            if decode(record).body["n"] % 2:
                raise NotDurable("silence")

        site.log.failure = fail
        await site.verify()
        assert (len(site.trusted()), site.deferred) == (2, 2)
        site.log.failure = lambda record: None
        await site.verify()
        assert sorted(decode(each).body["n"] for each in site.trusted()) == [0, 1, 2, 3]
        assert site.outcomes() == {("published", ""): 4}


async def test_disk_that_fails_between_verifying_and_forgetting_counts_nothing_twice(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = SpoolFile.forget_tokens, [1, 1]

    def forget(file: SpoolFile, ids: Sequence[int]) -> int:
        if failures:
            failures.pop()
            raise sqlite3.OperationalError("disk I/O error")
        return real(file, ids)

    monkeypatch.setattr(SpoolFile, "forget_tokens", forget)
    monkeypatch.setattr(verify_module, "_LOOK_EVERY_S", 0.005)
    async with _site(place) as site:
        for n in range(3):
            await site.accept(_event(n))
        site.keys_return()
        running = asyncio.create_task(site.verifying.run())
        await until(lambda: not site.bench.spool.has_tokens)
        running.cancel()
        await asyncio.wait([running])
        assert failures == []
        assert len(site.trusted()) == 3
        assert site.outcomes() == {("published", ""): 3}
        site.check()
    async with _site(place) as site:
        assert site.deferred == 0


async def test_crash_between_verifying_and_forgetting_repeats_with_the_same_id(place: Path) -> None:
    async with _site(place) as site:
        await site.accept(_event(0))
        (held,) = await site.bench.spool.read_tokens(after=0, limit=9)
        site.keys_return()
        await site.live.refresh()
        await site.intake.accept_deferred(held.request)
        first = decode(site.trusted()[0]).event_id
    async with _site(place) as site:
        site.keys_return()
        await site.verify()
        assert decode(site.trusted()[0]).event_id == first
        assert site.deferred == 0


async def test_run_verifies_by_itself_once_keys_return(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "_LOOK_EVERY_S", 0.005)
    async with _site(place) as site:
        running = asyncio.create_task(site.verifying.run())
        await site.accept(_event(0))
        await until(lambda: site.live.fetches > 2)
        assert site.trusted() == []
        site.keys_return()
        await until(lambda: site.deferred == 0)
        assert len(site.trusted()) == 1
        running.cancel()
        await asyncio.wait([running])


async def test_key_source_that_fails_as_nobody_foresaw_keeps_the_others_from_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _site(place) as site:
        await site.accept(_event(0))
        await site.accept(token(notice_claims()), "pns")
        site.keys_return()

        async def fail() -> bytes:
            raise ZeroDivisionError

        monkeypatch.setattr(site.platform, "_download", fail)
        await site.verify()
        assert (len(site.trusted()), site.deferred) == (1, 1)
        monkeypatch.undo()
        await site.verify()
        assert (len(site.trusted()), site.deferred) == (2, 0)
        monkeypatch.setattr(site.platform, "_download", fail)
        with pytest.raises(ZeroDivisionError):
            await site.platform.refresh()
        # of its keys nothing can be said now: not that one is gone
        assert await site.accept(token(notice_claims(), key="stranger"), "pns") == "deferred"
        await site.verify()
        assert (len(site.trusted()), site.deferred) == (2, 1)


async def test_keys_are_asked_for_only_while_tokens_wait(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "_LOOK_EVERY_S", 0.002)
    async with _site(place) as site:
        looks: list[int] = []
        forget = site.verifying._forget

        async def look() -> None:
            looks.append(site.live.fetches)
            await forget()

        monkeypatch.setattr(site.verifying, "_forget", look)
        running = asyncio.create_task(site.verifying.run())
        await until(lambda: len(looks) > 3)
        assert set(looks) == {0}
        await site.accept(_event(0))
        await until(lambda: looks[-1] > 0)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()


async def test_pause_grows_while_most_tokens_wait_for_an_issuer_without_keys(place: Path) -> None:
    async with _site(place) as site:
        for n in range(4):
            await site.accept(_event(n))
        await site.accept(token(notice_claims()), "pns")
        site.platform.keys = [_jwk("current")]
        assert not await site.verifying.verify_all()
        site.keys_return()
        assert await site.verifying.verify_all()
        assert site.deferred == 0


async def test_damaged_token_is_counted_and_stops_nobody(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_TEND_EVERY_S", 0.01)
    async with _site(place) as site:
        for n in range(3):
            await site.accept(_event(n))
        with contextlib.closing(sqlite3.connect(place / "spool.sqlite3")) as other, other:
            other.execute("update token set received_at = 1.0 where id = 2")
        site.keys_return()
        await site.verify()
        assert sorted(decode(each).body["n"] for each in site.trusted()) == [0, 2]
        assert site.outcomes() == {("published", ""): 2, ("not_durable", "damaged"): 1}


async def test_token_that_quarantine_never_takes_stops_nobody(place: Path) -> None:
    async with _site(place) as site:
        await site.accept(_event(0, exp=int(NOW_S) - 301))
        await site.accept(_event(1))

        def judge(record: Record) -> None:
            if record.topic == quarantine_topic(PREFIX):
                raise RecordTooLarge

        site.log.failure = judge
        site.keys_return()
        await site.verify()
        assert len(site.trusted()) == 1


async def test_flood_of_unknown_keys_stays_within_its_share(tmp_path: Path) -> None:
    metrics = Metrics()
    limits = replace(LIMITS, deferred_max_bytes=100_000)
    async with open_spool(tmp_path / "spool", limits, metrics.ledger) as bench:
        site = _Site(bench, metrics)
        outcomes = []
        for n in range(200):
            try:
                outcomes.append(await site.accept(_forged(_event(n))))
            except Refusal as refusal:
                outcomes.append(refusal.reason)
        assert outcomes.index("not_durable") > 50
        assert set(outcomes[outcomes.index("not_durable") :]) == {"not_durable"}
        assert await site.accept(token(notice_claims()), "pns") == "deferred"
        site.check()
