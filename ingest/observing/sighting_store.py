"""What was seen, in a file: it outlives the process, and a command can read it meanwhile.

Every receiver has its own files under its data directory, written some seconds after something new
came. They are a help for people, not a record: what a crash loses comes again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

log = structlog.get_logger(__name__)

Key = TypeVar("Key", bound=Hashable)
Seen = TypeVar("Seen")
SeenNow = TypeVar("SeenNow", covariant=True)

_CLOSE_TIMEOUT_S = 2.0


class Seeing(Protocol[Key, SeenNow]):
    """What has seen something."""

    def seen(self) -> Mapping[Key, SeenNow]:
        """All of it, as it is now; later changes do not show in it."""


class SightingStore(Generic[Key, Seen]):
    """Adds what is new to the file every `every_s` seconds, and when it is closed.

    `since` is what the second sighting has more than the first, an earlier one of the same; `add`
    brings such news into the file and may raise OSError. `failed` is told the file's name each
    time that it cannot be written.
    """

    def __init__(
        self,
        seeing: Seeing[Key, Seen],
        path: Path,
        *,
        since: Callable[[Seen, Seen], Seen],
        add: Callable[[Path, Mapping[Key, Seen]], None],
        every_s: float,
        failed: Callable[[str], None],
    ) -> None:
        self._seeing = seeing
        self._path = path
        self._since = since
        self._add = add
        self._every_s = every_s
        self._failed = failed
        self._written: Mapping[Key, Seen] = {}
        self._warned = False

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.write()

    async def close(self) -> None:
        """Writes what is new, if the disk answers in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.write()

    async def write(self) -> None:
        """Adds what is new, if anything is; a file that cannot be written is said once."""
        written, seen = self._written, self._seeing.seen()
        news = {
            key: self._since(written[key], sighting) if key in written else sighting
            for key, sighting in seen.items()
            if sighting != written.get(key)
        }
        if not news:
            return
        # first, for what is cancelled half-way is written all the same, and may not count twice
        self._written = seen
        try:
            await asyncio.to_thread(self._add, self._path, news)
        except OSError as error:
            self._written = written
            self._failed(self._path.name)
            if not self._warned:
                log.warning(
                    "what was seen cannot be written, a restart would forget it:"
                    " check the data directory",
                    file=str(self._path),
                    cause=error.strerror,
                )
            self._warned = True
        else:
            self._warned = False
