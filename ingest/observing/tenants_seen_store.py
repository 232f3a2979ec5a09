"""Whose authentic events no tenant takes, in a file that `forebay-ingest tenants seen` reads."""

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ingest.observing import state_file
from ingest.observing.sighting_store import SightingStore
from ingest.observing.tenants_seen import MAX_SENDERS, Sender, Sighting, TenantsSeen

FILE_NAME = "tenants-seen.json"


class Line(Struct, frozen=True):
    """One sender, as the file has it."""

    sender: Sender
    sighting: Sighting


def read(path: Path) -> dict[Sender, Sighting]:
    """All that the file has, what came last at the end; nothing where there is none, or none of
    ours. May raise OSError."""
    try:
        lines = state_file.read(path, list[Line]) or []
    except state_file.Undecodable:
        return {}
    return {line.sender: line.sighting for line in lines}


def add(path: Path, news: Mapping[Sender, Sighting]) -> None:
    """Adds to what the file has, and lets go of what came longest ago. May raise OSError."""
    with state_file.locked(path):
        kept = read(path)
        for sender, sighting in news.items():
            kept[sender] = _sum(kept[sender], sighting) if sender in kept else sighting
        by_age = sorted(kept.items(), key=lambda item: item[1].last_seen)
        state_file.write(path, [Line(*item) for item in by_age[-MAX_SENDERS:]])


class TenantsSeenStore(SightingStore[Sender, Sighting]):
    """Adds what this process has seen to the file."""

    def __init__(
        self, seen: TenantsSeen, path: Path, *, every_s: float, failed: Callable[[str], None]
    ) -> None:
        super().__init__(seen, path, since=_since, add=add, every_s=every_s, failed=failed)


def _since(written: Sighting, seen: Sighting) -> Sighting:
    # fewer: it had made room for others, and was counted from one again
    already = written.count if seen.count > written.count else 0
    return replace(seen, count=seen.count - already)


def _sum(kept: Sighting, news: Sighting) -> Sighting:
    later = news if news.last_seen >= kept.last_seen else kept
    return Sighting(
        count=kept.count + news.count,
        first_seen=min(kept.first_seen, news.first_seen),
        last_seen=later.last_seen,
        hostname=later.hostname or kept.hostname or news.hostname,
    )
