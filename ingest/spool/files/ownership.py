"""A spool's directory has one owner at a time: the process that holds its lock."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from msgspec import Struct

from ingest.contract.eventlog.logfile import LogFileError

LOCK_NAME = "owner.lock"

_LOCK_WITHIN_S = 0.5


class Owner(Struct, frozen=True, kw_only=True):
    """A process that has a spool; `pid` is None where it has not written it down yet."""

    pid: int | None


class Ownership:
    """The right to a spool directory, until it is closed or the process ends."""

    def __init__(self, directory: Path) -> None:
        """Raises LogFileError if another process owns it, OSError if it cannot be made."""
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / LOCK_NAME).open("a+")
        if not _locked(self._file):
            pid = _written_pid(directory)
            self._file.close()
            raise LogFileError(f"{directory} is in use by process {pid or '?'}")
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        """Lets others own it."""
        self._file.close()


def owner(directory: Path) -> Owner | None:
    """Who owns a spool's directory now, if anybody does. Raises LogFileError if nobody may look."""
    try:
        with (directory / LOCK_NAME).open() as lock:
            # held for no longer than this block, and shared, so that two who look do not meet
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Owner(pid=_written_pid(directory))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogFileError(f"{directory / LOCK_NAME} cannot be read: {error.strerror}") from error
    return None


def _locked(file: IO[str]) -> bool:
    """Tries for a moment: who only looks, or is about to end, holds the lock no longer."""
    deadline = time.monotonic() + _LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _written_pid(directory: Path) -> int | None:
    """The process id that owned the directory last, as far as it is known."""
    try:
        return int((directory / LOCK_NAME).read_text() or "0") or None
    except (OSError, ValueError):
        return None
