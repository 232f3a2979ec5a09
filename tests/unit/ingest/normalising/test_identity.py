"""The event id: golden vectors, and what it must not depend on.

`python -m tests.unit.ingest.normalising.test_identity` writes the vectors' ids. They are part
of the contract: a changed id is a breaking change.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from ingest.normalising.identity import canonical_json, event_id
from ingest.values import Claims
from ingest.verifying.token import read_claims
from tests.support.builders import (
    NOTICE_CLAIM,
    live_event,
    live_event_claims,
    live_event_metadata,
    notice,
    notice_claim,
    notice_claims,
    without,
)

_FILE = Path(__file__).with_name("event_ids.json")
_VECTORS: list[dict[str, Any]] = json.loads(_FILE.read_text())
_TOKENS_OWN = ("iat", "exp", "nonce", "sendTime")


def _claims(vector: dict[str, Any]) -> Claims:
    payload, irregular = read_claims(vector["claims"].encode())
    return Claims(
        source="pns" if vector["format"] == "pns" else "live-events",
        format=vector["format"],
        issuer=payload["iss"],
        tenant="any",
        received_at=0.0,
        payload=payload,
        irregular=irregular,
        client_id=vector.get("client_id"),
    )


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["about"])
def test_event_id_is_the_committed_one(vector: dict[str, Any]) -> None:
    assert event_id(_claims(vector)) == vector["event_id"]


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["about"])
def test_committed_id_follows_from_the_definition(vector: dict[str, Any]) -> None:
    assert _defined_id(vector) == vector["event_id"]


def test_vectors_are_many_and_differ() -> None:
    assert len(_VECTORS) >= 12
    assert len({vector["event_id"] for vector in _VECTORS}) == len(_VECTORS)


def _defined_id(vector: dict[str, Any]) -> str:
    """The id by its definition and the standard library alone."""
    claims = json.loads(vector["claims"])
    subscription = claims.get("subscription") or {}
    rest = {name: value for name, value in claims.items() if name not in _TOKENS_OWN}
    if vector["format"] == "pns":
        identifier = claims[NOTICE_CLAIM].get("id") or rest
        parts = ["pns", claims["iss"], vector["client_id"], identifier]
    elif vector["format"] == "caliper":
        identifier = claims["data"][0].get("id") or rest
        parts = ["caliper", claims["iss"], subscription.get("id"), identifier]
    else:
        event = [claims["metadata"], claims["body"]]
        parts = ["canvas", claims["iss"], subscription.get("id"), *event]
    exact = _is_exact(parts)
    text = _fast_form(parts) if exact else json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_exact(value: Any) -> bool:
    """Whether a fast JSON library writes it: 64-bit integers, Unicode text, finite numbers."""
    if isinstance(value, dict):
        return all(_is_exact(name) and _is_exact(child) for name, child in value.items())
    if isinstance(value, list):
        return all(map(_is_exact, value))
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return value is None or math.isfinite(value)


def _fast_form(value: Any) -> str:
    """JSON without spaces, sorted, text as UTF-8, numbers in their shortest form."""
    if isinstance(value, dict):
        members = (f"{_fast_form(name)}:{_fast_form(value[name])}" for name in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_fast_form, value)) + "]"
    if isinstance(value, float):
        mantissa, mark, exponent = repr(value).partition("e")
        return f"{mantissa}e{int(exponent):+d}" if mark else mantissa
    return json.dumps(value, ensure_ascii=False)


_REGULAR = live_event_claims(body={"course_id": "1", "nested": {"b": [1, 2], "a": None}})


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _reversed(value[name]) for name in reversed(value)}
    return value


@pytest.mark.parametrize("irregular", [False, True])
def test_event_id_does_not_depend_on_the_order_of_names(irregular: bool) -> None:
    ordered = live_event(_REGULAR, irregular=irregular)
    assert event_id(live_event(_reversed(_REGULAR), irregular=irregular)) == event_id(ordered)


@pytest.mark.parametrize("members", [{"iat": 1}, {"exp": 2}, {"jti": "again"}, {"nonce": "n"}])
def test_event_signed_again_keeps_its_id(members: dict[str, Any]) -> None:
    again = live_event({**_REGULAR, **members})
    assert event_id(again) == event_id(live_event(_REGULAR))
    assert event_id(notice(notice_claims(**members))) == event_id(notice())


@pytest.mark.parametrize("member", _TOKENS_OWN)
def test_caliper_event_without_an_id_keeps_its_id_when_signed_again(member: str) -> None:
    payload = {"iss": "x", "data": [{"type": "ViewEvent"}], "sensor": "s"}
    first, again = (live_event({**payload, member: n}, format_="caliper") for n in (1, 2))
    assert event_id(first) == event_id(again)


@pytest.mark.parametrize("kept", ["metadata", "body", "subscription"])
def test_event_that_differs_in_one_part_has_another_id(kept: str) -> None:
    assert event_id(live_event({**_REGULAR, kept: {"id": "other"}})) != event_id(
        live_event(_REGULAR)
    )


def test_regular_event_has_one_id_whichever_parser_read_it() -> None:
    assert event_id(live_event(_REGULAR, irregular=True)) == event_id(live_event(_REGULAR))


def test_notices_are_told_apart_by_client_and_notice() -> None:
    other = notice(notice_claims(**{NOTICE_CLAIM: notice_claim(id="notice-6")}))
    assert event_id(other) != event_id(notice())


def test_notice_without_an_id_is_told_by_its_claims() -> None:
    unnamed = [
        notice(notice_claims(**{NOTICE_CLAIM: without(notice_claim(n=n), "id")})) for n in (1, 2)
    ]
    assert event_id(unnamed[0]) != event_id(unnamed[1])


@pytest.mark.parametrize(
    "metadata",
    [
        live_event_metadata(n=float("nan")),
        live_event_metadata(n=float("inf")),
        live_event_metadata(n=2**64),
        live_event_metadata(n="\ud800"),
        {"n\ud800": 1},
    ],
)
def test_id_of_what_fast_json_cannot_write_is_that_of_the_standard_library(
    metadata: dict[str, Any],
) -> None:
    claims = live_event(live_event_claims(metadata=metadata), irregular=True)
    payload = claims.payload
    parts = ["canvas", claims.issuer, payload["subscription"]["id"], metadata, payload["body"]]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    assert event_id(claims) == hashlib.sha256(text.encode()).hexdigest()


def test_canonical_json_is_sorted_utf8_without_spaces() -> None:
    assert canonical_json({"ß": [1e16, 0.1], "a": None}) == '{"a":null,"ß":[1e+16,0.1]}'.encode()


def write_vectors() -> None:
    """Computes every id again, from the definition and not from the code under test."""
    for vector in _VECTORS:
        vector["event_id"] = _defined_id(vector)
    _FILE.write_text(json.dumps(_VECTORS, indent=2) + "\n")


if __name__ == "__main__":
    write_vectors()
