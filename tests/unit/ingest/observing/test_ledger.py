"""The ledger: what came in is settled or held, after every step of whatever may happen."""

import asyncio
import contextlib
import random
import sqlite3
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp
import orjson
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from ingest.contract.codec import decode
from ingest.contract.envelope import SOURCES, Source
from ingest.contract.record import Record
from ingest.contract.topics import quarantine_topic
from ingest.errors import NotDurable, Overloaded, PartitionUnavailable, Refusal, TopicRefused
from ingest.intake import Intake
from ingest.observing.drift import Drift
from ingest.observing.ledger import Ledger
from ingest.observing.metrics import Metrics
from ingest.publishing import drainer as drainer_module
from ingest.publishing.circuit_breaker import CircuitBreaker
from ingest.publishing.drainer import Drainer
from ingest.publishing.publisher import Publisher
from ingest.publishing.router import Router
from ingest.shared.background import Background
from ingest.spool import spool as spool_module
from ingest.spool.deferred import Deferred
from ingest.spool.files.store import FILE_NAME, SpoolFile
from ingest.storage.token_bucket import TokenBucket
from ingest.verify_deferred import DeferredVerification
from ingest.verifying.jwks import KeySource, KeysUnavailable
from ingest.verifying.tenant_rates import TenantRates
from ingest.verifying.verifier import Verifier
from tests.support.builders import (
    LIVE_EVENTS_ISSUER,
    PLATFORM,
    live_event_claims,
    notice_claim,
    notice_claims,
    request,
    signing_key,
    tenants,
    token,
)
from tests.unit.ingest.publishing.fakes import (
    BALANCED,
    LIMITS,
    PREFIX,
    MemoryLog,
    SpoolBench,
    imbalance,
    open_spool,
    until,
)

_STEPS = 60


class _Keys(KeySource):
    def __init__(self, issuer: str) -> None:
        session = cast(aiohttp.ClientSession, None)
        super().__init__(issuer=issuer, url="https://k.example.edu", session=session, cooldown_s=0)
        self.answers = True

    async def _download(self) -> bytes:
        if not self.answers:
            raise KeysUnavailable("status 500")
        return orjson.dumps({"keys": [signing_key().jwk()]})


class _Process:
    """A receiver less its HTTP."""

    def __init__(self, bench: SpoolBench, metrics: Metrics, log: MemoryLog) -> None:
        self.bench, self.metrics = bench, metrics
        router = Router(lambda: CircuitBreaker(first_pause_s=0.002, longest_pause_s=0.004))
        self.keys = {"live-events": _Keys(LIVE_EVENTS_ISSUER), "pns": _Keys(PLATFORM)}
        self.drainer = Drainer(bench.spool, log, router, ledger=bench.ledger, prefix=PREFIX)
        self.intake = Intake(
            verifier=Verifier(
                keys={
                    "live-events": {LIVE_EVENTS_ISSUER: self.keys["live-events"]},
                    "pns": {PLATFORM: self.keys["pns"]},
                },
                tenants=tenants(),
                leeway_s=300,
                may_keep_unknown_tenant=lambda at_s, of: True,
                on_ignored_members=lambda count: None,
            ),
            tenant_rates=TenantRates(None),
            publisher=Publisher(log, bench.spool, router),
            deferred=Deferred(bench.spool, max_bytes=200_000),
            metrics=metrics,
            topic_prefix=PREFIX,
            drift=Drift(),
            quarantine_room=TokenBucket(burst=100_000, per_s=0),
        )
        self.deferred = DeferredVerification(bench.spool, self.intake, self.keys.values())


@contextlib.asynccontextmanager
async def _process(place: Path, log: MemoryLog) -> AsyncIterator[_Process]:
    metrics = Metrics()
    limits = replace(LIMITS, max_bytes=3_000_000, deferred_max_bytes=20_000)
    async with open_spool(place, limits, metrics.ledger) as bench:
        process = _Process(bench, metrics, log)
        async with Background() as background:
            background.start("drainer", process.drainer.run, needed=True)
            yield process
            await process.drainer.stop()


