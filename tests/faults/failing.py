"""Runs the receiver on a spool disk that fails as a file says, from one call to the next.

    python -m tests.faults.failing CONTROL serve
    python -m tests.faults.failing CONTROL POINT[:N] serve

CONTROL is the path of a file with the name of a `Trouble`; without it, or empty, all is well. With
a point the process ends there, as by `tests.faults.crashing`.
"""

from __future__ import annotations

import functools
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from ingest.spool.files.reserve import RESERVE_NAME, Reserve
from ingest.spool.files.store import SpoolFile
from tests.faults import crashing

Trouble = Literal["full", "io error", "read-only", "fsync error", "slow", "small"]
"""`full` has room again once the reserve is given up, and `small` is a bound on any file's size."""

SLOW_S: Final = 0.5

_WRITES: Final = (
    "append",
    "forget",
    "forget_tokens",
    "move_damaged",
    "probe",
    "give_back",
)
_SYNCED: Final = ("append", "forget", "forget_tokens")
_SMALL_BYTES: Final = 256 * 1024
_ERRORS: Final[dict[str, tuple[str, int]]] = {
    "full": ("database or disk is full", sqlite3.SQLITE_FULL),
    "io error": ("disk I/O error", sqlite3.SQLITE_IOERR_WRITE),
    "read-only": ("attempt to write a readonly database", sqlite3.SQLITE_READONLY),
    "fsync error": ("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC),
}


class FailingDisk:
    """What stands between the program and its spool's file."""

    def __init__(self, control: Path) -> None:
        self._control = control

    def install(self) -> None:
        """From now on in this process."""
        for name in _WRITES:
            setattr(SpoolFile, name, self._written(getattr(SpoolFile, name), name))
        setattr(Reserve, "take", self._taken(Reserve.take))  # noqa: B010 - mypy knows no such change

    @property
    def _trouble(self) -> str:
        try:
            return self._control.read_text()
        except FileNotFoundError:
            return ""

    def _written(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def writes(file: SpoolFile, *args: Any, **kwargs: Any) -> Any:
            trouble = self._trouble
            _bound_files(_SMALL_BYTES if trouble == "small" else resource.RLIM_INFINITY)
            if trouble in _ERRORS and (trouble != "full" or _reserve_of(file).exists()):
                raise _error(*_ERRORS[trouble])
            if trouble == "slow" and name in _SYNCED:
                time.sleep(SLOW_S)
            return function(file, *args, **kwargs)

        return writes

    def _taken(self, take: Callable[[Reserve], bool]) -> Callable[[Reserve], bool]:
        @functools.wraps(take)
        def takes(reserve: Reserve) -> bool:
            return (self._trouble != "full" or reserve._is_whole()) and take(reserve)

        return takes


def _reserve_of(file: SpoolFile) -> Path:
    (_, _, path) = file._connection.execute("pragma database_list").fetchone()
    return Path(path).with_name(RESERVE_NAME)


def _error(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def _bound_files(most_bytes: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))


def main(arguments: list[str]) -> None:
    """Installs the disk, and runs the receiver, to a point if one is named."""
    control, *place, command = arguments
    # a write beyond the bound is to fail, not to end the process
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    FailingDisk(Path(control)).install()
    if place:
        crashing.main([*place, command])
    else:
        crashing.run(command)


if __name__ == "__main__":
    main(sys.argv[1:])
