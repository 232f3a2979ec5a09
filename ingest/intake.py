"""The trip of one event, in one function: verify, normalise, publish."""

import asyncio
import time
from typing import cast

import structlog

from ingest.contract.codec import encode
from ingest.contract.envelope import Envelope, Source
from ingest.contract.moments import rfc3339
from ingest.contract.quarantine import quarantine_record
from ingest.contract.record import Record
from ingest.contract.topics import MAX_RECORD_BYTES
from ingest.errors import (
    NotDurable,
    RecordTooLarge,
    Refusal,
    TenantNotAllowed,
    TooLarge,
    Uncheckable,
    Unusable,
)
from ingest.normalising import normalise
from ingest.normalising.identity import event_id
from ingest.observing.drift import Drift
from ingest.observing.metrics import Metrics
from ingest.observing.seldom import Seldom
from ingest.publishing.publisher import Landed, Publisher
from ingest.publishing.recent_ids import RecentIds
from ingest.spool.deferred import Deferred, Together
from ingest.storage.token_bucket import TokenBucket
from ingest.values import Claims, EventState, Outcome, Receipt, SignedRequest
from ingest.verifying.tenant_rates import TenantRates
from ingest.verifying.token import bare
from ingest.verifying.verifier import Verifier

log = structlog.get_logger(__name__)

# Canvas sends no more at once; the longest that is allowed takes half a second to normalise, which
# no other request should have to wait for
_MADE_AT_ONCE_BYTES = 256 * 1024
_SAY_EVERY_S = 60.0


