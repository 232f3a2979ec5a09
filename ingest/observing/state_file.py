"""Small files of ours that are always whole, whoever reads them and whenever the process ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

State = TypeVar("State")

_MODE = 0o600


class Undecodable(Exception):
    """The file is not as we write it."""


def read(path: Path, form: type[State]) -> State | None:
    """What the file has, in this form; None if there is none. Raises OSError or Undecodable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=form)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Undecodable(str(path)) from error


def write(path: Path, state: Any) -> None:
    """Replaces the file: a reader finds the old one or the new one. Raises OSError."""
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE), "wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps out others who have the same directory, which is made. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
