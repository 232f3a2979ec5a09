"""What was unknown, in a file: it outlives the process, and a command can read it meanwhile.

A file, and not the log, because a log of Kafka's would have to be read whole to answer. Every
receiver has its own under its data directory, written some seconds after something new came. It is
a help for people, not a record: what a crash loses comes again.
"""

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from ingest.observing.drift import Drift, Sighting, Unknown, bounded

FILE_NAME = "drift.json"

log = structlog.get_logger(__name__)


class Line(Struct, frozen=True):
    """One thing that is unknown, as the file has it."""

    unknown: Unknown
    sighting: Sighting


def read(path: Path) -> dict[Unknown, Sighting]:
    """All that the file has; nothing where there is none, or none of ours. May raise OSError."""
    try:
        lines = msgspec.json.decode(path.read_bytes(), type=list[Line])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
    return {line.unknown: line.sighting for line in lines}


def add(path: Path, news: Mapping[Unknown, Sighting]) -> None:
    """Adds to what the file has, within the same bounds. May raise OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        kept = read(path)
        for unknown, sighting in news.items():
            key = bounded(kept, unknown)
            kept[key] = _sum(kept[key], sighting) if key in kept else sighting
        _replace(path, msgspec.json.encode([Line(u, s) for u, s in kept.items()]))


@contextlib.asynccontextmanager
async def keeping(drift: Drift, path: Path, *, every_s: float) -> AsyncIterator[None]:
    """Adds what is new to the file every so often while the block runs, and at its end."""
    noter = _Noter(drift, path)
    async with asyncio.TaskGroup() as tasks:
        noting = tasks.create_task(noter.run(every_s))
        try:
            yield
        finally:
            noting.cancel()
    await noter.note()


class _Noter:
    def __init__(self, drift: Drift, path: Path) -> None:
        self._drift = drift
        self._path = path
        self._noted: Mapping[Unknown, Sighting] = {}
        self._warned = False

    async def run(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self.note()

    async def note(self) -> None:
        noted, seen = self._noted, self._drift.seen()
        news = {u: _since(noted.get(u), s) for u, s in seen.items() if s != noted.get(u)}
        if not news:
            return
        # first, for what is cancelled half-way is written all the same, and may not count twice
        self._noted = seen
        try:
            await asyncio.to_thread(add, self._path, news)
        except OSError as error:
            self._noted = noted
            if not self._warned:
                log.warning("drift cannot be noted", file=str(self._path), error=error.strerror)
            self._warned = True


def _since(noted: Sighting | None, seen: Sighting) -> Sighting:
    return seen if noted is None else replace(seen, count=seen.count - noted.count)


def _sum(kept: Sighting, news: Sighting) -> Sighting:
    return Sighting(
        kept.count + news.count,
        min(kept.first_seen, news.first_seen),
        max(kept.last_seen, news.last_seen),
        kept.shape,
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other receivers out that have the same data directory."""
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, content: bytes) -> None:
    """Whoever reads finds the old file or the new one, never half of one."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)
