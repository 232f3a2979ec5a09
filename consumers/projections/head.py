"""The values that most tables begin with: whose the event is, when it was, who acted and where."""

from datetime import datetime
from typing import Any

from consumers.columns import fit_or_null, text_or_null
from ingest.contract import ids
from ingest.contract.envelope import Envelope

_IDS = ("actor_id", "context_id", "course_id")


def head(envelope: Envelope) -> dict[str, Any]:
    """The values of `tables.HEAD`."""
    metadata = envelope.metadata
    return {
        "event_id": envelope.event_id,
        "event_time": event_time(envelope),
        "received_at": fit_or_null(metadata.get("received_at"), "TIMESTAMPTZ"),
        "tenant": text_or_null(metadata.get("tenant")),
    }


def typed_head(envelope: Envelope) -> dict[str, Any]:
    """The values of `tables.TYPED_HEAD` as the metadata has them; the course comes later."""
    metadata = envelope.metadata
    return head(envelope) | {
        "format": text_or_null(metadata.get("format")),
        "trigger": text_or_null(metadata.get("trigger")),
        "actor_id": text_or_null(metadata.get("user_id")),
        "actor_login": text_or_null(metadata.get("user_login")),
        "context_type": text_or_null(metadata.get("context_type")),
        "context_id": text_or_null(metadata.get("context_id")),
    }


def make_global(values: dict[str, Any], envelope: Envelope) -> None:
    """Makes the head's ids global, where the event tells its shard: that of its root account."""
    for name in _IDS:
        named = values[name]
        if named is not None and len(named) <= ids.LOCAL_DIGITS:
            shard = ids.shard_of(text_or_null(envelope.metadata.get("root_account_id")))
            values[name] = ids.global_id(named, shard)


def event_time(envelope: Envelope) -> datetime | None:
    """When the event happened, or None where that is unknown or unreadable."""
    issues = envelope.metadata.get("issues")
    if isinstance(issues, list) and "metadata.event_time" in issues:
        return None
    moment: datetime | None = fit_or_null(envelope.metadata.get("event_time"), "TIMESTAMPTZ")
    return moment


def repeats_keep_time(envelope: Envelope, at: datetime | None) -> bool:
    """Whether all events of this id have this event's time, which is `at`.

    The id of an event in Canvas's own format covers its time. Those of notices and of Caliper
    events do not, and an event without a readable time has none to look for.
    """
    return at is not None and envelope.metadata.get("format") == "canvas"
