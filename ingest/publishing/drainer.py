"""Empties the spool into the log while requests go on: oldest first, and round what is down."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any

import structlog

from ingest.contract import quarantine
from ingest.contract.record import Record
from ingest.errors import NotDurable, RecordTooLarge
from ingest.observing.ledger import Ledger
from ingest.publishing.log import Log, Partition
from ingest.publishing.router import Router
from ingest.spool.files.rows import Held
from ingest.spool.spool import Spool

log = structlog.get_logger(__name__)

Outcome = tuple[str, str]  # as the ledger has it, with its reason

_MOST_AT_ONCE = 2_048
_MOST_TOPICS_AT_ONCE = 8
_MOST_PROBES_AT_ONCE = 512
_PAUSE_S = 0.1
_STOP_TIMEOUT_S = 5.0
_QUARANTINE_AGAIN_AFTER_S = 3.0
_UNPUBLISHABLE_AGAIN_AFTER_S = (60.0, 600.0, 3_600.0)


class Drainer:
    """Publishes what the spool holds; forgets a record only after the log has it.

    A cursor goes through the spool once, and passes what is for partitions that are down. Beside
    it one record of each such partition is its probe; once a partition has recovered, a cursor of
    its topic's own goes for what was passed.
    """

    def __init__(
        self, spool: Spool, durable_log: Log, router: Router, *, ledger: Ledger, prefix: str
    ) -> None:
        self._spool = spool
        self._log = durable_log
        self._router = router
        self._ledger = ledger
        self._prefix = prefix
        self._stopping = False
        self._under_way = 0
        self._rests = asyncio.Event()
        self._cursor = 0
        self._behind: dict[str, int] = {}  # cursors by topic
        self._at_once = 1
        self._probes_at_once = 8
        self._passed: dict[Partition, Held] = {}
        self._taken: set[int] = set()
        self._unpublishable: dict[int, tuple[float, str]] = {}  # when again, and its topic
        self._refusals: Counter[int] = Counter()

    async def run(self) -> None:
        """Until cancelled. A failing disk is waited for: whoever looks after it logs it."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._drain_all())
            loops.create_task(self._probe_all())

    async def stop(self) -> None:
        """Returns after the records under way; what is left stays in the spool."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                while self._under_way:
                    self._rests.clear()
                    await self._rests.wait()

    async def _drain_all(self) -> None:
        while True:
            while not self._spool.has_records:
                self._start_over()
                self._spool.arrived.clear()
                await self._spool.arrived.wait()
            drained = 0
            try:
                with self._at_work():
                    drained = await self._drain_some()
            except NotDurable:
                self._start_over()
            self._router.report()
            if not drained:
                await asyncio.sleep(_PAUSE_S)

    async def _probe_all(self) -> None:
        while True:
            with contextlib.suppress(NotDurable), self._at_work():
                await self._probe()
            await asyncio.sleep(_PAUSE_S)

    async def _drain_some(self) -> int:
        """Publishes and forgets some records; returns how many. Raises NotDurable."""
        if self._stopping:
            return 0
        self._behind.update(dict.fromkeys(self._router.take_recovered(), 0))
        self._behind.update(dict.fromkeys(self._due_again(), 0))
        topics = list(self._behind)[:_MOST_TOPICS_AT_ONCE]
        drained = sum(await asyncio.gather(*map(self._drain_topic, topics)))
        read = self._spool.read(
            after=self._cursor, limit=self._at_once, without=self._topics_down()
        )
        published, cursor = await self._drain_chunk(read)
        self._cursor = self._cursor if cursor is None else cursor
        return drained + published

    async def _drain_topic(self, topic: str) -> int:
        """Goes on in a topic of which records were passed, as far as the cursor has come."""
        after = self._behind.pop(topic)
        read = self._spool.read_topic(topic, after=after, limit=self._at_once)
        published, cursor = await self._drain_chunk(read)
        if cursor is not None and cursor < self._cursor:
            self._behind[topic] = cursor  # behind the others, whose turn is next
        return published

    async def _drain_chunk(self, read: Coroutine[Any, Any, list[Held]]) -> tuple[int, int | None]:
        """Publishes and forgets some records; how many, and up to where. None is the end."""
        recoveries = self._router.recoveries
        chunk = await read
        if recoveries != self._router.recoveries:
            # what was read may have been a probe that went through meanwhile
            return 0, chunk[0].stored.offset - 1 if chunk else None
        if not chunk:
            return 0, None
        due = self._taken_of([held for held in chunk if not self._passes(held)])
        try:
            published = await self._publish_all(due)
        finally:
            self._let_go(due)
        again = [h for h in due if h.stored.offset not in published and not self._passes(h)]
        # who is slow, or has just come back, is not overrun
        at_once = self._at_once // 2 if again else 2 * self._at_once
        self._at_once = max(1, min(at_once, _MOST_AT_ONCE))
        # what the log did not take though its partition is up is met again at once
        return len(published), (again[0].stored.offset - 1 if again else chunk[-1].stored.offset)

    async def _probe(self) -> None:
        """Tries one record each of partitions whose pause is over. Raises NotDurable."""
        due = [each for each in self._router.unavailable if not self._router.is_open(each)]
        if self._stopping or not due:
            return
        # some of them may have nothing to try, and must not keep the others from their turn
        due = random.sample(due, min(len(due), self._probes_at_once))
        taken = self._taken_of(self._passed[each] for each in due if each in self._passed)
        try:
            topics_left = {each.topic for each in set(due).difference(self._passed)}
            for topic in topics_left.intersection(self._spool.topics()):
                first = await self._spool.read_topic(topic, after=0, limit=1)
                taken += self._taken_of(first)
            published = await self._publish_all(taken)
        finally:
            self._let_go(taken)
        if taken:
            # all partitions at once may be more than a slow link carries within the budget
            probes = 2 * self._probes_at_once if published else self._probes_at_once // 2
            self._probes_at_once = max(1, min(probes, _MOST_PROBES_AT_ONCE))

    def _taken_of(self, found: Iterable[Held]) -> list[Held]:
        """Those that cursor and probe do not have in hand: else one is published and counted twice.

        What was read is taken before anything else is awaited, since it may be gone after that.
        """
        barred = self._taken | self._unpublishable.keys()
        taken = [held for held in found if held.stored.offset not in barred]
        self._taken.update(held.stored.offset for held in taken)
        return taken

    def _let_go(self, taken: Iterable[Held]) -> None:
        self._taken.difference_update(held.stored.offset for held in taken)

    async def _publish_all(self, due: Sequence[Held]) -> dict[int, Outcome]:
        """Publishes and forgets; how those ended, by id, that the log took. Raises NotDurable."""
        outcomes = await asyncio.gather(*map(self._publish, due))
        done = {h.stored.offset: o for h, o in zip(due, outcomes, strict=True) if o is not None}
        # whether the disk lets go of them or not, none of these is to be a probe again
        self._passed = {p: h for p, h in self._passed.items() if h.stored.offset not in done}

        def gone(held: Held) -> None:
            self._ledger.left("spool", held.source, *done[held.stored.offset])

        await self._spool.forget([h for h in due if h.stored.offset in done], when_gone=gone)
        return done

    async def _publish(self, held: Held) -> Outcome | None:
        """How the record ended, if the log has it, or quarantine in its stead."""
        record = held.record
        try:
            if await self._router.publish(self._log, record, may_probe=True, urgent=False):
                return _outcome_of(record, self._prefix)
        except RecordTooLarge:
            return await self._quarantine(record, held)
        return None

    async def _quarantine(self, record: Record, held: Held) -> Outcome | None:
        """A record that its topic will never take goes to quarantine, now or later."""
        kept = quarantine.quarantine_record(
            self._prefix, record, reason="too_large_for_topic", source=held.source
        )
        pause_s = _QUARANTINE_AGAIN_AFTER_S
        try:
            if await self._router.publish(self._log, kept, may_probe=True, urgent=False):
                log.error("record too large for its topic, quarantined", topic=record.topic)
                return _outcome_of(kept, self._prefix)
        except RecordTooLarge:
            pause_s = self._pause_after_refusal(held.stored.offset)
            log.error(
                "record too large for its topic and for quarantine, it stays in the spool:"
                " raise max.message.bytes of the quarantine topic",
                quarantine=kept.topic,
                topic=record.topic,
                spool_id=held.stored.offset,
                tried_again_in_s=pause_s,
            )
        now_s = asyncio.get_running_loop().time()
        self._unpublishable[held.stored.offset] = (now_s + pause_s, record.topic)
        return None

    def _pause_after_refusal(self, id_: int) -> float:
        """It was acknowledged, so it is not given up, however often it is refused."""
        self._refusals[id_] += 1
        longest = len(_UNPUBLISHABLE_AGAIN_AFTER_S)
        return _UNPUBLISHABLE_AGAIN_AFTER_S[min(self._refusals[id_], longest) - 1]

    def _passes(self, held: Held) -> bool:
        """Whether the cursor passes a record now; the first of a partition is its next probe."""
        id_ = held.stored.offset
        if id_ in self._taken or id_ in self._unpublishable:
            return True
        partition = self._partition_of(held)
        if self._router.is_closed(partition):
            return False
        self._passed.setdefault(partition, held)
        return True

    def _due_again(self) -> set[str]:
        """Topics of records that no topic took and whose pause is over: they are tried again."""
        now_s = asyncio.get_running_loop().time()
        due = {id_ for id_, (due_s, _) in self._unpublishable.items() if due_s <= now_s}
        return {self._unpublishable.pop(id_)[1] for id_ in due}

    def _partition_of(self, held: Held) -> Partition:
        return self._log.partition_of(held.record)

    def _topics_down(self) -> frozenset[str]:
        """Topics of which no partition takes records: to read them would find nothing to do."""
        down: dict[str, int] = {}
        for topic, _ in self._router.unavailable:
            down[topic] = down.get(topic, 0) + 1
        return frozenset(t for t, n in down.items() if n >= self._log.partitions_of(t))

    def _start_over(self) -> None:
        self._cursor = 0
        self._behind.clear()
        self._passed.clear()

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._rests.set()


def _outcome_of(record: Record, prefix: str) -> Outcome:
    reason = quarantine.reason_of(record, prefix)
    return ("published", "") if reason is None else ("quarantined", reason)
