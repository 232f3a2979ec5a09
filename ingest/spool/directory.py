"""The spool's place on the disk: who owns it, its file, its reserve, and what to do with damage."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Self

import structlog
from msgspec import Struct
from msgspec.structs import replace

from ingest.contract.eventlog.logfile import LogFileError
from ingest.spool import wal
from ingest.spool.recover import Salvage, mend_beginning, salvage
from ingest.spool.reserve import Reserve
from ingest.spool.store import (
    FILE_NAME,
    RESERVE_NAME,
    Holding,
    Ownership,
    SpoolFile,
    batches,
)

log = structlog.get_logger(__name__)

REBUILT_NAME = "rebuilt.sqlite3"
"""The new file's name until it takes the damaged one's place."""

_NEW_NAME = "new.sqlite3"
_ASIDE = "damaged-"
_SUFFIXES = ("", "-wal", "-shm")
_NO_BOUND = 1 << 62


class Opening(Struct, frozen=True, kw_only=True):
    """What was found. `unreadable` counts records that are lost, as far as anyone can tell."""

    holdings: list[Holding]
    unreadable: int = 0


class SpoolDirectory:
    """One spool, owned by this process until `close`. Blocking; for one thread at a time."""

    def __init__(self, path: Path, ownership: Ownership, reserve: Reserve) -> None:
        self.path = path
        self.reserve = reserve
        self.file: SpoolFile
        self._ownership = ownership

    @classmethod
    def open(cls, path: Path, *, reserve_bytes: int) -> tuple[Self, Opening]:
        """Opens or makes a spool; a damaged file is set aside, and what can be read of it kept.

        Raises LogFileError if another process owns it, OSError if it cannot be written.
        """
        ownership = Ownership(path)
        directory = cls(path, ownership, Reserve(path / RESERVE_NAME, reserve_bytes))
        try:
            opening = directory.open_file()
        except BaseException:
            ownership.close()
            raise
        directory.take_reserve(reserve_bytes)
        return directory, opening

    def take_reserve(self, size_bytes: int) -> None:
        """Takes the notices' reserve if it can; later is time enough."""
        try:
            if not size_bytes or self.reserve.take():
                return
        except OSError as error:
            log.warning("the notices' reserve cannot be taken", cause=str(error))
        log.warning("the disk has no room for the notices' reserve", path=str(self.path))

    def open_file(self) -> Opening:
        """Opens the file, or a new one with what can be read of a damaged one."""
        path, rebuilt = self.path / FILE_NAME, self.path / REBUILT_NAME
        if not path.exists():
            _put_in_place(path, rebuilt if rebuilt.exists() else _made(self.path / _NEW_NAME))
        try:
            if path.is_file() and not path.stat().st_size:
                raise LogFileError(f"{path} is empty")  # ours never are
            if wal.mend(path.with_name(f"{path.name}-wal")):
                raise LogFileError(f"{path} has a damaged write-ahead log")
            return self._open(path)
        except (LogFileError, sqlite3.DatabaseError) as error:
            log.error("the spool is damaged", path=str(path), cause=str(error))
        return self._open_rebuilt()

    def reopen_file(self) -> Opening:
        """The same for a file that is open and turned out to be damaged somewhere."""
        self.file.close()
        return self._open_rebuilt()

    def _open_rebuilt(self) -> Opening:
        lost = rebuild(self.path / FILE_NAME, self.path / REBUILT_NAME)
        return replace(self._open(self.path / FILE_NAME), unreadable=lost)

    def _open(self, path: Path) -> Opening:
        self.file = SpoolFile.open(path)
        try:
            return Opening(holdings=self.file.holdings())
        except sqlite3.DatabaseError:
            self.file.close()
            raise

    def close(self) -> None:
        """Lets go of it; what is in it stays."""
        self.file.close()
        self._ownership.close()


def rebuild(path: Path, rebuilt: Path) -> int:
    """A new file with what can be read of the damaged one, which is set aside; returns what is
    lost. Cut short anywhere, it is done again from the start."""
    for suffix in _SUFFIXES:
        rebuilt.with_name(rebuilt.name + suffix).unlink(missing_ok=True)
    result = Salvage()
    SpoolFile.open(rebuilt).close()
    mend_beginning(path, like=rebuilt)
    with closing(SpoolFile.open(rebuilt)) as file, closing(salvage(path, result)) as read:
        for batch in batches(read):
            file.append(batch, max_bytes=_NO_BOUND)
    # the file first: its log without it says nothing, and it without its log says too little
    aside = path.with_name(f"{_ASIDE}{time.time_ns()}.sqlite3")
    path.rename(aside)
    _put_in_place(path, rebuilt)
    log.error(
        "what could be read of the damaged spool was kept, the file is set aside",
        kept=result.kept,
        lost=result.lost,
        path=str(aside),
    )
    return result.lost


def _put_in_place(path: Path, new: Path) -> None:
    """Gives a whole file its name, once the log of another that had it is out of the way."""
    old_log = path.with_name(path.name + "-wal")
    if old_log.exists():
        asides = sorted(path.parent.glob(f"{_ASIDE}*.sqlite3"))
        old_log.rename(f"{asides[-1] if asides else path.with_name(_ASIDE)}-wal")
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    new.rename(path)


def _made(path: Path) -> Path:
    """A new file, made under a name under which nobody looks for it."""
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    SpoolFile.open(path).close()
    return path
