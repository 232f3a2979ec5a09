"""The trip of one event, with a verifier and a log of our own; after each the ledger balances."""

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from typing import Any, cast

import orjson
import pytest
from structlog.testing import capture_logs

from ingest import intake as intake_module
from ingest.contract.codec import decode
from ingest.contract.envelope import SOURCES, Envelope, Source
from ingest.contract.record import Record
from ingest.errors import (
    BadSignature,
    Malformed,
    NoKeys,
    NotDurable,
    Overloaded,
    RecordTooLarge,
    Refusal,
    TenantNotAllowed,
    TooLarge,
    TooManyWaitForKeys,
    Uncheckable,
    Unusable,
)
from ingest.intake import Intake
from ingest.normalising import normalise
from ingest.normalising.identity import event_id
from ingest.observing.drift import Drift
from ingest.observing.metrics import Metrics
from ingest.publishing.log import Log
from ingest.publishing.publisher import Landed, Publisher
from ingest.spool.deferred import Deferred, Together
from ingest.storage.token_bucket import TokenBucket
from ingest.values import Claims, EventState, Receipt, SignedRequest, TokenClaims
from ingest.verifying.tenant_rates import TenantRates
from ingest.verifying.verifier import Verifier
from tests.support.builders import (
    LIVE_EVENTS_ISSUER,
    NOW_S,
    TENANT,
    caliper_claims,
    live_event,
    live_event_claims,
    notice,
    request,
    token,
)

