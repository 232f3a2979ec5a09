"""The spool: what Kafka does not take now, and tokens that cannot be judged yet, kept on the disk.

Many requests share one fsync. Notices come first: when room runs out Live Events are refused, and
a reserve of real blocks is given up for notices alone.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

import structlog

from ingest.contract.envelope import SOURCES, Source
from ingest.contract.eventlog.logfile import APPEND_LIMIT
from ingest.contract.record import Record
from ingest.errors import DiskFull, NoRoom, NotDurable, Overloaded
from ingest.observing.ledger import Ledger
from ingest.observing.metrics import SpoolFigures
from ingest.spool.accounts import Accounts
from ingest.spool.files.directory import Opening, SpoolDirectory
from ingest.spool.files.rows import Held, HeldToken, Item, NewRecord, batches
from ingest.spool.files.store import HeldItem, Table
from ingest.spool.limits import Room, SpoolLimits
from ingest.spool.upkeep import Upkeep
from ingest.storage.disk import Disk
from ingest.storage.group_commit import GroupCommit
from ingest.values import SignedRequest

log = structlog.get_logger(__name__)

_MAX_WAITING = 10_000
_COMMIT_TIMEOUT_S = 2.5
_CLOSE_TIMEOUT_S = 5.0
_TEND_EVERY_S = 1.0
_READ_BYTES = 4 * 1024 * 1024


class Spool:
    """Takes records and tokens, and gives them back in order until they are forgotten."""

    def __init__(
        self, directory: SpoolDirectory, opening: Opening, limits: SpoolLimits, *, ledger: Ledger
    ) -> None:
        """A spool that has been opened; what was found in it is counted into the ledger."""
        self.arrived = asyncio.Event()
        """Set when something came in; whoever waits for it clears it."""
        self._directory = directory
        self._accounts = Accounts(opening.contents, opening.unreadable, ledger)
        self._room = Room(limits, directory.reserve, directory.file.usage.used_bytes())
        self._disk = Disk("spool", timeout_s=_COMMIT_TIMEOUT_S)
        self._commits = {
            source: GroupCommit[Item](
                partial(self._commit, source), on_orphan=self._accounts.orphaned
            )
            for source in SOURCES
        }
        # as many as the contract has; known before a commit, since a read may follow it at once
        self._topics_met = set(self._accounts.usage.topics())
        self._closing = False
        self._upkeep = Upkeep(directory, self._disk, self._room, self._accounts, limits)

    @property
    def has_records(self) -> bool:
        """Whether records wait for the log."""
        return self._accounts.usage.records > 0

    @property
    def has_tokens(self) -> bool:
        """Whether tokens wait for keys."""
        return self._accounts.usage.tokens > 0

    def topics(self) -> Collection[str]:
        """Topics of which records wait for the log."""
        return self._accounts.usage.topics()

    async def append(
        self, record: Record, source: Source, *, held_back: Collection[str] = ()
    ) -> None:
        """Returns after the fsync that covers the record. Raises NoRoom, NotDurable or Overloaded.

        Topics that are `held_back`, since they take nothing now, may together use half the spool.
        """
        new = NewRecord(record=record, source=source)
        self._check_open(source)
        self._room.check_record(new, held_back, self._accounts.usage)
        self._topics_met.add(record.topic)
        await self._commits[source].append(new)

    async def defer(self, token: SignedRequest) -> None:
        """The same for a token that cannot be judged yet."""
        self._check_open(token.source)
        self._room.check_token(token, self._accounts.usage)
        await self._commits[token.source].append(token)

    async def read(self, *, after: int, limit: int, without: Collection[str]) -> list[Held]:
        """The oldest records beyond an id, of all topics but some. Raises NotDurable.

        Records of the topics left out are not read at all.
        """
        if without:
            others = self._topics_met.difference(without)
            return await self._read_topics(others, after, limit)
        read = self._directory.file.read
        found = await self._disk.call(
            partial(read, after=after, limit=limit, max_bytes=_READ_BYTES)
        )
        return await self._sound("record", found)

    async def read_topic(self, topic: str, *, after: int, limit: int) -> list[Held]:
        """The oldest records of one topic beyond an id. Raises NotDurable."""
        return await self._read_topics((topic,), after, limit)

    async def read_tokens(self, *, after: int, limit: int) -> list[HeldToken]:
        """The oldest tokens beyond an id. Raises NotDurable."""
        read = self._directory.file.read_tokens
        found = await self._disk.call(
            partial(read, after=after, limit=limit, max_bytes=_READ_BYTES)
        )
        return await self._sound("token", found)

    async def last_token_id(self) -> int:
        """The id given last to a token. Raises NotDurable."""
        return await self._disk.call(self._directory.file.last_token_id)

    async def forget(self, done: Sequence[Held], *, when_gone: Callable[[Held], None]) -> None:
        """Removes what its next owner has, in slices, and tells of each record that is gone.

        Raises NotDurable; a slice that the disk was late with may be gone and told of later.
        """
        file = self._directory.file
        for part in _slices(done):
            ids = [held.stored.offset for held in part]
            await self._remove(partial(file.forget, ids), part, when_gone)

    async def forget_tokens(
        self, done: Sequence[HeldToken], *, when_gone: Callable[[HeldToken], None]
    ) -> None:
        """The same for tokens."""
        file = self._directory.file
        for part in _slices(done):
            ids = [held.id for held in part]
            await self._remove(partial(file.forget_tokens, ids), part, when_gone)

    def figures(self) -> SpoolFigures:
        """How full it is, as of the latest look at the disk, at most about a second ago."""
        return SpoolFigures(
            records=self._accounts.usage.records,
            tokens=self._accounts.usage.tokens,
            used_bytes=self._room.used_bytes,
            oldest_age_s=self._upkeep.oldest_age_s(),
            seconds_to_full=self._upkeep.seconds_to_full(),
            reserve_held=self._directory.reserve.held,
        )

    def health(self) -> tuple[bool, str]:
        """Whether a Live Event's record would be taken now."""
        try:
            self._room.check_health()
        except NoRoom as error:
            return False, str(error)
        failure, waiting = self._disk.failure, self._accounts.usage.records
        return failure is None, failure or f"the spool has room, {waiting} wait"

    async def run(self) -> None:
        """Keeps the file in order and knows when trouble is over. Does not end."""
        while True:
            await self._upkeep.once()
            await asyncio.sleep(_TEND_EVERY_S)

    async def close(self) -> None:
        """Commits what waits, then closes the file and lets others own it."""
        self._closing = True
        for commits in self._commits.values():
            if not await commits.finish(_CLOSE_TIMEOUT_S):
                log.error("spool close timed out: what it did not commit got no 2xx")
        await self._disk.close(self._directory.close)

    def _check_open(self, source: Source) -> None:
        if self._closing:
            raise NotDurable("the spool is closing")
        if len(self._commits[source]) >= _MAX_WAITING:
            raise Overloaded("too many records wait for the disk")

    async def _commit(self, source: Source, items: Iterable[Item]) -> int:
        batch = next(batches(items))
        file, max_bytes = self._directory.file, self._room.max_bytes(source)
        append = partial(file.append, batch, max_bytes=max_bytes)
        came_late = partial(self._came_late, batch)
        try:
            self._took(batch, await self._disk.write(append, when_late=came_late))
        except DiskFull:
            if source != "pns" or not self._directory.reserve.held:
                raise
            log.error("disk full: the notices' reserve is given up, only notices are taken")
            await self._disk.call(self._directory.reserve.give_up)
            self._took(batch, await self._disk.write(append, when_late=came_late))
        return len(batch)

    def _took(self, batch: Iterable[Item], used_bytes: int) -> None:
        self._room.used_bytes = used_bytes
        self._accounts.took(batch)
        self.arrived.set()

    def _came_late(self, batch: Sequence[Item], used_bytes: int) -> None:
        self._took(batch, used_bytes)
        for item in batch:
            self._accounts.orphaned(item)

    async def _read_topics(self, topics: Collection[str], after: int, limit: int) -> list[Held]:
        read = partial(
            self._directory.file.read_topics,
            topics,
            after=after,
            limit=limit,
            max_bytes=_READ_BYTES,
        )
        return await self._sound("record", await self._disk.call(read))

    async def _remove(
        self,
        remove: Callable[[], int],
        part: Sequence[HeldItem],
        when_gone: Callable[[HeldItem], None],
    ) -> None:
        def gone(removed: int) -> None:
            if removed:
                self._accounts.gone(part, when_gone)
            else:
                self._accounts.come_again(part, when_gone)

        gone(await self._disk.call(remove, when_late=gone))

    async def _sound(self, table: Table, read: list[HeldItem]) -> list[HeldItem]:
        """Those whose checksum is right; the others are moved out of the way and counted."""
        damaged = [held for held in read if held.damaged]
        if not damaged:
            return read
        ids = [held.id if isinstance(held, HeldToken) else held.stored.offset for held in damaged]
        log.error(
            "spool rows damaged: moved out of the way, run `forebay-ingest spool fsck`",
            table=table,
            ids=ids,
            path=str(self._directory.path),
        )
        self._upkeep.counts_are_stale = True
        await self._disk.call(partial(self._directory.file.move_damaged, table, ids))
        await self._upkeep.count_again()
        return [held for held in read if not held.damaged]


def _slices(done: Sequence[HeldItem]) -> Iterable[Sequence[HeldItem]]:
    return (done[start : start + APPEND_LIMIT] for start in range(0, len(done), APPEND_LIMIT))