class _World:
    """Draws what happens next; remembers which events got a 2xx."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random = random.Random(seed)
        self.log = MemoryLog(partitions=3)
        self.acked: set[int] = set()
        self.sent = 0
        self.disk_fails = False
        self._patch_disk(monkeypatch)

    def _patch_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("append", "forget", "forget_tokens", "probe"):
            real = getattr(SpoolFile, name)

            def failing(*args: Any, real: Any = real, **kwargs: Any) -> Any:
                if self.disk_fails:
                    raise sqlite3.OperationalError("disk I/O error")
                return real(*args, **kwargs)

            monkeypatch.setattr(SpoolFile, name, failing)

    async def step(self, process: _Process) -> None:
        steps: list[Callable[[_Process], Awaitable[None]]] = [
            self._send,
            self._send,
            self._send,
            self._send_and_leave,
            self._turn_keys,
            self._turn_log,
            self._turn_disk,
            self._verify,
        ]
        await self.random.choice(steps)(process)

    def check(self, process: _Process) -> None:
        assert imbalance(process.metrics.ledger) == BALANCED
        assert scraped(process.metrics.registry) == dict.fromkeys(SOURCES, 0)

    def _token(self) -> tuple[int, Source, bytes]:
        self.sent += 1
        n, source = self.sent, self.random.choice(SOURCES)
        expired = {"exp": 1} if self.random.random() < 0.1 else {}
        if source == "pns":
            members = {"https://purl.imsglobal.org/spec/lti/claim/notice": notice_claim(id=str(n))}
            text = token(notice_claims(**members, **expired))
        else:
            text = token(live_event_claims(body={"n": n}, **expired))
        if self.random.random() < 0.1:
            text = text[:-8] + b"AAAAAAAA"
            n = 0
        return n, source, text

    async def _send(self, process: _Process) -> None:
        async def one() -> None:
            n, source, text = self._token()
            with contextlib.suppress(Refusal):
                await process.intake.accept(request(text, source=source))
                self.acked.add(n)

        await asyncio.gather(*(one() for _ in range(self.random.choice([1, 1, 5]))))

    async def _send_and_leave(self, process: _Process) -> None:
        _, source, text = self._token()
        leaving = asyncio.create_task(process.intake.accept(request(text, source=source)))
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        _ = leaving.cancelled() or leaving.exception()

    async def _turn_keys(self, process: _Process) -> None:
        keys = process.keys[self.random.choice(SOURCES)]
        keys.answers = not keys.answers
        keys._keys = {}  # as at a cold start, or after a rotation
        with contextlib.suppress(KeysUnavailable):
            await keys.refresh()

    async def _turn_log(self, process: _Process) -> None:
        failures = [None, NotDurable(""), Overloaded(""), TopicRefused(), PartitionUnavailable("")]
        chosen = self.random.choice(failures)
        partition = self.random.choice([None, 0, 1, 2])
        topics = [quarantine_topic(PREFIX)] if self.random.random() < 0.3 else []

        def fail(record: Record) -> None:
            if partition is not None and self.log.partition_of(record).number != partition:
                return
            if chosen is not None and record.topic not in topics:
                raise chosen

        self.log.failure = fail

    async def _turn_disk(self, process: _Process) -> None:
        self.disk_fails = not self.disk_fails

    async def _verify(self, process: _Process) -> None:
        with contextlib.suppress(NotDurable):
            await process.deferred._forget()
            await process.deferred.verify_all()

    async def all_well(self, process: _Process) -> None:
        self.disk_fails, self.log.failure = False, lambda record: None
        for keys in process.keys.values():
            keys.answers = True
        await until(lambda: process.bench.spool.health()[0])
        await self._verify(process)
        await until(lambda: not process.bench.spool.has_records)


def scraped(registry: CollectorRegistry) -> dict[str, float]:
    """Per source: received + recovered - settled - held, from one scrape."""
    signs = {
        "forebay_events_received_total": 1,
        "forebay_events_recovered_total": 1,
        "forebay_events_settled_total": -1,
        "forebay_events_held": -1,
    }
    total: Counter[str] = Counter(dict.fromkeys(SOURCES, 0))
    for family in registry.collect():
        for sample in family.samples:
            if sample.name in signs:
                total[sample.labels["source"]] += int(signs[sample.name] * sample.value)
    return dict(total)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drainer_module, "_PAUSE_S", 0.001)
    monkeypatch.setattr(spool_module, "_TEND_EVERY_S", 0.003)
    monkeypatch.setattr(drainer_module, "_QUARANTINE_AGAIN_AFTER_S", 0.003)


@pytest.mark.parametrize("seed", range(10))
async def test_ledger_balances_after_every_step_and_across_restarts(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _World(seed, monkeypatch)
    for _ in range(3):
        async with _process(tmp_path / "spool", world.log) as process:
            world.check(process)
            for _ in range(_STEPS // 3):
                await world.step(process)
                world.check(process)
            world.disk_fails = False
    async with _process(tmp_path / "spool", world.log) as process:
        await world.all_well(process)
        world.check(process)
        assert process.bench.spool.figures().tokens == 0
        assert set(process.metrics.ledger.held.values()) == {0}
    assert world.acked - {0} <= _arrived(world.log.records)
    assert world.sent > 20


def _arrived(records: Sequence[Record]) -> set[int]:
    """Numbers of the events in topics and in quarantine."""
    found = set()
    for each in records:
        if each.topic == quarantine_topic(PREFIX):
            claims = _claims(orjson.loads(each.value)["token"])
            body = claims.get("body", {})
            notice = claims.get("https://purl.imsglobal.org/spec/lti/claim/notice", {})
            found.add(int(body.get("n", notice.get("id", 0))))
        else:
            envelope = decode(each)
            found.add(int(envelope.body.get("n", envelope.metadata.get("notice_id", 0))))
    return found


def _claims(text: str) -> dict[str, Any]:
    payload = text.split(".")[1]
    return cast(
        dict[str, Any], orjson.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    )


def test_left_and_found_move_the_lane_they_name() -> None:
    ledger = Ledger()
    ledger.found("spool", "pns", 3)
    ledger.left("spool", "pns", "published")
    ledger.left("spool", "pns", "not_durable", "damaged")
    assert (ledger.recovered["pns"], ledger.held["spool", "pns"]) == (3, 1)
    assert imbalance(ledger) == BALANCED


def test_records_gone_before_they_were_counted_are_in_no_ledger_but_said() -> None:
    metrics = Metrics("p")
    metrics.ledger.lost("damaged", 4)
    value = metrics.registry.get_sample_value(
        "forebay_spool_unreadable_records_total", {"process": "p", "reason": "damaged"}
    )
    assert value == 4
    assert imbalance(metrics.ledger) == BALANCED


async def test_damage_found_at_run_time_keeps_the_balance(tmp_path: Path) -> None:
    log = MemoryLog()
    log.failure = lambda record: _fail(NotDurable("silence"))
    async with _process(tmp_path / "spool", log) as process:
        for n in range(6):
            await process.intake.accept(request(token(live_event_claims(body={"n": n}))))
        with contextlib.closing(sqlite3.connect(tmp_path / "spool" / FILE_NAME)) as other, other:
            other.execute("update record set value = x'00' where id in (2, 5)")
        log.failure = lambda record: None
        await until(lambda: not process.bench.spool.has_records)
        assert imbalance(process.metrics.ledger) == BALANCED
        assert process.metrics.ledger.settled["live-events", "not_durable", "damaged"] == 2
        assert _arrived(log.records) == {0, 2, 3, 5}


def _fail(error: Exception) -> None:
    raise error
