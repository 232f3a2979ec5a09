"""Record to where it landed: the one place that says an event is durable."""

from typing import Literal

from ingest.contract.envelope import Source
from ingest.contract.record import Record
from ingest.publishing.log import Log
from ingest.publishing.router import Router
from ingest.spool.spool import Spool

Landed = Literal["log", "spool"]


class Publisher:
    """Publishes to the log, or into the spool where the log does not take the record now."""

    def __init__(self, log: Log, spool: Spool | None = None, router: Router | None = None) -> None:
        self._log = log
        self._spool = spool
        self._router = router or Router()

    async def publish(self, record: Record, *, source: Source) -> Landed:
        """Where the record is, once it is durable there.

        Raises NotDurable or Overloaded, or RecordTooLarge for what its topic will never take.
        """
        if self._spool is None:
            await self._log.append(record)
            return "log"
        # while records of a topic wait, one of them is the probe, and no request pays for it
        may_probe = record.topic not in self._spool.topics()
        if await self._router.publish(self._log, record, may_probe=may_probe):
            return "log"
        await self._spool.append(record, source, held_back=self._router.unavailable_topics)
        return "spool"
