"""The event id: one event, one id, however often and under whatever signature it comes."""

import hashlib
import json
import math
from typing import Any

import orjson

from ingest.contract import lti
from ingest.values import TokenClaims

_OF_THE_TOKEN = frozenset({"iat", "exp", "nonce", "sendTime"})


def event_id(claims: TokenClaims) -> str:
    """64 lower-case hex digits: the SHA-256 of what makes the event itself, as it was signed."""
    return hashlib.sha256(canonical_json(_identity(claims), irregular=claims.irregular)).hexdigest()


def canonical_json(value: Any, *, irregular: bool = False) -> bytes:
    """`value` as sorted JSON: as orjson writes it, or the standard library where orjson is inexact.

    Not exact are integers beyond 64 bits, lone surrogates, NaN and infinities. The last two can
    only be in `irregular` values.
    """
    if not (irregular and _has_non_finite(value)):
        try:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError:
            pass
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _identity(claims: TokenClaims) -> list[Any]:
    payload = claims.payload
    if claims.format == "pns":
        notice = payload.get(lti.NOTICE)
        notice_id = notice.get("id") if isinstance(notice, dict) else None
        return ["pns", claims.issuer, claims.client_id, notice_id or _without_token(claims)]
    subscription = payload.get("subscription")
    subscription_id = subscription.get("id") if isinstance(subscription, dict) else None
    if claims.format == "caliper":
        data = payload.get("data")
        event = data[0] if isinstance(data, list) and data else None
        caliper_id = event.get("id") if isinstance(event, dict) else None
        return ["caliper", claims.issuer, subscription_id, caliper_id or _without_token(claims)]
    if "metadata" not in payload and "body" not in payload:
        return ["canvas", claims.issuer, subscription_id, _without_token(claims)]
    return ["canvas", claims.issuer, subscription_id, payload.get("metadata"), payload.get("body")]


def _without_token(claims: TokenClaims) -> dict[str, Any]:
    return {name: value for name, value in claims.payload.items() if name not in _OF_THE_TOKEN}


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_non_finite, value.values()))
    if isinstance(value, list):
        return any(map(_has_non_finite, value))
    return isinstance(value, float) and not math.isfinite(value)
