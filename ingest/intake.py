"""The trip of one event, in one function: verify, normalise, deliver."""

import contextlib
import time

from ingest.contract.codec import encode
from ingest.contract.envelope import Source
from ingest.contract.quarantine import quarantine_record
from ingest.contract.topics import MAX_RECORD_BYTES
from ingest.delivering.delivery import Delivery
from ingest.drift import Drift
from ingest.errors import Refusal, Unusable
from ingest.handover import Receipt, SignedRequest
from ingest.metrics import Metrics
from ingest.normalising import normalise
from ingest.normalising.identity import event_id
from ingest.normalising.values import rfc3339
from ingest.verifying.token import bare
from ingest.verifying.verifier import Verifier


class Intake:
    """Takes events in. Answers with a receipt once the event is durable, or raises a Refusal."""

    def __init__(
        self,
        *,
        verifier: Verifier,
        delivery: Delivery,
        metrics: Metrics,
        topic_prefix: str,
        drift: Drift,
    ) -> None:
        self._verifier = verifier
        self._delivery = delivery
        self._metrics = metrics
        self._prefix = topic_prefix
        self._drift = drift

    async def accept(self, request: SignedRequest) -> Receipt:
        """One event, from its token to its receipt."""
        began = time.perf_counter()
        with self._metrics.enter(request.source) as entry:
            try:
                claims = await self._verifier.verify(request)
                envelope = normalise(claims)
                record = encode(envelope, prefix=self._prefix, traceparent=request.traceparent)
                if record.size_bytes > MAX_RECORD_BYTES:
                    raise Unusable("too_large_for_topic", claims)
            except Unusable as flaw:
                return entry.accepted(await self._quarantine(request, flaw))
            receipt = await self._delivery.deliver(
                record, outcome="published", event_id=envelope.event_id
            )
            self._drift.see(envelope)
            ack_s = time.perf_counter() - began
            self._metrics.published(claims.source, claims.tenant, claims.received_at, ack_s)
            return entry.accepted(receipt)

    def refuse(self, source: Source, refusal: Refusal) -> Refusal:
        """Counts a complete request of which no event could be read, and hands the refusal back."""
        with contextlib.suppress(Refusal), self._metrics.enter(source):
            raise refusal
        return refusal

    async def _quarantine(self, request: SignedRequest, flaw: Unusable) -> Receipt:
        metadata = {
            "reason": flaw.reason,
            "received_at": rfc3339(request.received_at),
            "source": request.source,
        }
        known_id = None
        if flaw.claims is not None:
            known_id = metadata["event_id"] = event_id(flaw.claims)
            if flaw.claims.tenant:
                metadata["tenant"] = flaw.claims.tenant
        record = quarantine_record(self._prefix, metadata, bare(request.token).decode("ascii"))
        return await self._delivery.deliver(
            record, outcome="quarantined", event_id=known_id, reason=flaw.reason
        )
