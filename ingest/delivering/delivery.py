"""Record to Receipt: the one place that says an event is durable."""

from ingest.contract.record import Record
from ingest.delivering.port import Log
from ingest.handover import Outcome, Receipt


class Delivery:
    """Delivers to the log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def deliver(
        self, record: Record, *, outcome: Outcome, event_id: str | None, reason: str | None = None
    ) -> Receipt:
        """The receipt, once the record is durable. Raises NotDurable or Overloaded."""
        await self._log.append(record)
        return Receipt(outcome=outcome, event_id=event_id, reason=reason)
