"""A log in memory, a spool on a real disk, and a ledger to compare them by."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from ingest.contract.envelope import SOURCES, Source
from ingest.contract.record import Record
from ingest.errors import NotDurable
from ingest.observing.ledger import Ledger
from ingest.publishing.log import Partition
from ingest.shared.background import Background
from ingest.spool.accounts import state_of
from ingest.spool.files.directory import Opening, SpoolDirectory
from ingest.spool.files.rows import Held, HeldToken, NewRecord
from ingest.spool.files.store import FILE_NAME
from ingest.spool.limits import SpoolLimits
from ingest.spool.spool import Spool
from ingest.values import SignedRequest

TOPIC = "p.live-events.course-created.v1"
OTHER_TOPIC = "p.pns.lti-context-copy-notice.v1"
PREFIX = "p"
ROOMY = 1 << 30
LIMITS = SpoolLimits(
    max_bytes=ROOMY, pns_reserve_bytes=0, deferred_max_bytes=ROOMY, alarm_age_s=3_600
)


def record(n: int = 0, *, topic: str = TOPIC, size_bytes: int = 0) -> Record:
    """The nth record of a test; `size_bytes` more than it needs."""
    headers = (("ce_id", b"id-%d" % n), ("ce_tenant", b"north-campus"))
    return Record(
        topic=topic, key=b"%d" % n, value=b'{"n": %d}' % n + b" " * size_bytes, headers=headers
    )


def spooled(n: int = 0, source: Source = "live-events", *, topic: str = TOPIC) -> NewRecord:
    """The same on its way into a spool's file."""
    return NewRecord(record=record(n, topic=topic), source=source)


def token(n: int = 0, source: Source = "live-events", *, size_bytes: int = 0) -> SignedRequest:
    """The nth deferred token; `size_bytes` more than it needs."""
    text = b"%d" % n + b" " * size_bytes
    return SignedRequest(token=text, source=source, received_at=1_790_000_000.25)


def number(held: Held | HeldToken) -> int:
    """Which record or token it is."""
    return int(held.request.token if isinstance(held, HeldToken) else held.stored.key)


class MemoryLog:
    """A log in a list. Whatever `failure` raises for a record, that record is not taken."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.records: list[Record] = []
        self.asked: list[Record] = []
        self.failure: Callable[[Record], None] = lambda record: None
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.under_way = 0
        self.most_under_way = 0
        self._work: set[asyncio.Task[None]] = set()
        self._closed = False

    def partitions_of(self, topic: str) -> int:
        return self.partitions

    def partition_of(self, record: Record) -> Partition:
        key = record.key or b"0"
        return Partition(record.topic, (int(key) if key.isdigit() else key[-1]) % self.partitions)

    async def append(self, record: Record, *, urgent: bool = True, probing: bool = False) -> None:
        if self._closed:
            raise NotDurable("the log is closed")
        work = asyncio.ensure_future(self._append(record))
        self._work.add(work)
        work.add_done_callback(self._work.discard)
        await asyncio.shield(work)

    async def health(self) -> tuple[bool, str]:
        return not self._closed, "a list takes records"

    async def close(self) -> None:
        self._closed = True
        if self._work:
            await asyncio.wait(self._work)

    async def _append(self, record: Record) -> None:
        self.asked.append(record)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)  # so that those of one turn are under way together
            await self.may_finish.wait()
            self.failure(record)
        finally:
            self.under_way -= 1
        self.records.append(record)

    def numbers(self) -> list[int]:
        """Which records it has, in their order."""
        return [int(record.key) for record in self.records]


class SpoolBench:
    """A spool and the ledger that it counts into."""

    def __init__(self, spool: Spool, directory: SpoolDirectory, ledger: Ledger) -> None:
        self.spool = spool
        self.directory = directory
        self.ledger = ledger

    async def take(self, item: Record | SignedRequest, source: Source = "live-events") -> None:
        """Appends as a request does: counted in, and held by the spool if it was taken."""
        if isinstance(item, SignedRequest):
            source = item.source
        with contextlib.ExitStack() as failing:
            self.ledger.received[source] += 1
            self.ledger.held["in_flight", source] += 1
            failing.callback(self.ledger.left, "in_flight", source, "not_durable")
            if isinstance(item, SignedRequest):
                await self.spool.defer(item)
                self.ledger.held["deferred", source] += 1
            else:
                await self.spool.append(item, source)
                self.ledger.held["spool", source] += 1
            failing.pop_all()
            self.ledger.held["in_flight", source] -= 1

    async def forget(self, done: Sequence[Held]) -> None:
        """Forgets as draining does: each is counted out when it is gone."""

        await self.spool.forget(done, when_gone=self._gone)

    async def forget_tokens(self, done: Sequence[HeldToken]) -> None:
        """The same for tokens."""
        await self.spool.forget_tokens(done, when_gone=self._gone)

    def _gone(self, held: Held | HeldToken) -> None:
        self.ledger.left(state_of(held), held.source, "published")

    async def numbers(self) -> list[int]:
        """Which records it holds, oldest first, tokens apart."""
        held = await self.spool.read(after=0, limit=10_000, without=())
        tokens = await self.spool.read_tokens(after=0, limit=10_000)
        return [*map(number, held), *map(number, tokens)]


@contextlib.asynccontextmanager
async def open_spool(
    path: Path, limits: SpoolLimits = LIMITS, ledger: Ledger | None = None
) -> AsyncIterator[SpoolBench]:
    """A spool in a directory, for as long as the block runs."""
    directory, opening = SpoolDirectory.open(path, reserve_bytes=limits.pns_reserve_bytes)
    ledger = ledger or Ledger()
    spool = Spool(directory, opening, limits, ledger=ledger)
    try:
        async with Background() as background:
            background.start("spool maintenance", spool.run, needed=True)
            yield SpoolBench(spool, directory, ledger)
    finally:
        await spool.close()


@contextlib.contextmanager
def open_directory(path: Path, *, reserve_bytes: int = 0):  # type: ignore[no-untyped-def]
    """The spool's place alone, and what was found in it."""
    directory, opening = SpoolDirectory.open(path, reserve_bytes=reserve_bytes)
    try:
        yield directory, opening
    finally:
        directory.close()


def imbalance(ledger: Ledger) -> dict[Source, int]:
    """Per source: events that came in, less those that left or are held. All 0 if it balances."""
    left: Counter[Source] = Counter()
    for (source, _, _), count in ledger.settled.items():
        left[source] += count
    for (_, source), count in ledger.held.items():
        left[source] += count
    return {
        source: ledger.received[source] + ledger.recovered[source] - left[source]
        for source in SOURCES
    }


BALANCED = dict.fromkeys(SOURCES, 0)


async def until(holds: Callable[[], bool | Awaitable[bool]], *, timeout_s: float = 30.0) -> None:
    """Waits for what another thread or task brings about."""
    async with asyncio.timeout(timeout_s):
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.002)


__all__ = [
    "BALANCED",
    "FILE_NAME",
    "LIMITS",
    "OTHER_TOPIC",
    "PREFIX",
    "ROOMY",
    "TOPIC",
    "MemoryLog",
    "Opening",
    "SpoolBench",
    "imbalance",
    "number",
    "open_directory",
    "open_spool",
    "record",
    "spooled",
    "token",
    "until",
]
