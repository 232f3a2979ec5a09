"""The spool: what Kafka does not take now, and tokens that cannot be judged yet, kept on the disk.

Many requests share one fsync. Notices come first: when room runs out Live Events are refused, and
a reserve of real blocks is given up for notices alone.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

import structlog
from msgspec import Struct

from ingest.contract.envelope import SOURCES, Source
from ingest.contract.eventlog.logfile import APPEND_LIMIT
from ingest.contract.record import Record
from ingest.errors import NotDurable, Overloaded
from ingest.observing.ledger import Ledger
from ingest.observing.metrics import SpoolFigures
from ingest.spool.directory import Opening, SpoolDirectory
from ingest.spool.store import DEFERRED, Held, Holding, Spooled, batches
from ingest.spool.usage import Inventory
from ingest.storage.disk import Disk, DiskFull, NoRoom
from ingest.storage.group_commit import GroupCommit
from ingest.values import EventState

log = structlog.get_logger(__name__)

_MAX_WAITING = 10_000
_COMMIT_TIMEOUT_S = 2.5
_CLOSE_TIMEOUT_S = 5.0
_TEND_EVERY_S = 1.0
_SLICE_PAGES = 512
_FREE_PAGES_WORTH_GIVING_BACK = 4_096
_RATE_OVER_S = 60
_READ_BYTES = 4 * 1024 * 1024
# of what parked topics and deferred Live Events may take
_PARKED_SHARE = 1 / 2
_LIVE_DEFERRED_SHARE = 7 / 8


class SpoolLimits(Struct, frozen=True, kw_only=True):
    """Bounds in bytes; of `max_bytes` and of the disk, `pns_reserve_bytes` are for notices alone.

    Records older than `alarm_age_s` raise an alarm, and nothing else.
    """

    max_bytes: int
    pns_reserve_bytes: int
    deferred_max_bytes: int
    alarm_age_s: float


class Spool:
    """Takes records and tokens, and gives them back in order until they are forgotten."""

    def __init__(
        self, directory: SpoolDirectory, opening: Opening, limits: SpoolLimits, *, ledger: Ledger
    ) -> None:
        """A spool that has been opened; what was found in it is counted into the ledger."""
        self.arrived = asyncio.Event()
        """Set when something came in; whoever waits for it clears it."""
        self._directory = directory
        self._limits = limits
        self._ledger = ledger
        self._inventory = Inventory(opening.holdings)
        for holding in opening.holdings:
            ledger.found(state_of(holding.topic), holding.source, holding.records)
        ledger.lost("damaged", opening.unreadable)
        self._disk = Disk("spool", timeout_s=_COMMIT_TIMEOUT_S)
        self._lanes = {
            source: GroupCommit[Spooled](partial(self._commit, source), on_orphan=self._orphaned)
            for source in SOURCES
        }
        self._closing = False
        self._counts_are_stale = False
        self._used_bytes = directory.file.usage.used_bytes()
        self._oldest_ms = directory.file.oldest_ms()
        self._used_then: deque[tuple[float, int]] = deque(maxlen=_RATE_OVER_S)
        self._alarmed = False
        self._tending = asyncio.create_task(self._tend(), name="spool")

    @property
    def has_records(self) -> bool:
        """Whether records wait for the log."""
        return self._inventory.records > 0

    @property
    def has_tokens(self) -> bool:
        """Whether tokens wait for keys."""
        return self._inventory.tokens > 0

    async def append(
        self, record: Record, source: Source, *, held_back: Collection[str] = ()
    ) -> None:
        """Returns after the fsync that covers the record. Raises NoRoom, NotDurable or Overloaded.

        `held_back` topics together may use half of the spool.
        """
        if record.topic in held_back:
            most_bytes = self._limits.max_bytes * _PARKED_SHARE
            if self._inventory.bytes_of(held_back) + record.size_bytes > most_bytes:
                raise NoRoom("parked events fill their share of the spool")
        await self._take(Spooled(record=record, source=source))

    async def defer(self, token: Record, source: Source) -> None:
        """The same for a token that cannot be judged yet."""
        share = 1 if source == "pns" else _LIVE_DEFERRED_SHARE
        used_bytes = self._inventory.bytes_of((DEFERRED,)) + token.size_bytes
        if used_bytes > self._limits.deferred_max_bytes * share:
            raise NoRoom("deferred tokens fill their share of the spool")
        await self._take(Spooled(record=token, source=source))

    async def read(self, *, after: int, limit: int, without: Collection[str]) -> list[Held]:
        """The oldest records beyond an id, of all topics but some. Raises NotDurable."""
        read = partial(
            self._directory.file.read,
            after=after,
            limit=limit,
            max_bytes=_READ_BYTES,
            without=(*without, DEFERRED),
        )
        return await self._sound(await self._disk.attempt(read))

    def topics(self) -> Collection[str]:
        """Topics of which records wait."""
        return self._inventory.topics()

    async def read_topic(self, topic: str, *, after: int, limit: int) -> list[Held]:
        """The oldest records of one topic beyond an id. Raises NotDurable."""
        read = partial(
            self._directory.file.read_only, topic, after=after, limit=limit, max_bytes=_READ_BYTES
        )
        return await self._sound(await self._disk.attempt(read))

    async def read_tokens(self, *, after: int, limit: int) -> list[Held]:
        """The oldest tokens beyond an id. Raises NotDurable."""
        read = partial(
            self._directory.file.read_only,
            DEFERRED,
            after=after,
            limit=limit,
            max_bytes=_READ_BYTES,
        )
        return await self._sound(await self._disk.attempt(read))

    async def last_id(self) -> int:
        """The id given last. Raises NotDurable."""
        return await self._disk.attempt(self._directory.file.last_id)

    async def forget(self, done: Sequence[Held], *, when_gone: Callable[[Held], None]) -> None:
        """Removes what its next owner has, in slices, and tells of each record that is gone.

        Raises NotDurable; a slice that the disk was late with may be gone and told of later.
        """
        for start in range(0, len(done), APPEND_LIMIT):
            part = done[start : start + APPEND_LIMIT]
            gone = partial(self._gone, part, when_gone)
            forget = partial(self._directory.file.forget, [held.stored.offset for held in part])
            await self._disk.attempt(forget, when_late=gone)
            gone(None)

    def figures(self) -> SpoolFigures:
        """How full it is, as of the latest look at the disk, at most about a second ago."""
        waits = self._inventory.records + self._inventory.tokens
        oldest_ms = self._oldest_ms
        age_s = 0.0 if oldest_ms is None or not waits else max(0, time.time() - oldest_ms / 1000)
        return SpoolFigures(
            records=self._inventory.records,
            tokens=self._inventory.tokens,
            used_bytes=self._used_bytes,
            oldest_age_s=age_s,
            seconds_to_full=self._seconds_to_full(),
            reserve_held=self._directory.reserve.held,
        )

    def health(self) -> tuple[bool, str]:
        """Whether a Live Event's record would be taken now."""
        try:
            self._check_room("live-events", 0)
        except NotDurable as error:
            return False, str(error)
        failure = self._disk.failure
        return failure is None, failure or f"the spool has room, {self._inventory.records} wait"

    async def note(self, name: str) -> str | None:
        """A text kept in the spool's file. Raises NotDurable."""
        return await self._disk.attempt(partial(self._directory.file.note, name))

    async def keep_note(self, name: str, text: str) -> None:
        """Keeps it. Raises NotDurable."""
        await self._disk.attempt(partial(self._directory.file.keep_note, name, text))

    async def close(self) -> None:
        """Commits what waits, then closes the file and lets others own it."""
        self._closing = True
        self._tending.cancel()
        for lane in self._lanes.values():
            if not await lane.finish(_CLOSE_TIMEOUT_S):
                log.error("the spool did not finish in time; what it did not commit got no 2xx")
        await self._disk.close(self._directory.close)

    async def _take(self, item: Spooled) -> None:
        lane = self._lanes[item.source]
        if self._closing:
            raise NotDurable("the spool is closing")
        if len(lane) >= _MAX_WAITING:
            raise Overloaded("too many records wait for the disk")
        self._check_room(item.source, item.size_bytes)
        await lane.append(item)

    def _check_room(self, source: Source, more_bytes: int) -> None:
        if source == "live-events" and self._reserve_is_gone:
            raise NoRoom("the disk is full but for the notices' reserve")
        if self._used_bytes + more_bytes > self._max_bytes(source):
            raise NoRoom("the spool is full")

    @property
    def _reserve_is_gone(self) -> bool:
        return self._limits.pns_reserve_bytes > 0 and not self._directory.reserve.held

    def _max_bytes(self, source: Source) -> int:
        reserve_bytes = 0 if source == "pns" else self._limits.pns_reserve_bytes
        return self._limits.max_bytes - reserve_bytes

    async def _commit(self, source: Source, items: Iterable[Spooled]) -> int:
        batch = next(batches(items))
        append = partial(self._directory.file.append, batch, max_bytes=self._max_bytes(source))
        came_late = partial(self._came_late, batch)
        try:
            self._used_bytes = await self._disk.attempt(append, when_late=came_late)
        except DiskFull:
            if source != "pns" or not self._directory.reserve.held:
                raise
            log.error("the disk is full: the reserve is given up, only notices are taken")
            await self._disk.attempt(self._directory.reserve.give_up)
            self._used_bytes = await self._disk.attempt(append, when_late=came_late)
        self._count_in(batch)
        return len(batch)

    def _count_in(self, batch: Iterable[Spooled]) -> None:
        for item in batch:
            self._inventory.add(item.record.topic, item.source, 1, item.size_bytes)
        self.arrived.set()

    def _gone(self, part: Iterable[Held], when_gone: Callable[[Held], None], _: None) -> None:
        for held in part:
            self._inventory.add(held.stored.topic, held.source, -1, -held.size_bytes)
            when_gone(held)

    def _came_late(self, batch: Sequence[Spooled], used_bytes: int) -> None:
        """Their 503 has been given; durable as they are, they go their way all the same."""
        self._used_bytes = used_bytes
        self._count_in(batch)
        for item in batch:
            self._orphaned(item)

    def _orphaned(self, item: Spooled) -> None:
        self._ledger.found(state_of(item.record.topic), item.source, 1)

    async def _sound(self, read: list[Held]) -> list[Held]:
        """Those whose checksum is right; the others are set apart, counted and said."""
        damaged = [held for held in read if held.stored.damaged]
        if not damaged:
            return read
        ids = [held.stored.offset for held in damaged]
        log.error("damaged records are set apart, see `forebay-ingest spool fsck`", ids=ids)
        file = self._directory.file
        self._counts_are_stale = True
        await self._disk.attempt(partial(file.set_apart, ids))
        await self._count_again()
        return [held for held in read if not held.stored.damaged]

    async def _count_again(self) -> None:
        """After damage: whose the records were is part of it, so only the file can tell."""
        holdings = self._directory.file.holdings
        self._recount(await self._disk.attempt(holdings, when_late=self._recount))

    async def _tend(self) -> None:
        """Looks at the disk, gives space back, and finds out when trouble is over."""
        while True:
            with contextlib.suppress(NotDurable):
                if self._disk.corrupt:
                    await self._rebuild()
                elif self._counts_are_stale:
                    await self._count_again()
                await self._give_back()
                await self._look()
            await asyncio.sleep(_TEND_EVERY_S)

    async def _look(self) -> None:
        file = self._directory.file
        if self._disk.failure is not None:
            await self.keep_note("probed_at", str(int(time.time())))
        if self._reserve_is_gone and await self._disk.attempt(self._directory.reserve.take):
            log.info("the notices' reserve is there again")
        self._used_bytes = await self._disk.attempt(file.usage.used_bytes)
        self._oldest_ms = await self._disk.attempt(file.oldest_ms)
        self._used_then.append((time.monotonic(), self._used_bytes))
        self._alarm(self.figures().oldest_age_s)

    def _alarm(self, oldest_age_s: float) -> None:
        late = oldest_age_s > self._limits.alarm_age_s
        if late and not self._alarmed:
            log.error("events wait in the spool for long", oldest_age_s=round(oldest_age_s))
        self._alarmed = late

    async def _give_back(self) -> None:
        """In slices, between which others write."""
        file = self._directory.file
        free_pages = await self._disk.attempt(file.usage.free_pages)
        empty = not (self._inventory.records or self._inventory.tokens)
        if not free_pages or not (empty or free_pages > _FREE_PAGES_WORTH_GIVING_BACK):
            return
        while await self._disk.attempt(partial(file.give_back, _SLICE_PAGES)):
            pass

    async def _rebuild(self) -> None:
        """Keeps what can be read of a file that turned out to be damaged."""
        reopen = self._directory.reopen_file
        self._reopened(await self._disk.attempt(reopen, when_late=self._reopened))

    def _reopened(self, opening: Opening) -> None:
        self._disk.corrupt = False
        self._recount(opening.holdings)

    def _recount(self, holdings: Iterable[Holding]) -> None:
        """What is gone without having been forgotten is lost, and counted out."""
        self._counts_are_stale = False
        before, self._inventory = self._inventory, Inventory(holdings)
        for (lane, source), records in _missing(before, self._inventory).items():
            for _ in range(records):
                self._ledger.left(lane, source, "not_durable", "damaged")

    def _seconds_to_full(self) -> float:
        if len(self._used_then) < 2:
            return math.inf
        (began_s, began_bytes), (now_s, now_bytes) = self._used_then[0], self._used_then[-1]
        rate = (now_bytes - began_bytes) / max(now_s - began_s, 1e-9)
        room_bytes = self._max_bytes("live-events") - self._used_bytes
        return max(0.0, room_bytes / rate) if rate > 0 else math.inf


def state_of(topic: str) -> EventState:
    """The ledger's lane of what the spool holds."""
    return "deferred" if topic == DEFERRED else "spool"


def _missing(before: Inventory, after: Inventory) -> dict[tuple[EventState, Source], int]:
    missing: dict[tuple[EventState, Source], int] = {}
    for sign, inventory in ((1, before), (-1, after)):
        for holding in inventory.holdings():
            line = (state_of(holding.topic), holding.source)
            missing[line] = missing.get(line, 0) + sign * holding.records
    return missing
