"""The tenants file, read again while the receiver runs: when it changes, or when it is asked to.

A file that cannot be used changes nothing: whoever was taken before is taken on.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from ingest.observing.seldom import Seldom
from ingest.shared.environment import SettingsError
from ingest.storage.stamps import stamps
from ingest.verifying.tenants_file import Directory, files_of, read_tenants

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 2.0
_COMPLAIN_EVERY_S = 600.0
# an editor may be half-way through writing it
_ALARM_AT_FAILURE = 2


class TenantsReload:
    """The directory in use. `failed` is called at each look at files that cannot be used."""

    def __init__(
        self, path: Path | None, directory: Directory, *, failed: Callable[[], None]
    ) -> None:
        self.directory = directory
        self._path = path
        self._failed = failed
        self._followers: list[Callable[[Directory], None]] = []
        self._asked = asyncio.Event()
        self._failures = 0
        self._complaints = Seldom(every_s=_COMPLAIN_EVERY_S)
        # not those of now: the files may have changed since the directory was read
        self._read: list[object] | None = None

    def follow(self, take: Callable[[Directory], None]) -> None:
        """Hands `take` each further directory, all in one step, in the order of these calls."""
        self._followers.append(take)

    def ask(self) -> None:
        """Has the files read at once, changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Looks at the files until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._asked.wait()
            asked = self._asked.is_set()
            self._asked.clear()
            await self.look(asked=asked)

    async def look(self, *, asked: bool = False) -> bool:
        """Takes changed files into use; False if they cannot be used."""
        try:
            found = await asyncio.to_thread(self._changed, asked=asked)
        except SettingsError as error:
            self._failures += 1
            self._failed()
            if asked or self._failures >= _ALARM_AT_FAILURE:
                self._complain(str(error))
            return False
        self._failures = 0
        if found is not None and found.fingerprint != self.directory.fingerprint:
            self._take(found)
        elif asked:
            log.info("tenants file read again, nothing has changed", file=str(self._path))
        return True

    def _changed(self, *, asked: bool) -> Directory | None:
        if self._path is None:
            return None
        files = files_of(self._path)
        # first: what changes while they are read is seen at the next look
        now: list[object] = [*map(str, files), *stamps(files)]
        if now == self._read and not asked:
            return None
        directory = read_tenants(self._path)
        self._read = now
        return directory

    def _take(self, directory: Directory) -> None:
        before, self.directory = self.directory.names, directory
        for take in self._followers:
            take(directory)
        log.info(
            "tenants file loaded again",
            tenants=len(directory.names),
            added=sorted(directory.names - before),
            removed=sorted(before - directory.names),
        )

    def _complain(self, cause: str) -> None:
        if self._complaints.due(cause):
            log.error(
                "changed tenants file cannot be used, the tenants before it stay:"
                " put it right, `forebay-ingest tenants check` says when it is",
                file=str(self._path),
                cause=cause.replace("\n", "; "),
            )
