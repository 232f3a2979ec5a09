"""The values that one stage hands to the next."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from msgspec import Struct

from ingest.contract.envelope import Source

Format = Literal["canvas", "caliper", "pns"]
Outcome = Literal["published", "spooled", "deferred", "quarantined"]
EventState = Literal["in_flight", "spool", "deferred"]
"""Where an event is whose outcome is not known yet."""
EVENT_STATES: tuple[EventState, ...] = get_args(EventState)


class SignedRequest(Struct, frozen=True, kw_only=True):
    """One token as it came, not yet trusted.

    `token` is the raw text, quotes and white space included. `received_at` is in Unix seconds; all
    judgements of time use it. `traceparent` is the request's W3C trace context, if it was valid.
    `path_of` names the tenant at whose own path it came; None at the path of all.
    """

    token: bytes
    source: Source
    received_at: float
    traceparent: str | None = None
    path_of: str | None = None


class HugeNumber(str):
    """The digits of a number beyond the range of a double, kept rather than an infinity."""

    __slots__ = ()


class TokenClaims(Struct, frozen=True, kw_only=True):
    """What a token says. Whose it is nobody has said yet, and may be nobody's.

    `payload` holds all claims as signed. `irregular` marks JSON that only a lenient parser reads:
    NaN, lone surrogates, numbers out of range. `client_id` and `deployment_id` are set for notices.
    """

    source: Source
    format: Format
    issuer: str
    received_at: float
    payload: Mapping[str, Any]
    irregular: bool = False
    client_id: str | None = None
    deployment_id: str | None = None


class Claims(TokenClaims, frozen=True, kw_only=True):
    """What a verified token says, and whose it is."""

    tenant: str


class Receipt(Struct, frozen=True, kw_only=True):
    """The event is durable. `event_id` is None while nobody can tell it yet.

    `held_in` names the state where it waits for the rest of its way; None if that is behind it.
    `repeat` says that it was durable before, and nothing was done for it this time.
    """

    outcome: Outcome
    event_id: str | None
    reason: str | None = None
    held_in: EventState | None = None
    repeat: bool = False
