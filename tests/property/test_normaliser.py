"""Whatever the claims: an envelope that stores take, from which nothing signed is missing."""

import math
import random
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ingest.contract.codec import decode, encode
from ingest.normalising import normalise
from ingest.normalising.identity import event_id
from ingest.values import Claims
from tests.property.json_values import ODD, ODD_OBJECTS
from tests.support.builders import (
    CANVAS,
    NOTICE_CLAIM,
    caliper_claims,
    live_event,
    live_event_claims,
    notice,
    notice_claims,
)
from tests.unit.ingest.normalising.lossless import lost

_EVENT_NAMES = st.sampled_from(["course_created", "grade_change", "x\x00", "neu"]) | st.text(
    min_size=1, max_size=8
)
# names that need care: times, ours, and two that look alike once they can be seen
_DELICATE = st.fixed_dictionaries(
    {},
    optional={
        "event_time": ODD,
        "user_id": ODD,
        "root_account_uuid": ODD,
        "tenant": ODD,
        "\x00": ODD,
        "\\u0000": ODD,
    },
)
_ENTITIES = st.fixed_dictionaries(
    {
        "id": ODD
        | st.sampled_from(["urn:instructure:canvas:user:\x00", "urn:instructure:canvas:x:1"])
    },
    optional={"type": ODD, "extensions": ODD | st.fixed_dictionaries({CANVAS: ODD | _DELICATE})},
)
_URIS = st.sampled_from(["https://a.example.edu/x", "https://b.example.edu/x", "urn://y/", "://"])


@st.composite
def _live_events(draw: st.DrawFn) -> Claims:
    metadata = {**draw(ODD_OBJECTS), **draw(_DELICATE), "event_name": draw(_EVENT_NAMES)}
    payload = {
        **draw(ODD_OBJECTS),
        **live_event_claims(metadata=metadata, body=draw(ODD_OBJECTS)),
        "subscription": draw(ODD | ODD_OBJECTS),
    }
    return live_event(payload, irregular=True)


@st.composite
def _notices(draw: st.DrawFn) -> Claims:
    claim = {
        **draw(ODD_OBJECTS),
        "timestamp": draw(ODD),
        "id": draw(_EVENT_NAMES),
        "type": draw(_EVENT_NAMES),
    }
    more = draw(st.dictionaries(_URIS, ODD, max_size=3))
    rest = {**draw(ODD_OBJECTS), **draw(_DELICATE), **more, "sub": draw(_EVENT_NAMES)}
    deployment = draw(st.none() | st.text(st.characters(exclude_categories=[]), min_size=1))
    payload = {**rest, **notice_claims(**{NOTICE_CLAIM: claim})}
    return notice(payload, irregular=True, deployment_id=deployment)


@st.composite
def _caliper_events(draw: st.DrawFn) -> Claims:
    members = {
        "id": draw(_EVENT_NAMES),
        "type": draw(_EVENT_NAMES),
        "actor": draw(ODD | _ENTITIES),
        "object": draw(ODD | _ENTITIES),
        "group": draw(ODD | _ENTITIES),
        "session": draw(ODD | _ENTITIES),
        "extensions": draw(ODD | st.fixed_dictionaries({CANVAS: _DELICATE})),
    }
    others = draw(ODD_OBJECTS) | draw(_DELICATE)
    event = draw(ODD_OBJECTS) | {"eventTime": draw(ODD), "action": draw(ODD)} | members
    payload = {**others, **caliper_claims(data=[event]), "subscription": draw(ODD | ODD_OBJECTS)}
    return live_event(payload, irregular=True, format_="caliper")


_CLAIMS = _live_events() | _notices() | _caliper_events()


@given(claims=_CLAIMS)
def test_every_claims_make_an_envelope_that_any_store_takes(claims: Claims) -> None:
    record = encode(normalise(claims), prefix="p")
    assert orjson.loads(record.value) == {
        "metadata": decode(record).metadata,
        "body": decode(record).body,
    }
    assert all(map(_is_storable, _leaves(orjson.loads(record.value))))


@given(claims=_CLAIMS)
def test_nothing_signed_is_lost(claims: Claims) -> None:
    assert lost(claims, normalise(claims)) == []


@given(claims=_CLAIMS, seed=st.integers())
def test_event_id_is_the_same_in_any_order_and_under_any_signature(
    claims: Claims, seed: int
) -> None:
    chance = random.Random(seed)
    payload = _shuffled({**claims.payload, "iat": seed, "exp": seed + 3600}, chance)
    again = (
        notice(payload, irregular=True)
        if claims.source == "pns"
        else live_event(payload, irregular=True, format_=claims.format)
    )
    assert event_id(again) == event_id(claims) == normalise(claims).event_id
    assert len(event_id(claims)) == 64


@given(claims=_CLAIMS)
def test_issues_are_named_where_something_became_visible(claims: Claims) -> None:
    envelope = normalise(claims)
    odd = [leaf for leaf in _leaves(claims.payload) if not _is_storable(leaf)]
    # the issuer and the client's id are fixed, so an odd leaf can only lie in what was drawn
    assert not odd or envelope.metadata["issues"]


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for pair in value.items() for child in pair for leaf in _leaves(child)]
    if isinstance(value, list):
        return [leaf for child in value for leaf in _leaves(child)]
    return [value]


def _is_storable(leaf: Any) -> bool:
    if isinstance(leaf, str):
        return not any(c == "\x00" or "\ud800" <= c <= "\udfff" for c in leaf)
    if isinstance(leaf, float):
        return math.isfinite(leaf)
    return leaf is None or -(2**63) <= leaf < 2**63


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        names = list(value)
        chance.shuffle(names)
        return {name: _shuffled(value[name], chance) for name in names}
    if isinstance(value, list):
        return [_shuffled(child, chance) for child in value]
    return value
