"""What makes an event this event: a hash of all that Canvas said, and of nothing about its signing.

Written with the standard library alone, apart from the receiver's code, so that the two can be
held against each other: for every event of the corpus it equals the `event_id` that a correct
receiver gives.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.emulator.templates import NOTICE_CLAIM


def event_content_key(claims: Mapping[str, Any]) -> str:
    """64 hex digits that name a Live Event, in either format.

    KeyError when `metadata` or `body` is missing, or in Caliper format the event's id.
    """
    sender = [claims.get("iss"), (claims.get("subscription") or {}).get("id")]
    if "data" in claims:
        return _digest(["caliper", *sender, claims["data"][0]["id"]])
    return _digest(["canvas", *sender, claims["metadata"], claims["body"]])


def notice_content_key(claims: Mapping[str, Any]) -> str:
    """64 hex digits that name a platform notification. KeyError when it has no notice id."""
    return _digest(["pns", claims["iss"], claims["aud"], claims[NOTICE_CLAIM]["id"]])


def _digest(identity: Sequence[Any]) -> str:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
