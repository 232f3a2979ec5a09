"""Where an envelope goes: its topic, its key, and the topics that must exist."""

import re
from functools import lru_cache

from ingest.contract.catalogue import catalogue
from ingest.contract.envelope import SOURCES, Envelope, Source

PREFIX_PATTERN = r"[a-z0-9.-]+"
"""What `FOREBAY_TOPICS__PREFIX` may look like."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest record, in bytes, that topics, producer and consumer all agree to."""

MAX_RECORD_BYTES = MAX_MESSAGE_BYTES - 1024
"""Largest record that surely fits into a message with what Kafka adds to it."""

UNRECOGNISED = "unrecognised"
QUARANTINE = "quarantine.v1"


def topic_of(envelope: Envelope, prefix: str) -> str:
    """The topic of the envelope's type; unknown types share one topic per source."""
    return type_topic(prefix, envelope.source, envelope.event_type)


@lru_cache(maxsize=4096)
def type_topic(prefix: str, source: Source, event_type: str) -> str:
    """The topic of a type by its name as Canvas writes it."""
    return f"{prefix}.{schema_name(source, event_type)}"


def topic_name(source: Source, event_type: str) -> str:
    """A type's name as topics spell it: kebab case, dots kept."""
    if source == "pns":
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", event_type).lower()
    return event_type.lower().replace("_", "-")


def quarantine_topic(prefix: str) -> str:
    """Where authentic but unusable tokens are kept."""
    return f"{prefix}.{QUARANTINE}"


def dead_letter_topic(prefix: str, worker: str) -> str:
    """Where a worker puts the records that it cannot read."""
    return f"{prefix}.dlq.{worker}.v1"


def event_topics(prefix: str) -> list[str]:
    """All topics that hold envelopes, sorted."""
    topics = {type_topic(prefix, entry.source, entry.name) for entry in catalogue()}
    topics |= {type_topic(prefix, source, UNRECOGNISED) for source in SOURCES}
    return sorted(topics)


def event_topic_pattern(prefix: str) -> str:
    """A regular expression for every topic that holds envelopes, also those made later."""
    return rf"^{re.escape(prefix)}\.(live-events|pns)\.[a-z0-9.-]+\.v[0-9]+$"


def ingest_topics(prefix: str) -> list[str]:
    """All topics that the receiver writes to, sorted."""
    return sorted([*event_topics(prefix), quarantine_topic(prefix)])


def schema_id(source: Source, event_type: str) -> str:
    """The id of the schema that an envelope of this type follows, a URN."""
    return f"urn:forebay:schema:{schema_name(source, event_type)}"


def schema_name(source: Source, event_type: str) -> str:
    """The topic's name without its prefix, which is the schema's name too."""
    known = catalogue().find(source, event_type) is not None
    return f"{source}.{topic_name(source, event_type) if known else UNRECOGNISED}.v1"


def key_of(envelope: Envelope, entity_id: str | None) -> bytes:
    """`<root account or client>:<entity>`, so that one entity's events share a partition.

    Without an entity the actor takes its place, then the event itself.
    """
    metadata = envelope.metadata
    owner = metadata.get("root_account_uuid") or metadata.get("client_id") or ""
    subject = entity_id or metadata.get("user_id") or envelope.event_id
    return f"{owner}:{subject}".encode()