class Intake:
    """Takes events in. Answers with a receipt once the event is durable, or raises a Refusal.

    `quarantine_room` has the bytes that quarantine may take now. Notices may take more, for Canvas
    sends them once.
    """

    def __init__(
        self,
        *,
        verifier: Verifier,
        tenant_rates: TenantRates,
        publisher: Publisher,
        deferred: Deferred,
        metrics: Metrics,
        topic_prefix: str,
        drift: Drift,
        quarantine_room: TokenBucket,
    ) -> None:
        self._verifier = verifier
        self._tenant_rates = tenant_rates
        self._publisher = publisher
        self._deferred = deferred
        self._metrics = metrics
        self._prefix = topic_prefix
        self._drift = drift
        self._quarantine_room = quarantine_room
        self._recent = RecentIds()
        self._quarantining = Seldom(every_s=_SAY_EVERY_S)

    async def accept(self, request: SignedRequest, together: Together | None = None) -> Receipt:
        """One event, from its token to its receipt. `together` is of those of one request."""
        began = time.perf_counter()
        with self._metrics.enter(request.source) as entry:
            try:
                claims = await self._verifier.verify(request)
                self._tenant_rates.take(claims)
                receipt = await self._deliver(claims, request)
            except Uncheckable as why:
                receipt = await self._deferred.keep(request, why, together or Together())
            except Unusable as flaw:
                if isinstance(flaw.claims, Claims):  # what a wrong clock makes expired, too
                    self._metrics.clock_skew.saw(flaw.claims)
                receipt = await self._quarantine(request, flaw)
            self._metrics.durable(request.source, time.perf_counter() - began)
            return entry.accepted(receipt)

    async def accept_deferred(self, request: SignedRequest) -> Receipt:
        """One event whose token was deferred, from there to its receipt.

        Raises a Refusal, or Uncheckable while its keys still cannot be had.
        """
        with self._metrics.resume(request.source) as entry:
            try:
                claims = self._verifier.verify_deferred(request)
                receipt = await self._deliver(claims, request)
            except Unusable as flaw:
                receipt = await self._quarantine(request, flaw)
            return entry.accepted(receipt)

    def refuse(self, source: Source, refusal: Refusal) -> Refusal:
        """Counts a complete request of which no event could be read, and hands the refusal back."""
        # raised here it would be held by the frame that its own traceback holds
        self._metrics.enter(source).__exit__(type(refusal), refusal, None)
        return refusal

    async def _deliver(self, claims: Claims, request: SignedRequest) -> Receipt:
        """Raises Unusable where its topic will never take the event."""
        if len(request.token) <= _MADE_AT_ONCE_BYTES:
            envelope, record = self._made(claims, request)
        else:
            envelope, record = await asyncio.to_thread(self._made, claims, request)
        if before := self._recent.outcome_of(envelope.event_id):
            outcome = cast(Outcome, before)
            return Receipt(outcome=outcome, event_id=envelope.event_id, repeat=True)
        self._metrics.clock_skew.saw(claims)
        try:
            landed = await self._publish(record, claims.source)
        except RecordTooLarge:
            raise Unusable("too_large_for_topic", claims) from None
        self._drift.see(envelope)
        self._metrics.seen(claims.tenant, claims.source, claims.received_at)
        self._recent.add(envelope.event_id, "spooled" if landed == "spool" else "published")
        if landed == "spool":
            return Receipt(outcome="spooled", event_id=envelope.event_id, held_in="spool")
        return Receipt(outcome="published", event_id=envelope.event_id)

    def _made(self, claims: Claims, request: SignedRequest) -> tuple[Envelope, Record]:
        envelope = normalise(claims)
        record = encode(envelope, prefix=self._prefix, traceparent=request.traceparent)
        return envelope, record

    async def _quarantine(self, request: SignedRequest, flaw: Unusable) -> Receipt:
        """Raises TooLarge where not even quarantine will ever take it, NotDurable where it has had
        its bytes for now."""
        claims = flaw.claims
        known_id = event_id(claims) if claims is not None else None
        record = quarantine_record(
            self._prefix,
            bare(request.token).decode("ascii"),
            reason=flaw.reason,
            source=request.source,
            received_at=rfc3339(request.received_at),
            event_id=known_id,
            tenant=claims.tenant if isinstance(claims, Claims) else None,
        )
        # under another reason it is kept again: an operator releases it by the reason
        recent_id = f"{flaw.reason} {record.key.decode()}"
        held_in: EventState | None = None
        repeat = self._recent.outcome_of(recent_id) is not None
        if not repeat:
            landed = await self._publish_quarantined(record, request.source, flaw)
            held_in = "spool" if landed == "spool" else None
            self._recent.add(recent_id, "quarantined")
            self._say_quarantined(flaw)
        return Receipt(
            outcome="quarantined",
            event_id=known_id,
            reason=flaw.reason,
            held_in=held_in,
            repeat=repeat,
        )

    def _say_quarantined(self, flaw: Unusable) -> None:
        tenant = flaw.claims.tenant if isinstance(flaw.claims, Claims) else None
        if events := self._quarantining.due((flaw.reason, tenant)):
            log.warning(
                "authentic events cannot be used and are in quarantine:"
                " see `forebay-ingest quarantine list`",
                reason=flaw.reason,
                tenant=tenant,
                events=events,
            )

    async def _publish_quarantined(self, record: Record, source: Source, flaw: Unusable) -> Landed:
        if flaw.reason == "tenant_not_allowed":  # it may leave no less room to what is somebody's
            if not self._quarantine_room.take(record.size_bytes):
                raise TenantNotAllowed("quarantine has had its bytes for now")
        elif source == "pns":
            self._quarantine_room.take_regardless(record.size_bytes)
        elif not self._quarantine_room.take(record.size_bytes):
            raise NotDurable("quarantine has had its bytes for now")
        try:
            return await self._publish(record, source)
        except RecordTooLarge:
            log.error(
                "authentic event refused, too large for quarantine:"
                " check max.message.bytes of its topic",
                topic=record.topic,
                reason=flaw.reason,
                size_bytes=record.size_bytes,
            )
            raise TooLarge("for quarantine") from None

    async def _publish(self, record: Record, source: Source) -> Landed:
        """Where the record is, once it is durable. Raises RecordTooLarge before any log is asked
        for what none would take: the spool would take it, and never be rid of it."""
        if record.size_bytes > MAX_RECORD_BYTES:
            raise RecordTooLarge
        return await self._publisher.publish(record, source=source)
