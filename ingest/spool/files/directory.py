"""The spool's place on the disk: who owns it, its file, its reserve, and what to do with damage."""

import shutil
import sqlite3
from pathlib import Path
from typing import Self

import structlog
from msgspec import Struct

from ingest.contract.eventlog.logfile import LogFileError
from ingest.spool.files.ownership import Ownership
from ingest.spool.files.rebuild import REBUILT_NAME, dropped_commits, made, put_in_place, rebuild
from ingest.spool.files.reserve import RESERVE_NAME, Reserve
from ingest.spool.files.rows import Contents
from ingest.spool.files.store import FILE_NAME, SpoolFile

log = structlog.get_logger(__name__)

_NEW_NAME = "new.sqlite3"


class Opening(Struct, frozen=True, kw_only=True):
    """What was found. `unreadable` counts events that are lost, as far as anyone can tell."""

    contents: Contents
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
        """Opens or makes a spool; of a damaged file it keeps what can be read.

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
        cause = "the disk has too little room"
        try:
            if not size_bytes or self.reserve.take():
                return
        except OSError as error:
            cause = str(error)
        log.warning(
            "no reserve for notices: only they are taken until there is room for it",
            cause=cause,
            needed_bytes=2 * size_bytes,
            path=str(self.path),
        )

    def free_bytes(self) -> int:
        """What its disk has left for us, beside the reserve."""
        return shutil.disk_usage(self.path).free

    def warn_of_little_room(self, max_bytes: int) -> None:
        """Says so where the disk will be full before the spool has `max_bytes`."""
        reserve_bytes = self.reserve.size_bytes if self.reserve.held else 0
        room_bytes = self.free_bytes() + self.file.usage.used_bytes() + reserve_bytes
        if room_bytes < max_bytes:
            log.warning(
                "the spool's disk has less room than the spool may take:"
                " free some, or lower FOREBAY_SPOOL__MAX_BYTES",
                path=str(self.path.absolute()),
                room_bytes=room_bytes,
                max_bytes=max_bytes,
            )

    def open_file(self) -> Opening:
        """Opens the file, or a new one with what can be read of a damaged one."""
        path = self.path / FILE_NAME
        self._make_if_there_is_none(path)
        try:
            if path.is_file() and not path.stat().st_size:
                raise LogFileError(f"{path} is empty")  # ours never are
            return self._open(path)
        except (LogFileError, sqlite3.DatabaseError) as error:
            log.error("spool file damaged", path=str(path), cause=str(error))
        return self._open(path, lost=rebuild(path))

    def rebuild_file(self) -> Opening:
        """The same for a file that is open and turned out to be damaged somewhere.

        If it fails the file is closed, and it is to be called again.
        """
        path = self.path / FILE_NAME
        self.file.close()
        lost = rebuild(path) if path.exists() else 0
        self._make_if_there_is_none(path)  # what was tried before may have come so far
        return self._open(path, lost=lost)

    def close(self) -> None:
        """Lets go of it; what is in it stays."""
        self.file.close()
        self._ownership.close()

    def _make_if_there_is_none(self, path: Path) -> None:
        rebuilt = self.path / REBUILT_NAME
        if not path.exists():
            put_in_place(path, rebuilt if rebuilt.exists() else made(self.path / _NEW_NAME))

    def _open(self, path: Path, *, lost: int = 0) -> Opening:
        self.file = SpoolFile.open(path)
        try:
            lost += dropped_commits(path, self.file.frames_in_log())
            return Opening(contents=self.file.contents(), unreadable=lost)
        except (OSError, sqlite3.DatabaseError):
            self.file.close()
            raise
