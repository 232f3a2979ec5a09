"""The quarantine topic's record: an authentic token that could not be used, kept whole."""

import hashlib
from collections.abc import Mapping
from typing import Literal

import orjson

from ingest.contract.codec import CONTENT_TYPE
from ingest.contract.record import Record
from ingest.contract.topics import quarantine_topic

QuarantineReason = Literal[
    "expired",
    "tenant_unknown",
    "key_gone",
    "unreadable_claims",
    "too_large_for_topic",
    "unsupported_format",
]


def quarantine_record(prefix: str, metadata: Mapping[str, str], token: str) -> Record:
    """A record `{"metadata": {event_id?, reason, received_at, source, tenant?}, "token": …}`.

    Its key is the event id, or the token's SHA-256 where there is none, so that later decisions
    about one token share its key.
    """
    key = metadata.get("event_id") or hashlib.sha256(token.encode()).hexdigest()
    return Record(
        topic=quarantine_topic(prefix),
        key=key.encode(),
        headers=(CONTENT_TYPE,),
        value=orjson.dumps({"metadata": metadata, "token": token}),
    )
