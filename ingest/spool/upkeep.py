"""What a running spool's file needs now and then: repair, probes, space given back, a look."""

import contextlib
import time
from functools import partial

import structlog

from ingest.errors import NotDurable
from ingest.spool.accounts import Accounts
from ingest.spool.files.directory import Opening, SpoolDirectory
from ingest.spool.files.rows import Contents
from ingest.spool.limits import Room, SpoolLimits
from ingest.spool.usage import Growth
from ingest.storage.disk import Disk

log = structlog.get_logger(__name__)

_SLICE_PAGES = 512
_FREE_PAGES_WORTH_GIVING_BACK = 4_096


class Upkeep:
    """Works on the spool's file between requests, through the same thread."""

    def __init__(
        self,
        directory: SpoolDirectory,
        disk: Disk,
        room: Room,
        accounts: Accounts,
        limits: SpoolLimits,
    ) -> None:
        self.counts_are_stale = False
        """Whether rows may be gone that the accounts still have."""
        self._directory = directory
        self._disk = disk
        self._room = room
        self._accounts = accounts
        self._limits = limits
        self._oldest_ms = directory.file.oldest_ms()
        self._free_bytes = directory.free_bytes()
        self._growth = Growth()
        self._alarmed = False

    async def once(self) -> None:
        """All of it; what fails has been logged, and comes again the next time."""
        for step in (self._repair, self._probe, self._give_back, self._look):
            with contextlib.suppress(NotDurable):
                await step()

    def oldest_age_s(self) -> float:
        """How long the oldest record or token has been waiting; 0 if there is none."""
        usage = self._accounts.usage
        if self._oldest_ms is None or not (usage.records or usage.tokens):
            return 0.0
        return max(0.0, time.time() - self._oldest_ms / 1000)

    def seconds_to_full(self) -> float:
        """When Live Events find no room any more, in the spool's bound or on its disk, as it grows
        now; infinite if it does not grow, 0 where they find none already."""
        if self._room.reserve_is_gone:
            return 0.0
        return self._growth.seconds_to(min(self._room.left_bytes(), self._free_bytes))

    async def count_again(self) -> None:
        """After damage: whose the rows were is part of it, so only the file can tell."""
        count = self._directory.file.contents
        self._recount(await self._disk.call(count, when_late=self._recount))

    def _recount(self, contents: Contents) -> None:
        self.counts_are_stale = False
        self._accounts.recount(contents)

    async def _repair(self) -> None:
        """Keeps what can be read of a file that turned out to be damaged."""
        if self._disk.corrupt:
            log.error("spool file damaged: rebuilding it", path=str(self._directory.path))
            rebuild = self._directory.rebuild_file
            self._rebuilt(await self._disk.call(rebuild, when_late=self._rebuilt))
        elif self.counts_are_stale:
            await self.count_again()

    def _rebuilt(self, opening: Opening) -> None:
        self._disk.corrupt = False
        self._recount(opening.contents)

    async def _probe(self) -> None:
        if self._disk.suspect:
            await self._disk.write(self._directory.file.probe)

    async def _give_back(self) -> None:
        """Gives free pages back to the file system, in slices, between which others write."""
        file = self._directory.file
        free_pages = await self._disk.call(file.usage.free_pages)
        usage = self._accounts.usage
        empty = not (usage.records or usage.tokens)
        if not free_pages or not (empty or free_pages > _FREE_PAGES_WORTH_GIVING_BACK):
            return
        while await self._disk.call(partial(file.give_back, _SLICE_PAGES)):
            pass

    async def _look(self) -> None:
        file = self._directory.file
        if self._room.reserve_is_gone and await self._disk.call(self._directory.reserve.take):
            log.info("the notices' reserve is there again, Live Events are taken")
        self._room.used_bytes = await self._disk.call(file.usage.used_bytes)
        self._free_bytes = await self._disk.call(self._directory.free_bytes)
        self._oldest_ms = await self._disk.call(file.oldest_ms)
        self._growth.saw(self._room.used_bytes)
        oldest_age_s = self.oldest_age_s()
        late = oldest_age_s > self._limits.alarm_age_s
        if late and not self._alarmed:
            log.error(
                "events wait in the spool for long: is Kafka there, are its topics?",
                oldest_age_s=round(oldest_age_s),
            )
        self._alarmed = late
