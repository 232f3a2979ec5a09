"""Empties the spool into the log, oldest first, while requests go on."""

import asyncio
import contextlib

import structlog

from ingest.contract import quarantine
from ingest.contract.record import Record
from ingest.errors import NotDurable, Overloaded, RecordTooLarge, TopicRefused
from ingest.observing.ledger import Ledger
from ingest.publishing.log import Log
from ingest.publishing.router import Router
from ingest.shared.logs import place_of
from ingest.spool.recover import as_record
from ingest.spool.spool import Spool
from ingest.spool.store import Held

log = structlog.get_logger(__name__)

Outcome = tuple[str, str]  # as the ledger has it, with its reason

_MOST_AT_ONCE = 512
_PAUSE_S = 0.1
_STOP_TIMEOUT_S = 5.0


class Drainer:
    """Publishes what the spool holds; forgets a record only after the log has it."""

    def __init__(
        self, spool: Spool, durable_log: Log, router: Router, *, ledger: Ledger, prefix: str
    ) -> None:
        self._spool = spool
        self._log = durable_log
        self._router = router
        self._ledger = ledger
        self._prefix = prefix
        self._stopping = False
        self._position = 0
        self._at_once = 1
        self._task = asyncio.create_task(self._run(), name="draining")

    async def stop(self) -> None:
        """Ends after the records under way; what is left stays in the spool."""
        self._stopping = True
        self._spool.arrived.set()
        await asyncio.wait([self._task], timeout=_STOP_TIMEOUT_S)
        self._task.cancel()

    async def _run(self) -> None:
        while not self._stopping:
            if not self._spool.has_records:
                self._position = 0
                self._spool.arrived.clear()
                await self._spool.arrived.wait()
                continue
            drained = 0
            try:
                drained = await self._drain_some()
            except NotDurable:
                pass  # the disk; whoever tends the spool has said it
            except Exception as error:
                log.error("draining stumbled", cause=type(error).__name__, at=place_of(error))
            if not drained:
                await asyncio.sleep(_PAUSE_S)

    async def _drain_some(self) -> int:
        """Publishes and forgets one chunk; returns how many records. Raises NotDurable."""
        if self._router.state == "open":
            return 0
        chunk = await self._spool.read(
            after=self._position, limit=self._at_once, without=self._router.waiting()
        )
        sent = await asyncio.gather(*(self._publish(held) for held in chunk))
        outcomes = {
            held.stored.offset: outcome
            for held, outcome in zip(chunk, sent, strict=True)
            if outcome is not None
        }
        # what could not be sent is met again on the next round
        works = self._router.state == "closed"
        self._position = chunk[-1].stored.offset if chunk and works else 0
        # one record is the probe, and who has just come back is not overrun
        self._at_once = min(2 * self._at_once, _MOST_AT_ONCE) if works else 1
        done = [held for held in chunk if held.stored.offset in outcomes]

        def gone(held: Held) -> None:
            self._ledger.left("spool", held.source, *outcomes[held.stored.offset])

        await self._spool.forget(done, when_gone=gone)
        return len(done)

    async def _publish(self, held: Held) -> Outcome | None:
        """How the record ended, if the log has it, or quarantine in its stead."""
        record = as_record(held.stored)
        try:
            if await self._router.publish(self._log, record, may_probe=True):
                return _outcome_of(record, self._prefix)
        except RecordTooLarge:
            return await self._put_aside(record, held)
        return None

    async def _put_aside(self, record: Record, held: Held) -> Outcome | None:
        """A record that its topic will never take goes to quarantine."""
        log.error("a record is too large for its topic", topic=record.topic)
        aside = quarantine.unpublishable(
            self._prefix, record, reason="too_large_for_topic", source=held.source
        )
        with contextlib.suppress(NotDurable, Overloaded, TopicRefused, RecordTooLarge):
            await self._log.append(aside)
            return _outcome_of(aside, self._prefix)
        return None


def _outcome_of(record: Record, prefix: str) -> Outcome:
    reason = quarantine.reason_of(record, prefix)
    return ("published", "") if reason is None else ("quarantined", reason)
