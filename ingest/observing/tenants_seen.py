"""Whose authentic events came that no tenant takes: ids and counts, nothing else of the events.

Only what was verified belongs in here. It is bounded all the same, since other schools' events are
authentic too: of those that came longest ago the first to come makes room.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

MAX_SENDERS = 1_000
_MAX_TEXT = 200

Missing = Literal["root_account", "subscription", "client", "deployment", "path"]
"""What of a sender's ids no tenant pins; `path`: a tenant does, but it has paths of its own."""


class Sender(Struct, frozen=True, kw_only=True):
    """Who signed events name as their origin: two ids of Live Events, three of notices.

    `reason` is that of the answer or of quarantine.
    """

    reason: str
    missing: Missing
    source: str
    issuer: str
    root_account_uuid: str | None = None
    subscription_id: str | None = None
    client_id: str | None = None
    deployment_id: str | None = None


class Sighting(Struct, frozen=True, kw_only=True):
    """How often it came, first and last as RFC 3339, and from which Canvas, as the latest says."""

    count: int
    first_seen: str
    last_seen: str
    hostname: str | None = None


class TenantsSeen:
    """What this process has seen. For one thread only."""

    def __init__(self) -> None:
        self._seen: dict[Sender, Sighting] = {}

    def see(self, sender: Sender, hostname: str | None, at: str) -> None:
        """Counts one event, received at a time in RFC 3339. Sender and host are bounded."""
        before = self._seen.pop(sender, None)
        if before is None and len(self._seen) >= MAX_SENDERS:
            del self._seen[next(iter(self._seen))]
        self._seen[sender] = Sighting(
            count=1 + (before.count if before else 0),
            first_seen=before.first_seen if before else at,
            last_seen=at,
            hostname=hostname or (before.hostname if before else None),
        )

    def seen(self) -> Mapping[Sender, Sighting]:
        """All of it, what came last at the end."""
        return dict(self._seen)


def bounded(sender: Sender) -> Sender:
    """The same with texts of at most 200 characters, and an ellipsis where one was longer."""
    return replace(
        sender,
        root_account_uuid=cut(sender.root_account_uuid),
        subscription_id=cut(sender.subscription_id),
        client_id=cut(sender.client_id),
        deployment_id=cut(sender.deployment_id),
    )


def cut(text: str | None) -> str | None:
    """At most 200 characters of it, and an ellipsis where it was longer. Half characters, which
    no file can hold, are written out."""
    if text is None:
        return None
    whole = text[:_MAX_TEXT].encode(errors="backslashreplace").decode()
    return whole if len(text) <= _MAX_TEXT else whole + "…"
