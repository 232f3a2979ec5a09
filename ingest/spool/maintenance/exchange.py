"""A spool's contents as lines of JSON, one record or token each, out of one spool and into another.

A record's members are topic, source, key and value (base64), headers (pairs of texts), appended_ms
(Unix milliseconds) and crc32, the checksum as in the file; a token's are token (base64), source,
received_at (Unix seconds), traceparent (a text or null) and crc32.
"""

import base64
import binascii
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from msgspec import Struct, field

from ingest.contract import strict_json
from ingest.contract.envelope import SOURCES
from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import LogFull
from ingest.contract.record import Record
from ingest.spool.files.rows import (
    Held,
    HeldToken,
    Item,
    NewRecord,
    batches,
    token_checksum,
)
from ingest.spool.files.store import SpoolFile
from ingest.values import SignedRequest


class LineRefused(ValueError):
    """The line is no sound record; the text says why, in words that can be counted."""


class Imported(Struct, kw_only=True):
    """How it went: lines `taken`, and `refused` ones by reason."""

    taken: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def to_line(held: Held | HeldToken) -> bytes:
    """A sound record or token as a line, without its end."""
    if isinstance(held, HeldToken):
        request = held.request
        return orjson.dumps(
            {
                "token": base64.b64encode(request.token).decode(),
                "source": request.source,
                "received_at": request.received_at,
                "traceparent": request.traceparent,
                "crc32": token_checksum(request),
            }
        )
    record = held.record
    return orjson.dumps(
        {
            "topic": record.topic,
            "source": held.source,
            "key": base64.b64encode(record.key).decode(),
            "value": base64.b64encode(record.value).decode(),
            "headers": [[name, value.decode()] for name, value in record.headers],
            "appended_ms": held.stored.timestamp_ms,
            "crc32": _checksum(record),
        }
    )


def from_line(line: bytes) -> Item:
    """The record or token of a line. Raises LineRefused."""
    try:
        members = strict_json.loads(line)
    except strict_json.NotJSON as error:
        raise LineRefused("not JSON") from error
    if not isinstance(members, dict):
        raise LineRefused("not a JSON object")
    item: Item
    try:
        if "token" in members:
            item = _token(members)
            crc32 = token_checksum(item)
        else:
            item = NewRecord(record=_record(members), source=members["source"])
            crc32 = _checksum(item.record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LineRefused("not a record") from error
    if item.source not in SOURCES:
        raise LineRefused("source is not one of ours")
    if crc32 != members.get("crc32"):
        raise LineRefused("checksum is wrong")
    return item


def import_lines(lines: Iterable[bytes], file: SpoolFile, *, max_bytes: int) -> Imported:
    """Appends what is sound, in order, to a file that nobody else writes.

    What no longer fits, or the disk refuses, is refused.
    """
    result = Imported()
    for batch in batches(_sound(lines, result)):
        try:
            file.append(batch, max_bytes=max_bytes)
        except LogFull:
            result.refused["the spool is full"] += len(batch)
        except sqlite3.Error as error:
            result.refused[f"the disk refuses it: {error}"] += len(batch)
        else:
            result.taken += len(batch)
    return result


def _sound(lines: Iterable[bytes], result: Imported) -> Iterator[Item]:
    for line in lines:
        if not line.strip():
            continue
        try:
            yield from_line(line)
        except LineRefused as refusal:
            result.refused[str(refusal)] += 1


def _token(members: Mapping[str, Any]) -> SignedRequest:
    traceparent = members.get("traceparent")
    return SignedRequest(
        token=_bytes(members["token"]),
        source=members["source"],
        received_at=float(members["received_at"]),
        traceparent=None if traceparent is None else _text(traceparent),
    )


def _record(members: Mapping[str, Any]) -> Record:
    topic = members["topic"]
    if not isinstance(topic, str) or not topic:
        raise ValueError("topic")
    return Record(
        topic=topic,
        key=_bytes(members["key"]),
        value=_bytes(members["value"]),
        headers=tuple((_text(name), _text(value).encode()) for name, value in members["headers"]),
    )


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("base64") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _checksum(record: Record) -> int:
    _, crc32, *_ = logfile.row_of(record, 0)
    return crc32
