"""Record to Receipt: the one place that says an event is durable."""

from ingest.contract.envelope import Source
from ingest.contract.record import Record
from ingest.publishing.log import Log
from ingest.publishing.router import Router
from ingest.spool.spool import Spool
from ingest.values import Outcome, Receipt


class Publisher:
    """Delivers to the log, and to the spool while the log does not answer."""

    def __init__(self, log: Log, spool: Spool | None = None, router: Router | None = None) -> None:
        self._log = log
        self._spool = spool
        self._router = router or Router()

    async def publish(
        self,
        record: Record,
        *,
        source: Source,
        outcome: Outcome,
        event_id: str | None,
        reason: str | None = None,
    ) -> Receipt:
        """The receipt, once the record is durable.

        Raises NotDurable or Overloaded, or RecordTooLarge for what its topic will never take.
        """
        if self._spool is None:
            await self._log.append(record)
            return Receipt(outcome=outcome, event_id=event_id, reason=reason)
        # while records wait, the oldest of them is the probe, and no request pays for it
        may_probe = not self._spool.has_records
        if await self._router.publish(self._log, record, may_probe=may_probe):
            return Receipt(outcome=outcome, event_id=event_id, reason=reason)
        await self._spool.append(record, source, parked=self._router.parked)
        if outcome == "published":
            outcome = "spooled"
        return Receipt(outcome=outcome, event_id=event_id, reason=reason, held_in="spool")
