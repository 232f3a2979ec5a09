"""JSON values to what columns hold, and the columns that most tables begin with."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from consumers.handover import ColumnType
from ingest.contract.envelope import Envelope

HEAD: Mapping[str, ColumnType] = {
    "event_id": "TEXT",
    "event_time": "TIMESTAMPTZ",
    "received_at": "TIMESTAMPTZ",
    "tenant": "TEXT",
}
"""The columns that the table of any type begins with."""

_INT64 = range(-(2**63), 2**63)
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


class Misfit(Exception):
    """The value cannot be held by a column of this type."""


def head(envelope: Envelope) -> dict[str, Any]:
    """The values of HEAD."""
    metadata = envelope.metadata
    return {
        "event_id": envelope.event_id,
        "event_time": event_time(envelope),
        "received_at": fit_or_null(metadata.get("received_at"), "TIMESTAMPTZ"),
        "tenant": fit_or_null(metadata.get("tenant"), "TEXT"),
    }


def event_time(envelope: Envelope) -> datetime | None:
    """When the event happened, or None where that is unknown or unreadable."""
    issues = envelope.metadata.get("issues")
    if isinstance(issues, list) and "metadata.event_time" in issues:
        return None
    moment: datetime | None = fit_or_null(envelope.metadata.get("event_time"), "TIMESTAMPTZ")
    return moment


def repeats_keep_time(envelope: Envelope) -> bool:
    """Whether all events of this id have this event's time.

    The id of an event in Canvas's own format covers its time. Those of notices and of Caliper
    events do not, and an event without a readable time has none to look for.
    """
    in_canvas_format = envelope.metadata.get("format") == "canvas"
    return in_canvas_format and event_time(envelope) is not None


def fit(value: Any, column: ColumnType) -> Any:
    """What a column of this type holds for a JSON value; null stays None. Raises Misfit."""
    if value is None:
        return None
    match column:
        case "TEXT":
            return _text(value)
        case "BIGINT":
            return _bigint(value)
        case "DOUBLE":
            return _double(value)
        case "BOOLEAN":
            return _boolean(value)
        case "TIMESTAMPTZ":
            return _moment(value)
        case "JSON":
            return as_json(value)


def fit_or_null(value: Any, column: ColumnType) -> Any:
    """As `fit`, with None for what cannot be held."""
    try:
        return fit(value, column)
    except Misfit:
        return None


def as_text(value: Any) -> str:
    """Any JSON value as text: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> str:
    """Any JSON value as compact JSON text."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # integers beyond 64 bits, which orjson does not write
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(value: Any) -> str:
    # ids have come as numbers too; as text they still join
    if isinstance(value, str | int | float):
        return as_text(value)
    raise Misfit


def _bigint(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise Misfit
    if int(value) not in _INT64:
        raise Misfit
    return int(value)


def _double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Misfit
    try:
        number = float(value)
    except OverflowError:
        raise Misfit from None
    if number != value:
        raise Misfit
    return number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Misfit
    return value


def _moment(value: Any) -> datetime:
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise Misfit
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Misfit from None
