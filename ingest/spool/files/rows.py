"""What a spool holds, as values and as rows: records that wait for Kafka, tokens for keys."""

import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ingest.contract.envelope import SOURCES, Source
from ingest.contract.eventlog import logfile
from ingest.contract.record import Record, StoredRecord
from ingest.values import SignedRequest

RECORD_COLUMNS = f"{logfile.COLUMNS}, source"
TOKEN_COLUMNS = "received_at, crc32, source, traceparent, token"  # noqa: S105 - no secret

_INSERTED_COLUMNS = f"{RECORD_COLUMNS}, size_bytes"
_MAX_BATCH_BYTES = 4 * 1024 * 1024

Insertion = tuple[str, list[Any]]
"""A statement and its values."""


class NewRecord(Struct, frozen=True, kw_only=True):
    """A record on its way into the spool."""

    record: Record
    source: Source

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value."""
        return len(self.record.key) + len(self.record.value)


class Held(Struct, frozen=True, kw_only=True):
    """A record as the spool holds it; `stored.offset` is its id."""

    stored: StoredRecord
    source: Source

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value."""
        return len(self.stored.key) + len(self.stored.value)

    @property
    def damaged(self) -> bool:
        """Whether it failed its checksum."""
        return self.stored.damaged

    @property
    def record(self) -> Record:
        """The record as it was handed over."""
        stored = self.stored
        return Record(
            topic=stored.topic, key=stored.key, value=stored.value, headers=stored.headers
        )


class HeldToken(Struct, frozen=True, kw_only=True):
    """A token as the spool holds it. A `damaged` one failed its checksum."""

    id: int
    request: SignedRequest
    damaged: bool = False

    @property
    def source(self) -> Source:
        """Which endpoint it came to."""
        return self.request.source

    @property
    def size_bytes(self) -> int:
        """Bytes of the token."""
        return len(self.request.token)


Item = NewRecord | SignedRequest
"""What goes in."""


class TopicCount(Struct, frozen=True, kw_only=True):
    """So many records of one topic and source."""

    topic: str
    source: Source
    records: int
    size_bytes: int


class TokenCount(Struct, frozen=True, kw_only=True):
    """So many tokens of one source."""

    source: Source
    tokens: int
    size_bytes: int


class Contents(Struct, frozen=True, kw_only=True):
    """What a spool holds, counted."""

    records: Sequence[TopicCount] = ()
    tokens: Sequence[TokenCount] = ()


def size_of(item: Item) -> int:
    """Bytes that count for the spool's bounds."""
    return len(item.token) if isinstance(item, SignedRequest) else item.size_bytes


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items in order, as many at once as one append takes."""
    rest = iter(items)
    for first in rest:
        batch, size_bytes = [first], size_of(first)
        while size_bytes < _MAX_BATCH_BYTES and len(batch) < logfile.APPEND_LIMIT:
            item = next(rest, None)
            if item is None:
                break
            batch.append(item)
            size_bytes += size_of(item)
        yield batch


def insertions(items: Sequence[Item]) -> list[Insertion]:
    """The statements that insert the items, one for the records and one for the tokens."""
    now_ms = time.time_ns() // 1_000_000
    records = [item for item in items if isinstance(item, NewRecord)]
    tokens = [item for item in items if isinstance(item, SignedRequest)]
    found: list[Insertion] = []
    values: list[Any]
    if records:
        values = [
            value
            for new in records
            for value in (*logfile.row_of(new.record, now_ms), new.source, new.size_bytes)
        ]
        found.append((logfile.insert_statement(len(records), _INSERTED_COLUMNS), values))
    if tokens:
        values = [value for token in tokens for value in _token_row(token)]
        found.append((logfile.insert_statement(len(tokens), TOKEN_COLUMNS, "token"), values))
    return found


def held_of(row: Sequence[Any]) -> Held:
    """The record of a row: its id, then `RECORD_COLUMNS`."""
    id_, *columns, source = row
    stored = logfile.stored(id_, columns)
    if source not in SOURCES:
        stored = replace(stored, damaged=True)
    return Held(stored=stored, source=source_of(source))


def held_token_of(row: Sequence[Any]) -> HeldToken:
    """The token of a row: its id, then `TOKEN_COLUMNS`."""
    id_, received_at, crc32, source, traceparent, token = row
    request = SignedRequest(
        token=token if isinstance(token, bytes) else b"",
        source=source_of(source),
        received_at=received_at if isinstance(received_at, float) else 0.0,
        traceparent=traceparent if isinstance(traceparent, str) else None,
    )
    damaged = _token_row(request) != (received_at, crc32, source, traceparent, token)
    return HeldToken(id=id_, request=request, damaged=damaged)


def source_of(text: object) -> Source:
    """A source as its column has it."""
    # a damaged source must not keep the record from going where its topic says
    return "pns" if text == "pns" else "live-events"


def token_checksum(request: SignedRequest) -> int:
    """Of all that its row says."""
    head = f"{float(request.received_at)!r} {request.source} {request.traceparent or ''} "
    return zlib.crc32(request.token, zlib.crc32(head.encode(errors="surrogateescape")))


def _token_row(request: SignedRequest) -> tuple[float, int, str, str | None, bytes]:
    return (
        float(request.received_at),
        token_checksum(request),
        request.source,
        request.traceparent,
        request.token,
    )