_TOKEN = token(live_event_claims())
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class _Verifier:
    def __init__(self, answer: Claims | Exception) -> None:
        self.answer = answer

    async def verify(self, request: SignedRequest) -> Claims:
        return self.verify_deferred(request)

    def verify_deferred(self, request: SignedRequest) -> Claims:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class _Log:
    """A log of which only `append` is asked."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failure: Exception | None = None
        self.may_finish = asyncio.Event()
        self.may_finish.set()

    async def append(self, record: Record) -> None:
        await self.may_finish.wait()
        if self.failure is not None:
            raise self.failure
        self.records.append(record)


class _Deferred:
    """Deferred tokens in a list."""

    def __init__(self) -> None:
        self.kept: list[SignedRequest] = []
        self.failure: Exception | None = None

    async def keep(self, request: SignedRequest, why: Uncheckable, together: Together) -> Receipt:
        if self.failure is not None:
            raise self.failure
        self.kept.append(request)
        return Receipt(outcome="deferred", event_id=None, held_in="deferred")


class _Trip:
    def __init__(
        self,
        answer: Claims | Exception,
        *,
        quarantine_bytes: int = 1 << 30,
        tenant_events_per_s: float | None = None,
    ) -> None:
        self.metrics = Metrics("p7")
        self.log = _Log()
        self.deferred = _Deferred()
        self.verifier = _Verifier(answer)
        self.drift = Drift()
        self.intake = Intake(
            verifier=cast(Verifier, self.verifier),
            tenant_rates=TenantRates(tenant_events_per_s),
            publisher=Publisher(cast(Log, self.log)),
            deferred=cast(Deferred, self.deferred),
            metrics=self.metrics,
            topic_prefix="campus",
            drift=self.drift,
            quarantine_room=TokenBucket(burst=quarantine_bytes, per_s=0),
        )

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {"process": "p7", **labels}) or 0.0

    def settled(self, outcome: str, reason: str, source: Source = "live-events") -> float:
        return self.value(
            "forebay_events_settled_total", source=source, outcome=outcome, reason=reason
        )

    def ledger(self) -> dict[str, tuple[float, float]]:
        """Per source: events counted in, and events counted out or still held."""
        entered: dict[str, float] = defaultdict(float)
        accounted: dict[str, float] = defaultdict(float)
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                if sample.name in (
                    "forebay_events_received_total",
                    "forebay_events_recovered_total",
                ):
                    entered[sample.labels["source"]] += sample.value
                elif sample.name in ("forebay_events_settled_total", "forebay_events_held"):
                    accounted[sample.labels["source"]] += sample.value
        return {source: (entered[source], accounted[source]) for source in SOURCES}

    def held(self, state: EventState = "in_flight") -> float:
        return sum(
            self.value("forebay_events_held", source=source, lane=state) for source in SOURCES
        )


async def test_event_is_published_with_its_id() -> None:
    claims = live_event()
    trip = _Trip(claims)
    receipt = await trip.intake.accept(
        SignedRequest(token=_TOKEN, source="live-events", received_at=NOW_S, traceparent=_TRACE)
    )
    assert (receipt.outcome, receipt.event_id, receipt.reason) == (
        "published",
        event_id(claims),
        None,
    )
    (record,) = trip.log.records
    assert record.topic == "campus.live-events.course-created.v1"
    assert dict(record.headers)["traceparent"] == _TRACE.encode()
    assert decode(record).event_id == receipt.event_id


async def test_published_event_is_settled_and_seen() -> None:
    trip = _Trip(live_event())
    await trip.intake.accept(request(_TOKEN))
    assert trip.settled("published", "") == 1
    assert trip.value("forebay_ack_seconds_count", source="live-events") == 1
    assert trip.value("forebay_tenant_last_event_timestamp_seconds", tenant=TENANT) == NOW_S
    assert trip.ledger() == {"live-events": (1, 1), "pns": (0, 0)}
    assert trip.held() == 0


async def test_event_beyond_its_tenants_rate_is_turned_away_and_counted() -> None:
    trip = _Trip(live_event(), tenant_events_per_s=0.1)
    await trip.intake.accept(request(_TOKEN))
    with pytest.raises(Overloaded):
        await trip.intake.accept(request(_TOKEN))
    assert len(trip.log.records) == 1
    assert trip.settled("not_durable", "overloaded") == 1


async def test_event_is_held_until_it_is_durable() -> None:
    trip = _Trip(live_event())
    trip.log.may_finish.clear()
    accepting = asyncio.create_task(trip.intake.accept(request(_TOKEN)))
    await asyncio.sleep(0)
    assert (trip.held(), trip.ledger()["live-events"]) == (1, (1, 1))
    assert not accepting.done()
    trip.log.may_finish.set()
    await accepting
    assert (trip.held(), trip.ledger()["live-events"]) == (0, (1, 1))


_LOST = BadSignature("secret detail")


@pytest.mark.parametrize(
    ("answer", "failure", "outcome", "reason"),
    [
        (_LOST, None, "rejected", "bad_signature"),
        (Malformed(), None, "rejected", "malformed"),
        (NotDurable("keys"), None, "not_durable", "not_durable"),
        (Overloaded("keys"), None, "not_durable", "overloaded"),
        (ValueError("bug"), None, "not_durable", "internal"),
        (live_event(), NotDurable("disk"), "not_durable", "not_durable"),
        (live_event(), Overloaded("queue"), "not_durable", "overloaded"),
        (live_event(), RuntimeError("bug"), "not_durable", "internal"),
        (Unusable("expired", live_event()), NotDurable("disk"), "not_durable", "not_durable"),
    ],
)
async def test_event_that_fails_is_settled_by_its_reason(
    answer: Claims | Exception, failure: Exception | None, outcome: str, reason: str
) -> None:
    trip = _Trip(answer)
    trip.log.failure = failure
    expected = failure or answer
    assert isinstance(expected, Exception)
    with pytest.raises(type(expected)):
        await trip.intake.accept(request(_TOKEN))
    assert trip.settled(outcome, reason) == 1
    assert trip.ledger()["live-events"] == (1, 1)
    assert trip.held() == 0
    assert trip.log.records == []
    assert trip.value("forebay_tenant_last_event_timestamp_seconds", tenant=TENANT) == 0


async def test_cancelled_event_is_settled_as_not_durable() -> None:
    trip = _Trip(live_event())
    trip.log.may_finish.clear()
    accepting = asyncio.create_task(trip.intake.accept(request(_TOKEN)))
    await asyncio.sleep(0)
    accepting.cancel()
    await asyncio.wait([accepting])
    assert accepting.cancelled()
    assert (trip.held(), trip.ledger()["live-events"]) == (0, (1, 1))
    assert trip.settled("published", "") == 0


@pytest.mark.parametrize(
    ("reason", "claims"),
    [
        ("expired", live_event()),
        ("unsupported_format", live_event()),
        ("unreadable_claims", live_event(live_event_claims(metadata=None, body={"n": 2**70}))),
    ],
)
async def test_unusable_event_is_kept_whole_in_quarantine(reason: Any, claims: Claims) -> None:
    trip = _Trip(Unusable(reason, claims))
    receipt = await trip.intake.accept(request(b' "' + _TOKEN + b'" '))
    identity = event_id(claims)
    assert (receipt.outcome, receipt.event_id, receipt.reason) == ("quarantined", identity, reason)
    (record,) = trip.log.records
    assert (record.topic, record.key) == ("campus.quarantine.v1", identity.encode())
    assert orjson.loads(record.value) == {
        "metadata": {
            "event_id": identity,
            "reason": reason,
            "received_at": "2026-09-21T14:13:20.000Z",
            "source": "live-events",
            "tenant": TENANT,
        },
        "token": _TOKEN.decode(),
    }
    assert trip.settled("quarantined", reason) == 1
    assert trip.ledger()["live-events"] == (1, 1)


async def test_unreadable_claims_are_kept_under_the_tokens_hash() -> None:
    trip = _Trip(Unusable("unreadable_claims"))
    receipt = await trip.intake.accept(request(_TOKEN))
    assert receipt.event_id is None
    (record,) = trip.log.records
    value = orjson.loads(record.value)
    assert set(value["metadata"]) == {"reason", "received_at", "source"}
    # sha-256 of the token as text, without what was around it
    again = _Trip(Unusable("unreadable_claims"))
    await again.intake.accept(request(b"\n" + _TOKEN))
    assert again.log.records[0].key == record.key
    assert len(record.key) == 64


async def test_event_without_a_tenant_is_kept_without_one() -> None:
    claims = live_event()
    said = TokenClaims(
        source="live-events",
        format="canvas",
        issuer=claims.issuer,
        received_at=NOW_S,
        payload=claims.payload,
    )
    trip = _Trip(Unusable("tenant_unknown", said))
    receipt = await trip.intake.accept(request(_TOKEN))
    metadata = orjson.loads(trip.log.records[0].value)["metadata"]
    assert "tenant" not in metadata
    assert metadata["event_id"] == receipt.event_id == event_id(claims)


async def test_caliper_event_is_published_with_the_others_of_its_type() -> None:
    trip = _Trip(live_event(caliper_claims(), format_="caliper"))
    receipt = await trip.intake.accept(request(_TOKEN))
    assert (receipt.outcome, receipt.reason) == ("published", None)
    assert trip.log.records[0].topic.endswith(".live-events.course-created.v1")


async def test_sources_have_their_own_lines() -> None:
    trip = _Trip(notice())
    await trip.intake.accept(request(_TOKEN, source="pns"))
    assert trip.ledger() == {"live-events": (0, 0), "pns": (1, 1)}


def test_request_without_any_event_counts_as_one() -> None:
    trip = _Trip(live_event())
    refusal: Refusal = Malformed()
    assert trip.intake.refuse("pns", refusal) is refusal
    assert trip.settled("rejected", "malformed", "pns") == 1
    assert trip.ledger()["pns"] == (1, 1)


async def test_token_without_keys_is_deferred_as_it_came_and_held_there() -> None:
    trip = _Trip(Uncheckable())
    came = request(b' "' + _TOKEN + b'" ')
    receipt = await trip.intake.accept(came)
    assert receipt == Receipt(outcome="deferred", event_id=None, held_in="deferred")
    assert (trip.deferred.kept, trip.log.records) == ([came], [])
    assert (trip.held(), trip.held("deferred")) == (0, 1)
    assert trip.ledger()["live-events"] == (1, 1)
    assert trip.value("forebay_ack_seconds_count", source="live-events") == 1


async def test_token_for_which_there_is_no_room_is_not_durable() -> None:
    trip = _Trip(Uncheckable())
    trip.deferred.failure = NotDurable("full")
    with pytest.raises(NotDurable):
        await trip.intake.accept(request(_TOKEN))
    assert (trip.settled("not_durable", "not_durable"), trip.held("deferred")) == (1, 0)
    assert trip.ledger()["live-events"] == (1, 1)


async def test_record_that_its_topic_never_takes_is_kept_whole_in_quarantine() -> None:
    claims = live_event()
    trip = _Trip(claims)
    quarantine = trip.log.append

    async def refusing(record: Record) -> None:
        if record.topic != "campus.quarantine.v1":
            raise RecordTooLarge
        await quarantine(record)

    trip.log.append = refusing  # type: ignore[method-assign]
    receipt = await trip.intake.accept(request(_TOKEN))
    assert (receipt.outcome, receipt.reason) == ("quarantined", "too_large_for_topic")
    assert orjson.loads(trip.log.records[0].value)["token"] == _TOKEN.decode()
    assert trip.settled("quarantined", "too_large_for_topic") == 1
    assert trip.ledger()["live-events"] == (1, 1)


@pytest.mark.parametrize("answer", [live_event(), Unusable("expired", live_event())])
async def test_event_that_not_even_quarantine_ever_takes_is_refused_and_said(
    answer: Claims | Exception,
) -> None:
    trip = _Trip(answer)
    trip.log.failure = RecordTooLarge()
    with capture_logs() as lines, pytest.raises(TooLarge):
        await trip.intake.accept(request(_TOKEN))
    assert trip.settled("rejected", "too_large") == 1
    assert trip.ledger()["live-events"] == (1, 1)
    assert [line["log_level"] for line in lines] == ["error"]
    # Canvas counts it against us, for it was genuine
    assert trip.metrics.canvas_budget.used_ratio("error", time.time()) > 0


async def test_what_no_log_would_take_is_never_handed_to_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake_module, "MAX_RECORD_BYTES", 400)
    trip = _Trip(live_event())
    trip.log.failure = AssertionError("the log was asked")
    with pytest.raises(TooLarge):
        await trip.intake.accept(request(_TOKEN))
    assert trip.settled("rejected", "too_large") == 1


async def test_deferred_event_that_quarantine_never_takes_leaves_with_a_reason() -> None:
    trip = await _deferred_trip(Unusable("key_gone"))
    trip.log.failure = RecordTooLarge()
    with pytest.raises(TooLarge):
        await trip.intake.accept_deferred(request(_TOKEN))
    assert (trip.settled("rejected", "too_large"), trip.held("deferred")) == (1, 0)
    assert trip.ledger()["live-events"] == (1, 1)


class _Spooling:
    """A publisher while Kafka does not answer."""

    async def publish(self, record: Record, *, source: Source) -> Landed:
        return "spool"


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (live_event(), "spooled", None),
        (Unusable("expired", live_event()), "quarantined", "expired"),
    ],
)
async def test_event_that_landed_in_the_spool_is_held_there(
    answer: Claims | Exception, outcome: Any, reason: str | None
) -> None:
    trip = _Trip(answer)
    trip.intake._publisher = cast(Publisher, _Spooling())
    receipt = await trip.intake.accept(request(_TOKEN))
    identity = event_id(live_event())
    assert receipt == Receipt(outcome=outcome, event_id=identity, reason=reason, held_in="spool")
    assert (trip.held(), trip.held("spool")) == (0, 1)
    assert trip.metrics.ledger.settled == {}


async def _deferred_trip(answer: Claims | Exception) -> _Trip:
    """A trip with one deferred event, to be answered that way when it is judged."""
    trip = _Trip(answer)
    trip.metrics.ledger.found("deferred", "live-events", 1)
    return trip


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (live_event(), "published", ""),
        (Unusable("key_gone"), "quarantined", "key_gone"),
        (BadSignature(), "rejected", "bad_signature"),
    ],
)
async def test_deferred_event_is_settled_once_and_leaves_the_state(
    answer: Claims | Exception, outcome: str, reason: str
) -> None:
    trip = await _deferred_trip(answer)
    with contextlib.suppress(BadSignature):
        await trip.intake.accept_deferred(request(_TOKEN))
    assert trip.settled(outcome, reason) == 1
    assert trip.held("deferred") == 0
    assert trip.ledger()["live-events"] == (1, 1)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [(Uncheckable(), None), (live_event(), NotDurable("disk")), (live_event(), Overloaded("q"))],
)
async def test_deferred_event_that_cannot_be_settled_stays_deferred(
    answer: Claims | Exception, failure: Exception | None
) -> None:
    trip = await _deferred_trip(answer)
    trip.log.failure = failure
    with pytest.raises((Uncheckable, NotDurable, Overloaded)):
        await trip.intake.accept_deferred(request(_TOKEN))
    assert trip.held("deferred") == 1
    assert trip.ledger()["live-events"] == (1, 1)
    assert trip.metrics.ledger.settled == {}


async def test_repeat_of_a_durable_event_is_answered_alike_and_published_once() -> None:
    trip = _Trip(live_event())
    first = await trip.intake.accept(request(_TOKEN))
    again = await trip.intake.accept(request(_TOKEN, at=NOW_S + 30))
    assert (again.outcome, again.event_id, again.reason) == (first.outcome, first.event_id, None)
    assert len(trip.log.records) == 1
    assert (trip.settled("published", ""), trip.settled("published", "repeat")) == (1, 1)
    assert trip.ledger()["live-events"] == (2, 2)
    # a stranger who sends it again proves nothing of the tenant's subscription
    assert trip.value("forebay_tenant_last_event_timestamp_seconds", tenant=TENANT) == NOW_S


async def test_repeat_of_a_spooled_event_is_answered_alike_and_held_once() -> None:
    trip = _Trip(live_event())
    trip.intake._publisher = cast(Publisher, _Spooling())
    receipts = [await trip.intake.accept(request(_TOKEN)) for _ in range(3)]
    assert {(r.outcome, r.event_id) for r in receipts} == {("spooled", event_id(live_event()))}
    assert (trip.held("spool"), trip.settled("published", "repeat")) == (1, 2)
    assert trip.ledger()["live-events"] == (3, 3)


async def test_one_expired_token_sent_sixty_times_costs_one_record() -> None:
    trip = _Trip(Unusable("expired", live_event()))
    receipts = [await trip.intake.accept(request(_TOKEN)) for _ in range(60)]
    assert {(r.outcome, r.event_id, r.reason) for r in receipts} == {
        ("quarantined", event_id(live_event()), "expired")
    }
    assert len(trip.log.records) == 1
    assert (trip.settled("quarantined", "expired"), trip.settled("quarantined", "repeat")) == (
        1,
        59,
    )
    assert trip.ledger()["live-events"] == (60, 60)


async def test_event_that_was_quarantined_is_no_repeat_once_it_is_good() -> None:
    trip = _Trip(Unusable("expired", live_event()))
    await trip.intake.accept(request(_TOKEN))
    trip.verifier.answer = live_event()
    assert (await trip.intake.accept(request(_TOKEN))).outcome == "published"
    trip.verifier.answer = Unusable("unsupported_format", live_event())
    assert (await trip.intake.accept(request(_TOKEN))).outcome == "quarantined"
    assert len(trip.log.records) == 3
    assert trip.settled("quarantined", "repeat") == trip.settled("published", "repeat") == 0


@pytest.mark.parametrize("answer", [live_event(), Unusable("expired", live_event())])
async def test_event_that_did_not_become_durable_is_no_repeat(answer: Claims | Exception) -> None:
    trip = _Trip(answer)
    trip.log.failure = NotDurable("disk")
    with pytest.raises(NotDurable):
        await trip.intake.accept(request(_TOKEN))
    trip.log.failure = None
    await trip.intake.accept(request(_TOKEN))
    assert len(trip.log.records) == 1


async def test_repeat_while_the_first_is_under_way_has_no_answer_before_it_is_durable() -> None:
    trip = _Trip(live_event())
    trip.log.may_finish.clear()
    both = [asyncio.create_task(trip.intake.accept(request(_TOKEN))) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in both)
    trip.log.failure = NotDurable("disk")
    trip.log.may_finish.set()
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NotDurable] * 2


async def test_deferred_repeat_is_settled_as_one() -> None:
    trip = _Trip(live_event())
    trip.metrics.ledger.found("deferred", "live-events", 2)
    for _ in range(2):
        await trip.intake.accept_deferred(request(_TOKEN))
    assert (len(trip.log.records), trip.held("deferred")) == (1, 0)
    assert trip.settled("published", "repeat") == 1
    assert trip.ledger()["live-events"] == (2, 2)


async def test_quarantine_takes_so_many_bytes_and_then_only_notices() -> None:
    trip = _Trip(Unusable("expired"), quarantine_bytes=5_000)
    answers = []
    for n in range(12):
        with contextlib.suppress(NotDurable):
            answers.append(await trip.intake.accept(request(_TOKEN + b"A" * n)))
    kept_bytes = sum(record.size_bytes for record in trip.log.records)
    assert 2 <= len(answers) == len(trip.log.records) < 12
    assert kept_bytes <= 5_000
    assert trip.settled("not_durable", "not_durable") == 12 - len(answers)
    trip.verifier.answer = Unusable("expired")
    answers = [await trip.intake.accept(request(_TOKEN + b"B" * n, source="pns")) for n in range(3)]
    assert {answer.outcome for answer in answers} == {"quarantined"}
    # a repeat takes no room, so it is still answered
    again = await trip.intake.accept(request(_TOKEN))
    assert again.outcome == "quarantined"


async def test_deferred_event_for_which_quarantine_has_no_room_waits_on() -> None:
    trip = _Trip(Unusable("expired", live_event()), quarantine_bytes=10)
    trip.metrics.ledger.found("deferred", "live-events", 1)
    with pytest.raises(NotDurable):
        await trip.intake.accept_deferred(request(_TOKEN))
    assert trip.held("deferred") == 1


@pytest.mark.parametrize(
    "failure", [BadSignature(), TenantNotAllowed(), NoKeys(), TooManyWaitForKeys()]
)
async def test_what_anybody_can_send_is_not_counted_against_us(failure: Exception) -> None:
    trip = _Trip(failure)
    with pytest.raises(Refusal):
        await trip.intake.accept(request(_TOKEN))
    assert trip.metrics.canvas_budget.used_ratio("error", time.time()) == 0


async def test_what_may_be_of_one_of_our_tenants_is_counted_against_us() -> None:
    for answer, failure in (
        (live_event(), NotDurable("disk")),
        (live_event(), Overloaded("queue")),
        (Uncheckable(tenant=TENANT), NotDurable("the tenant's share is taken")),
    ):
        trip = _Trip(answer)
        trip.log.failure = trip.deferred.failure = failure
        with pytest.raises(Refusal):
            await trip.intake.accept(request(_TOKEN))
        assert trip.metrics.canvas_budget.used_ratio("error", time.time()) > 0


async def test_clocks_are_compared_by_what_is_signed_and_new() -> None:
    trip = _Trip(live_event())
    for n in range(6):
        claims = live_event_claims(iat=int(NOW_S) + 600, body={"n": n})
        answer = live_event(claims)
        trip.verifier.answer = Unusable("expired", answer) if n % 2 else answer
        await trip.intake.accept(request(_TOKEN))
    assert trip.value("forebay_clock_skew_seconds", issuer=LIVE_EVENTS_ISSUER) == -600


async def test_others_go_on_while_a_huge_event_is_normalised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    another_came = threading.Event()

    def slow(claims: Claims) -> Envelope:
        assert another_came.wait(timeout=20), "the event loop was held meanwhile"
        return normalise(claims)

    monkeypatch.setattr(intake_module, "normalise", slow)
    trip = _Trip(live_event())
    huge = asyncio.create_task(trip.intake.accept(request(_TOKEN + b"A" * 300_000)))
    await asyncio.sleep(0)
    another_came.set()
    receipt = await huge
    assert receipt.outcome == "published"
    assert trip.ledger()["live-events"] == (1, 1)


async def test_quarantining_is_said_once_for_each_reason_and_tenant() -> None:
    trip = _Trip(live_event())
    with capture_logs() as lines:
        for n, (reason, claims) in enumerate(
            [
                ("expired", live_event(live_event_claims(body={"n": 0}))),
                ("expired", live_event(live_event_claims(body={"n": 1}))),
                ("unsupported_format", live_event(live_event_claims(body={"n": 2}))),
                ("unreadable_claims", None),
            ]
        ):
            trip.verifier.answer = Unusable(cast(Any, reason), claims)
            await trip.intake.accept(request(_TOKEN + b"A" * n))
    assert [(line["log_level"], line["reason"], line["tenant"]) for line in lines] == [
        ("warning", "expired", TENANT),
        ("warning", "unsupported_format", TENANT),
        ("warning", "unreadable_claims", None),
    ]


@pytest.mark.parametrize("source", SOURCES)
async def test_event_that_nobody_pins_is_refused_where_quarantine_has_no_room(
    source: Source,
) -> None:
    said = TokenClaims(
        source=source,
        format="canvas",
        issuer=LIVE_EVENTS_ISSUER,
        received_at=NOW_S,
        payload=live_event_claims(),
    )
    kept = _Trip(Unusable("tenant_not_allowed", said))
    receipt = await kept.intake.accept(request(_TOKEN, source=source))
    assert (receipt.outcome, receipt.reason) == ("quarantined", "tenant_not_allowed")
    full = _Trip(Unusable("tenant_not_allowed", said), quarantine_bytes=10)
    with pytest.raises(TenantNotAllowed):
        await full.intake.accept(request(_TOKEN, source=source))
    assert full.settled("rejected", "tenant_not_allowed", source) == 1
    assert full.log.records == []
