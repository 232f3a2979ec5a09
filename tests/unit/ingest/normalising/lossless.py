"""Looks for every signed value again in an envelope; knows the coercions, not the code."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from ingest.contract.envelope import Envelope
from ingest.values import Claims
from tests.support.builders import NOTICE_CLAIM

_REFUSED_BY_STORES = re.compile("[\x00\ud800-\udfff]")


def lost(claims: Claims, envelope: Envelope) -> list[str]:
    """Paths of signed leaves that the envelope does not hold, as signed or as documented."""
    kept = {"metadata": dict(envelope.metadata), "body": dict(envelope.body)}
    # those under their own names first: another's new name may look like one of them
    elsewhere = [
        (path, where, name, value)
        for path, where, name, value in _expected(claims)
        if not _take_named(kept[where], name, value)
    ]
    return [path for path, where, name, value in elsewhere if not _take(kept[where], name, value)]


def _expected(claims: Claims) -> Iterator[tuple[str, str, str, Any]]:
    """Of each signed member: its path, the part of the envelope, its name there, its value."""
    if claims.format == "pns":
        return _of_notice(claims.payload)
    return _of_caliper(claims.payload) if claims.format == "caliper" else _of_event(claims.payload)


def _of_caliper(payload: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    for name, value in payload["data"][0].items():
        yield f"data[0].{name}", "body", name, value
    for name, value in payload.items():
        if name in ("iss", "subscription"):
            yield from _of_event({name: value})
        elif name != "data":
            yield name, "metadata", name, value


def _of_event(payload: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    renamed = {"event_name": "event_type"}
    for name, value in payload.items():
        if name == "iss":
            yield name, "metadata", "issuer", value
        elif name in ("metadata", "body"):
            for inner, child in value.items():
                there = renamed.get(inner, inner) if name == "metadata" else inner
                yield f"{name}.{inner}", name, there, child
        elif name == "subscription" and isinstance(value, dict):
            for inner, child in value.items():
                yield f"{name}.{inner}", "metadata", f"subscription_{inner}", child
        elif not (name == "subscription" and value is None):
            yield name, "metadata", name, value


def _of_notice(payload: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    renamed = {"iss": "issuer", "sub": "user_id"}
    notice = payload[NOTICE_CLAIM]
    yield "notice.id", "metadata", "notice_id", notice["id"]
    yield "notice.type", "metadata", "event_type", notice["type"]
    for name, value in payload.items():
        if "://" in name:
            yield name, "body", name.rstrip("/").rpartition("/")[2], value
        else:
            yield name, "metadata", renamed.get(name, name), value


def _take(kept: dict[str, Any], name: str, value: Any) -> bool:
    """Takes a member away from what is kept, so that no two signed ones can share it."""
    shown = _shown(name)
    for candidate in list(kept):
        named = candidate == shown or re.fullmatch(re.escape(shown) + r"(__\d+)+", candidate)
        if named and same(value, kept[candidate]):
            del kept[candidate]
            return True
    return False


def _take_named(kept: dict[str, Any], name: str, value: Any) -> bool:
    """Takes a member away that is under its own name."""
    shown = _shown(name)
    if shown in kept and same(value, kept[shown]):
        del kept[shown]
        return True
    return False


def same(signed: Any, kept: Any) -> bool:
    """Whether `kept` is `signed`, or says the same in a form that the contract documents."""
    if isinstance(signed, dict):
        if not isinstance(kept, dict) or len(kept) != len(signed):
            return False
        rest = dict(kept)
        return all(_take(rest, name, child) for name, child in signed.items())
    if isinstance(signed, list):
        if not isinstance(kept, list) or len(kept) != len(signed):
            return False
        return all(map(same, signed, kept))
    if isinstance(signed, bool) or signed is None:
        return signed is kept
    if isinstance(signed, int | float):
        return _same_number(signed, kept)
    return _same_text(signed, kept)


def _same_number(signed: float, kept: Any) -> bool:
    if isinstance(kept, bool):
        return False
    if isinstance(signed, float) and not math.isfinite(signed):
        return bool(kept == {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[repr(signed)])
    if isinstance(kept, int | float):
        return kept == signed
    return isinstance(signed, int) and bool(kept == str(signed))


def _same_text(signed: str, kept: Any) -> bool:
    if isinstance(kept, str):
        return kept == _shown(signed) or _instant(kept) == _instant(signed) is not None
    if isinstance(kept, bool) or not isinstance(kept, int | float):
        return False
    try:
        return Decimal(signed) == Decimal(repr(kept))
    except InvalidOperation:
        return False


def _shown(text: str) -> str:
    return _REFUSED_BY_STORES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _instant(text: str) -> tuple[float, str] | None:
    """A time to the second, and its fraction less zeros at the end; None for other texts."""
    whole, _, fraction = text.partition(".")
    digits = re.match(r"\d*", fraction)
    assert digits is not None
    zone = fraction[digits.end() :] if fraction else ""
    for form in ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S%z", "%Y-%m-%d %H:%M:%S %z"):
        try:
            # every form names its zone
            moment = datetime.strptime((whole + zone).replace(" UTC", "Z"), form)  # noqa: DTZ007
        except ValueError:
            continue
        return (moment - _EPOCH).total_seconds(), digits[0].rstrip("0")
    return None


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
