"""Where quarantine is, the topic in Kafka or the embedded log's file: read whole, appended to."""

import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ingest.contract.eventlog.eventlog import EventLog, EventLogReader
from ingest.contract.eventlog.logfile import LogFileError, LogFull
from ingest.contract.quarantine import Decided, Quarantined, Unreadable, read_quarantine
from ingest.contract.record import Record, StoredRecord
from ingest.contract.topics import quarantine_topic
from ingest.errors import NotDurable
from ingest.publishing.kafka.log import KafkaLog
from ingest.quarantine.named import NOTHING, Named, named_in
from ingest.shared.background import Background
from ingest.shared.kafka.topic_reader import read_topic

State = Literal["open", "released", "dropped"]
Wanted = Callable[[Quarantined], bool]

_READ_AT_ONCE = 200
_LOCK_WITHIN_S = 10.0
_CONNECT_TIMEOUT_S = 5.0


class Entry(Struct, frozen=True, kw_only=True):
    """The latest that is kept under a key, what its token names, and what was decided about it."""

    kept: Quarantined
    state: State
    decided_at: str | None = None
    unverified: bool = False
    named: Named = NOTHING

    @property
    def name(self) -> str:
        """The key as text."""
        return self.kept.key.decode(errors="backslashreplace")


class Contents(Struct, frozen=True, kw_only=True):
    """All that quarantine holds, oldest first; so many records could not be read."""

    entries: Sequence[Entry]
    unreadable: int


class QuarantineLog(Protocol):
    """One log with a quarantine in it."""

    def records(self) -> AsyncGenerator[StoredRecord, None]:
        """Every record of the quarantine as it is now, in order within a key's partition.

        Raises TopicError or LogFileError. Yields each once.
        """

    async def append(self, record: Record) -> None:
        """Returns once the record is durable. Raises NotDurable, TopicRefused or RecordTooLarge.

        After NotDurable it may be there or not.
        """

    async def close(self) -> None:
        """Lets go of everything."""


class KafkaQuarantine:
    """The topic. `client_options` are aiokafka's own; it connects once something is appended."""

    def __init__(
        self,
        client_options: dict[str, Any],
        prefix: str,
        *,
        publish_timeout_s: float,
        background: Background,
    ) -> None:
        self._options = client_options
        self._background = background
        self._topic = quarantine_topic(prefix)
        self._publish_timeout_s = publish_timeout_s
        self._log: KafkaLog | None = None

    def records(self) -> AsyncGenerator[StoredRecord, None]:
        """The topic up to its end."""
        return read_topic(self._options, self._topic)

    async def append(self, record: Record) -> None:
        """Returns once all in-sync replicas have it."""
        if self._log is None:
            self._log = KafkaLog(client_options=self._options, budget_s=self._publish_timeout_s)
            self._background.start("kafka publisher", self._log.run)
        await self._log.connected(_CONNECT_TIMEOUT_S)
        await self._log.append(record)

    async def close(self) -> None:
        """Lets go of the cluster."""
        if self._log is not None:
            await self._log.close()


class EmbeddedQuarantine:
    """The embedded log's file, which a receiver may be writing to at the same time."""

    def __init__(self, path: Path, prefix: str, *, max_bytes: int) -> None:
        self._path = path
        self._topic = quarantine_topic(prefix)
        self._max_bytes = max_bytes
        self._file: EventLog | None = None

    async def records(self) -> AsyncGenerator[StoredRecord, None]:
        """In short reads, none of which keeps the write-ahead log from shrinking."""
        reader = EventLogReader.open(self._path)
        try:
            bounds = reader.bounds()
            position = bounds.first
            while position < bounds.next and (found := reader.read(position, limit=_READ_AT_ONCE)):
                position = found[-1].offset + 1
                for record in found:
                    if record.topic == self._topic and record.offset < bounds.next:
                        yield record
        except sqlite3.Error as error:
            raise LogFileError(f"{self._path} cannot be read: {error}") from error
        finally:
            reader.close()

    async def append(self, record: Record) -> None:
        """Blocks for one commit of the disk. A receiver's commits go first while they keep coming.

        SQLite lets one write at a time, and who waits for it asks again ever less often.
        """
        deadline_s = time.monotonic() + _LOCK_WITHIN_S
        while True:
            try:
                if self._file is None:
                    self._file = EventLog.open(self._path, max_bytes=self._max_bytes)
                self._file.append([record])
                return
            except sqlite3.Error as error:
                busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline_s:
                    raise NotDurable(f"{self._path}: {error}") from error
            except (LogFull, LogFileError, OSError) as error:
                raise NotDurable(str(error)) from error

    async def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


class _Latest(Struct):
    """The latest record of a key of one kind, and where it was."""

    stored: StoredRecord
    said: Quarantined | Decided
    named: Named = NOTHING


async def contents(log: QuarantineLog, *, content_of: Wanted) -> Contents:
    """Folds the log. Tokens and records are kept only of what is wanted, for the memory's sake.

    Raises TopicError or LogFileError.
    """
    kept: dict[bytes, _Latest] = {}
    decided: dict[bytes, _Latest] = {}
    unreadable = 0
    async with aclosing(log.records()) as records:
        async for stored in records:
            try:
                said = read_quarantine(stored)
            except Unreadable:
                unreadable += 1
                continue
            place = kept if isinstance(said, Quarantined) else decided
            before = place.get(stored.key)
            if before is None or _is_later(stored, before.stored):
                place[stored.key] = _latest(stored, said, content_of)
    by_age = sorted(kept.values(), key=lambda latest: latest.stored.timestamp_ms)
    entries = [_entry(latest, decided.get(latest.stored.key)) for latest in by_age]
    return Contents(entries=entries, unreadable=unreadable)


def _latest(stored: StoredRecord, said: Quarantined | Decided, content_of: Wanted) -> _Latest:
    bare = replace(stored, value=b"", headers=())
    if isinstance(said, Decided):
        return _Latest(stored=bare, said=said)
    named = named_in(said)
    if not content_of(said):
        said = replace(said, token=None, record=None)
    return _Latest(stored=bare, said=said, named=named)


def _entry(latest: _Latest, decided: _Latest | None) -> Entry:
    assert isinstance(latest.said, Quarantined)
    # what was kept again after a decision is open again
    if decided is None or not _is_later(decided.stored, latest.stored):
        return Entry(kept=latest.said, state="open", named=latest.named)
    assert isinstance(decided.said, Decided)
    return Entry(
        kept=latest.said,
        state=decided.said.decision,
        decided_at=decided.said.at,
        unverified=decided.said.unverified,
        named=latest.named,
    )


def _is_later(one: StoredRecord, other: StoredRecord) -> bool:
    """A key keeps its partition, and there its order, unless partitions were added meanwhile."""
    if one.partition == other.partition:
        return one.offset > other.offset
    return one.timestamp_ms >= other.timestamp_ms
