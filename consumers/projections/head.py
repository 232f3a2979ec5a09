"""The values that most tables begin with: whose the event is, and when it was."""

from datetime import datetime
from typing import Any

from consumers.columns import fit_or_null
from ingest.contract.envelope import Envelope


def head(envelope: Envelope) -> dict[str, Any]:
    """The values of `tables.HEAD`."""
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
