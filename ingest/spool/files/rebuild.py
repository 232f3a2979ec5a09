"""A damaged spool: what can be read of it goes into a new file, and it is kept as it is, renamed.

What SQLite itself does not read any more is not in the new file; it is counted.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import structlog

from ingest.contract.eventlog.logfile import LogFileError
from ingest.spool.files.reader import SpoolReader
from ingest.spool.files.rows import HeldToken, Item, NewRecord, batches
from ingest.spool.files.store import SpoolFile

log = structlog.get_logger(__name__)

REBUILT_NAME = "rebuilt.sqlite3"
"""The new file's name until it takes the damaged one's place."""

_DAMAGED = "damaged-"
_SUFFIXES = ("", "-wal", "-shm")
_NO_BOUND = 1 << 62
# of the write-ahead log. Source: SQLite documentation, "Database File Format", section 4
_LOG_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_PAGE_BYTES = 4_096


class _Copying:
    """The sound items of a damaged file; what is `lost` is known once they all have been read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.kept = 0
        self.lost = 0

    def items(self) -> Iterator[Item]:
        try:
            reader = SpoolReader.open(self._path, whatever_it_is=True)
        except LogFileError:
            self.lost += 1  # at least: nothing says how many there were
            return
        with closing(reader):
            for held in reader.items():
                if held.damaged:
                    self.lost += 1
                    continue
                self.kept += 1
                if isinstance(held, HeldToken):
                    yield held.request
                else:
                    yield NewRecord(record=held.record, source=held.source)
            self.lost += reader.unreadable


def rebuild(path: Path) -> int:
    """Puts a new file in a damaged one's place, with what can be read of it; returns what is lost.

    The damaged one is renamed. Cut short anywhere, it is done again from the start.
    """
    rebuilt = made(path.with_name(REBUILT_NAME))
    copying = _Copying(path)
    with closing(SpoolFile.open(rebuilt)) as file:
        # who still has a row of the old file in hand must not remove another by its id
        file.begin_ids_after(time.time_ns() // 1_000)
        for batch in batches(copying.items()):
            file.append(batch, max_bytes=_NO_BOUND)
    # the file first: its log without it says nothing, and it without its log says too little
    damaged = path.with_name(f"{_DAMAGED}{time.time_ns()}.sqlite3")
    path.rename(damaged)
    put_in_place(path, rebuilt)
    log.error(
        "spool file damaged: kept what could be read, renamed the file",
        kept=copying.kept,
        lost=copying.lost,
        path=str(damaged),
    )
    return copying.lost


def put_in_place(path: Path, new: Path) -> None:
    """Gives a whole file its name, once the log of another that had it is out of the way."""
    old_log = path.with_name(path.name + "-wal")
    if old_log.exists():
        others = sorted(path.parent.glob(f"{_DAMAGED}*.sqlite3"))
        old_log.rename(f"{others[-1] if others else path.with_name(_DAMAGED)}-wal")
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    new.rename(path)


def made(path: Path) -> Path:
    """A new, empty file, made under a name under which nobody looks for a spool."""
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    SpoolFile.open(path).close()
    return path


def dropped_commits(path: Path, frames_in_log: int) -> int:
    """Commits behind a damaged one, which SQLite passes over without a word. Keeps a copy of them.

    A crash leaves one unfinished commit at most, and nobody was told of that: each is on the disk
    before the next begins. So where there are two or more, the write-ahead log is damaged.
    """
    wal = path.with_name(path.name + "-wal")
    frame_bytes = _FRAME_HEADER_BYTES + _PAGE_BYTES
    commits = 0
    if not wal.exists():
        return 0
    with wal.open("rb") as file:
        file.seek(_LOG_HEADER_BYTES)
        round_ = file.read(_FRAME_HEADER_BYTES)[8:16]  # frames of an earlier round have other salts
        file.seek(_LOG_HEADER_BYTES + frames_in_log * frame_bytes)
        while frame := file.read(frame_bytes):
            if frame[8:16] == round_:
                commits += any(frame[4:8])
    if commits < 2:
        return 0
    copy = path.with_name(f"{_DAMAGED}{time.time_ns()}.sqlite3-wal")
    shutil.copyfile(wal, copy)
    log.error("spool write-ahead log damaged: commits are lost", commits=commits, path=str(copy))
    return commits
