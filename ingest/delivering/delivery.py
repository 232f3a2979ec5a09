"""Record to Receipt: the one place that says an event is durable."""

from ingest.contract.envelope import Source
from ingest.contract.record import Record
from ingest.delivering.port import Log, TopicRefused
from ingest.delivering.route import Route
from ingest.delivering.spool import Spool
from ingest.errors import NotDurable, Overloaded
from ingest.handover import Outcome, Receipt


class Delivery:
    """Delivers to the log, and to the spool while the log does not answer."""

    def __init__(self, log: Log, spool: Spool | None = None, route: Route | None = None) -> None:
        self._log = log
        self._spool = spool
        self._route = route or Route()

    async def deliver(
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
        if await self._published(record, self._spool):
            return Receipt(outcome=outcome, event_id=event_id, reason=reason)
        await self._spool.append(record, source, parked=self._route.parked)
        if outcome == "published":
            outcome = "spooled"
        return Receipt(outcome=outcome, event_id=event_id, reason=reason, held_in="spool")

    async def _published(self, record: Record, spool: Spool) -> bool:
        """Whether the log has it. If not, it may have it all the same: a repeat does no harm."""
        route = self._route
        # while records wait, the oldest of them is the probe, and no request pays for it
        if not route.admits(record.topic, may_probe=not spool.has_records):
            return False
        try:
            await self._log.append(record)
        except TopicRefused as refusal:
            route.refused(record.topic, str(refusal))
        except Overloaded:
            route.gave_up()
        except NotDurable:
            route.failed()
        except BaseException:
            route.gave_up()
            raise
        else:
            route.delivered(record.topic)
            return True
        return False
