"""What was unknown, in a file: it outlives the process, and a command can read it meanwhile.

A file, and not the log, because a log of Kafka's would have to be read whole to answer. Every
receiver has its own under its data directory, written some seconds after something new came. It is
a help for people, not a record: what a crash loses comes again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from msgspec import Struct
from msgspec.structs import replace

from ingest.observing import state_file
from ingest.observing.drift import Drift, Sighting, Unknown, bounded, kinds

FILE_NAME = "drift.json"

log = structlog.get_logger(__name__)

_CLOSE_TIMEOUT_S = 2.0


class Line(Struct, frozen=True):
    """One thing that is unknown, as the file has it."""

    unknown: Unknown
    sighting: Sighting


def read(path: Path) -> dict[Unknown, Sighting]:
    """All that the file has; nothing where there is none, or none of ours. May raise OSError."""
    try:
        lines = state_file.read(path, list[Line]) or []
    except state_file.Undecodable:
        return {}
    return {line.unknown: line.sighting for line in lines}


def add(path: Path, news: Mapping[Unknown, Sighting]) -> None:
    """Adds to what the file has, within the same bounds. May raise OSError."""
    with state_file.locked(path):
        kept = read(path)
        named = kinds(kept)
        for unknown, sighting in news.items():
            key = bounded(kept, named, unknown)
            named[key.kind] += key not in kept
            kept[key] = _sum(kept[key], sighting) if key in kept else sighting
        state_file.write(path, [Line(u, s) for u, s in kept.items()])


class DriftStore:
    """Adds what is new to the file every `every_s` seconds, and when it is closed.

    `failed` is told the file's name each time that it cannot be written.
    """

    def __init__(
        self, drift: Drift, path: Path, *, every_s: float, failed: Callable[[str], None]
    ) -> None:
        self._drift = drift
        self._path = path
        self._every_s = every_s
        self._failed = failed
        self._written: Mapping[Unknown, Sighting] = {}
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
        written, seen = self._written, self._drift.seen()
        news = {u: _since(written.get(u), s) for u, s in seen.items() if s != written.get(u)}
        if not news:
            return
        # first, for what is cancelled half-way is written all the same, and may not count twice
        self._written = seen
        try:
            await asyncio.to_thread(add, self._path, news)
        except OSError as error:
            self._written = written
            self._failed(self._path.name)
            if not self._warned:
                cause = error.strerror
                log.warning("drift file cannot be written", file=str(self._path), cause=cause)
            self._warned = True
        else:
            self._warned = False


def _since(written: Sighting | None, seen: Sighting) -> Sighting:
    return seen if written is None else replace(seen, count=seen.count - written.count)


def _sum(kept: Sighting, news: Sighting) -> Sighting:
    return Sighting(
        kept.count + news.count,
        min(kept.first_seen, news.first_seen),
        max(kept.last_seen, news.last_seen),
        kept.shape,
    )
