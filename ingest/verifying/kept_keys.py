"""An issuer's last key set on the disk, so that a restart in an outage of its source knows it.

It holds public keys alone. A help like other state files: whoever cannot read or write it goes on.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog
from msgspec import Struct

from ingest.observing import state_file
from ingest.observing.state_file import Undecodable

log = structlog.get_logger(__name__)


class _Kept(Struct, frozen=True, kw_only=True):
    """As the file has it: the key set as it was fetched, and when, in Unix seconds."""

    issuer: str
    fetched_at: float
    key_set: str


class KeptKeys:
    """One file. `failed` is told its name each time that it cannot be read or written."""

    def __init__(self, file: Path, issuer: str, *, failed: Callable[[str], None]) -> None:
        self._file = file
        self._issuer = issuer
        self._failed = failed
        self._writing: asyncio.Future[None] | None = None
        self._said = False

    @classmethod
    def of(cls, directory: Path, issuer: str, url: str, *, failed: Callable[[str], None]) -> Self:
        """The file of an issuer whose keys are at `url`: what came from elsewhere has another."""
        name = hashlib.sha256(f"{issuer} {url}".encode()).hexdigest()[:16]
        return cls(directory / f"jwks-{name}.json", issuer, failed=failed)

    def read(self) -> tuple[bytes, float] | None:
        """The key set and the time of its fetch; None where there is none that can be read."""
        try:
            kept = state_file.read(self._file, _Kept)
        except (OSError, Undecodable) as error:
            self.warn(type(error).__name__)
            return None
        return None if kept is None else (kept.key_set.encode(), kept.fetched_at)

    def warn(self, cause: str) -> None:
        """Says that the file is of no use."""
        self._failed(self._file.name)
        log.warning(
            "kept keys cannot be read, starting without them",
            issuer=self._issuer,
            file=str(self._file),
            cause=cause,
        )

    def write(self, key_set: bytes, fetched_at: float) -> None:
        """Sets the writing going, in a thread; a disk that has not answered yet is left alone."""
        if self._writing is not None and not self._writing.done():
            return
        kept = _Kept(issuer=self._issuer, fetched_at=fetched_at, key_set=key_set.decode())
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, kept))
        self._writing.add_done_callback(self._written)

    def _write(self, kept: _Kept) -> None:
        with state_file.locked(self._file):
            state_file.write(self._file, kept)

    def _written(self, done: asyncio.Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._failed(self._file.name)
        if error is not None and not self._said:
            log.warning(
                "keys cannot be kept, a restart while their source is down would lack them",
                issuer=self._issuer,
                file=str(self._file),
                cause=type(error).__name__,
            )
        self._said = error is not None
