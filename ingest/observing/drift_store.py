"""What was unknown, in a file.

A file, and not the log, because a log of Kafka's would have to be read whole to answer.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ingest.observing import state_file
from ingest.observing.drift import Drift, Sighting, Unknown, bounded, kinds
from ingest.observing.sighting_store import SightingStore

FILE_NAME = "drift.json"


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


class DriftStore(SightingStore[Unknown, Sighting]):
    """Adds what drift has seen to the file."""

    def __init__(
        self, drift: Drift, path: Path, *, every_s: float, failed: Callable[[str], None]
    ) -> None:
        super().__init__(drift, path, since=_since, add=add, every_s=every_s, failed=failed)


def _since(written: Sighting, seen: Sighting) -> Sighting:
    return replace(seen, count=seen.count - written.count)


def _sum(kept: Sighting, news: Sighting) -> Sighting:
    return Sighting(
        kept.count + news.count,
        min(kept.first_seen, news.first_seen),
        max(kept.last_seen, news.last_seen),
        kept.shape,
    )
