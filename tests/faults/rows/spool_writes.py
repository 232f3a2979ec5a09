"""Row 26: a crash in every write of the spool, on copies of its files as they were just then."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ingest.contract.envelope import SOURCES
from ingest.contract.record import Record
from ingest.spool.files.directory import SpoolDirectory
from ingest.spool.files.rows import Item, NewRecord
from ingest.spool.files.store import FILE_NAME, SpoolFile
from ingest.values import SignedRequest
from tests.faults.grounds import Grounds
from tests.faults.verdict import Tally, Violation

COMMITS: Final = 120
QUICK_COMMITS: Final = 40
MOST_AT_ONCE: Final = 12
CUTS_PER_COMMIT: Final = 3
CHECKPOINT_EVERY: Final = 15
PAGE_BYTES: Final = 4_096
NO_BOUND: Final = 1 << 40

_WAL_NAME: Final = f"{FILE_NAME}-wal"
_MOST_NOTES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The spool's files at one moment."""

    file: bytes
    wal: bytes

    @classmethod
    def of(cls, spool: Path) -> Files:
        """As they are now, as far as the operating system has been told."""
        wal = spool / _WAL_NAME
        return cls(
            file=(spool / FILE_NAME).read_bytes(), wal=wal.read_bytes() if wal.exists() else b""
        )


@dataclass(slots=True, kw_only=True)
class Run:
    """A spool in use, and what its copies showed. `acknowledged` may not be missing in any."""

    spool: Path
    rng: random.Random
    acknowledged: set[bytes] = field(default_factory=set)
    ever: set[bytes] = field(default_factory=set)
    lost: set[bytes] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def compare(self, files: Files, *allowed: Set[bytes], when: str) -> None:
        """A copy must hold exactly one of the allowed contents, and nothing of it damaged."""
        found = _reopened(files)
        if found not in allowed:
            least = frozenset.intersection(*map(frozenset, allowed))
            self.lost |= least - found
            self.wrong.append(f"{when}: {len(least - found)} missing, {len(found)} found")


async def crash_at_every_write(grounds: Grounds, seed: int) -> Tally:
    """Appends, removals and checkpoints, each ended at its begin, its end and in between."""
    commits = QUICK_COMMITS if grounds.quick else COMMITS
    return await asyncio.to_thread(_swept, seed, commits)


def _swept(seed: int, commits: int) -> Tally:
    with tempfile.TemporaryDirectory(prefix="forebay-writes-") as place:
        run = Run(spool=Path(place) / "spool", rng=random.Random(seed))
        directory, _ = SpoolDirectory.open(run.spool, reserve_bytes=0)
        with contextlib.closing(directory):
            for number in range(1, commits + 1):
                _write(run, directory.file)
                if number % CHECKPOINT_EVERY == 0:
                    _checkpoint(run)
    violations = [Violation(invariant="I1", seen=seen) for seen in run.wrong[:_MOST_NOTES]]
    return Tally(
        events=len(run.ever),
        acked=len(run.ever),
        lost=len(run.lost),
        violations=tuple(violations),
    )


def _write(run: Run, file: SpoolFile) -> None:
    """One commit, and a look at what a crash in the midst of it leaves behind."""
    before, old = Files.of(run.spool), frozenset(run.acknowledged)
    if old and run.rng.random() < 0.3:
        if tokens := run.rng.random() < 0.3 and file.read_tokens(
            after=0, limit=3, max_bytes=NO_BOUND
        ):
            file.forget_tokens([held.id for held in tokens])
            run.acknowledged -= {_key(held.request) for held in tokens}
        else:
            records = file.read(after=0, limit=8, max_bytes=NO_BOUND)
            file.forget([held.stored.offset for held in records])
            run.acknowledged -= {held.stored.key for held in records}
    else:
        items = [_item(run) for _ in range(run.rng.randint(1, MOST_AT_ONCE))]
        file.append(items, max_bytes=NO_BOUND)
        run.acknowledged |= {_key(item) for item in items}
    run.ever |= run.acknowledged
    after = Files.of(run.spool)
    run.compare(after, run.acknowledged, when="after a commit")
    for torn in _torn(run.rng, before, after):
        run.compare(torn, old, when="in a commit")


def _torn(rng: random.Random, before: Files, after: Files) -> Iterator[Files]:
    """What a crash leaves of one commit: any first part of its bytes, or pages out of order."""
    start = len(before.wal) if after.wal.startswith(before.wal) else 0
    if before.file != after.file or start == 0 or len(after.wal) <= start:
        return  # the log began anew, behind frames of before
    for _ in range(CUTS_PER_COMMIT):
        yield Files(file=after.file, wal=after.wal[: rng.randrange(start, len(after.wal))])
    hole = rng.randrange(start, len(after.wal))
    end = min(len(after.wal), hole + 512)
    if any(after.wal[hole:end]):
        wal = after.wal[:hole] + bytes(end - hole) + after.wal[end:]
        yield Files(file=after.file, wal=wal)


def _checkpoint(run: Run) -> None:
    """Moves the log into the file; a crash leaves any of its pages moved, and the log as it was."""
    before = Files.of(run.spool)
    with contextlib.closing(sqlite3.connect(run.spool / FILE_NAME)) as connection:
        connection.execute("pragma wal_checkpoint(passive)").fetchall()
    after = Files.of(run.spool)
    run.compare(after, run.acknowledged, when="after a checkpoint")
    for _ in range(CUTS_PER_COMMIT):
        pages = b"".join(
            run.rng.choice((before, after)).file[start : start + PAGE_BYTES]
            or after.file[start : start + PAGE_BYTES]
            for start in range(0, len(after.file), PAGE_BYTES)
        )
        run.compare(Files(file=pages, wal=before.wal), run.acknowledged, when="in a checkpoint")


def _item(run: Run) -> Item:
    key = run.rng.randbytes(16)
    value = run.rng.randbytes(run.rng.choice((10, 600, 3_000, 20_000)))
    source = run.rng.choice(SOURCES)
    if run.rng.random() < 0.2:
        return SignedRequest(token=key + value, source=source, received_at=run.rng.random())
    topic = run.rng.choice(("a", "b", "c"))
    return NewRecord(record=Record(topic=topic, key=key, value=value, headers=()), source=source)


def _key(item: Item) -> bytes:
    return item.token[:16] if isinstance(item, SignedRequest) else item.record.key


def _reopened(files: Files) -> frozenset[bytes]:
    """The keys in a copy, as the next process finds them; damaged ones are not among them."""
    place = Path(tempfile.mkdtemp(prefix="forebay-copy-"))
    try:
        (place / FILE_NAME).write_bytes(files.file)
        (place / _WAL_NAME).write_bytes(files.wal)
        directory, _ = SpoolDirectory.open(place, reserve_bytes=0)
        with contextlib.closing(directory):
            records = directory.file.read(after=0, limit=1_000_000, max_bytes=NO_BOUND)
            tokens = directory.file.read_tokens(after=0, limit=1_000_000, max_bytes=NO_BOUND)
        keys = [each.stored.key for each in records if not each.damaged]
        return frozenset([*keys, *(_key(each.request) for each in tokens if not each.damaged)])
    finally:
        shutil.rmtree(place)
