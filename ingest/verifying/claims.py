"""What claims say of themselves: form, client, account, time. Pure; all of it after the signature.

Source: RFC 7519 section 4.1; LTI 1.3 core 5.1.2 (aud, azp); Canvas documentation on Live Events
and on the Platform Notification Service.
"""

import math
from collections.abc import Mapping
from typing import Any

from ingest.contract import lti
from ingest.contract.caliper import extensions
from ingest.contract.envelope import Source
from ingest.contract.strict_json import text
from ingest.errors import Malformed, Unusable
from ingest.values import Format, TokenClaims


def format_of(payload: Mapping[str, Any], source: Source) -> Format:
    """Which of the three formats the claims are in."""
    if source == "pns":
        return "pns"
    return "caliper" if "dataVersion" in payload or "data" in payload else "canvas"


def client_id_of(payload: Mapping[str, Any]) -> str | None:
    """The client that a notice is for: the audience, or the authorised party among several."""
    audience = payload.get("aud")
    if isinstance(audience, list):
        named = [name for name in audience if type(name) is str]
        if len(named) != 1:
            party = payload.get("azp")
            return party if isinstance(party, str) and party in named else None
        audience = named[0]
    return text(audience)


def root_account_uuid_of(payload: Mapping[str, Any]) -> str | None:
    """The root account that a Live Event names, in Canvas's format or in Caliper's."""
    metadata = payload.get("metadata")
    if isinstance(metadata, dict):
        return text(metadata.get("root_account_uuid"))
    data = payload.get("data")
    event = data[0] if isinstance(data, list) and data else None
    actor = event.get("actor") if isinstance(event, dict) else None
    return text(extensions(actor).get("root_account_uuid"))


def subscription_id_of(payload: Mapping[str, Any]) -> str | None:
    """The id of the Live Events subscription that sent it."""
    subscription = payload.get("subscription")
    value = subscription.get("id") if isinstance(subscription, dict) else None
    return str(value) if isinstance(value, int) else text(value)


def hostname_of(payload: Mapping[str, Any]) -> str | None:
    """The host under which the Canvas was called where the event comes from, if it says so."""
    metadata = payload.get("metadata")
    if isinstance(metadata, dict):
        return text(metadata.get("hostname"))
    data = payload.get("data")
    event = data[0] if isinstance(data, list) and data else None
    return text(extensions(event).get("hostname"))


def check_is_notice(payload: Mapping[str, Any]) -> None:
    """Raises Malformed for anything else: platforms sign launch tokens with the same keys."""
    if not isinstance(payload.get(lti.NOTICE), dict):
        raise Malformed("no notice claim")


def check_time(claims: TokenClaims, leeway_s: float) -> None:
    """Raises Unusable outside the token's own time, as it was when the token arrived.

    `iat` is never a ground for refusal.
    """
    expires: Any = claims.payload.get("exp")
    begins: Any = claims.payload.get("nbf", 0)
    if not (_is_time(expires) and _is_time(begins)):
        raise Unusable("unreadable_claims", claims)
    if expires <= claims.received_at - leeway_s or begins > claims.received_at + leeway_s:
        raise Unusable("expired", claims)


def check_form(claims: TokenClaims) -> None:
    """Raises Unusable where the rest of the way could not tell what the event is."""
    payload = claims.payload
    if not all(type(payload.get(name, "")) is str for name in ("sub", "jti")):
        raise Unusable("unreadable_claims", claims)
    if claims.format == "pns":
        notice = payload[lti.NOTICE]
        if not (text(notice.get("id")) and text(notice.get("type"))):
            raise Unusable("unreadable_claims", claims)
    elif claims.format == "caliper":
        if not _is_one_caliper_event(payload.get("data")):
            raise Unusable("unsupported_format", claims)
    else:
        metadata = payload.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(payload.get("body"), dict):
            raise Unusable("unsupported_format", claims)
        if not text(metadata.get("event_name")):
            raise Unusable("unsupported_format", claims)


def _is_one_caliper_event(data: Any) -> bool:
    # Canvas sends one event a request; of several, all but one would go without an id of their own
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], dict):
        return False
    return bool(text(data[0].get("id")) and text(data[0].get("type")))


def _is_time(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
