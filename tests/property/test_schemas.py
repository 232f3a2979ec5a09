"""Whatever is signed: what we publish of it follows the schema that its headers name."""

from functools import cache
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ingest.contract.catalogue import catalogue
from ingest.contract.codec import encode
from ingest.contract.describe.schemas import schemas
from ingest.contract.lti import CLAIM
from ingest.contract.metadata import our_fields, signed_fields
from ingest.normalising import normalise
from ingest.values import Claims
from tests.property.json_values import ODD, ODD_OBJECTS
from tests.support.builders import (
    NOTICE_CLAIM,
    caliper_claims,
    caliper_entity,
    live_event,
    live_event_claims,
    notice,
    notice_claim,
    notice_claims,
)

_TYPES = list(catalogue())
_METADATA = [*signed_fields(), *our_fields()]


@st.composite
def _some(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    """A few of the named fields, of any value, among others."""
    known = st.dictionaries(st.sampled_from(names), ODD, max_size=4) if names else st.just({})
    return {**draw(ODD_OBJECTS), **draw(known)}


@st.composite
def _live_events(draw: st.DrawFn) -> Claims:
    entry = draw(st.sampled_from([entry for entry in _TYPES if entry.source == "live-events"]))
    metadata = {**draw(_some(_METADATA)), "event_name": entry.name}
    claims = live_event_claims(metadata=metadata, body=draw(_some(list(entry.fields))))
    claims["subscription"] = draw(ODD | st.dictionaries(st.sampled_from(["id", "owner_id"]), ODD))
    return live_event(claims, irregular=True)


@st.composite
def _notices(draw: st.DrawFn) -> Claims:
    entry = draw(st.sampled_from([entry for entry in _TYPES if entry.source == "pns"]))
    body = draw(_some([name for name in entry.fields if name != "notice"]))
    claim = notice_claim(**{**draw(ODD_OBJECTS), "id": "n-1", "type": entry.name})
    claims = {f"{CLAIM}{name}": value for name, value in body.items()}
    claims |= notice_claims(**{NOTICE_CLAIM: claim, **draw(_some(_METADATA))})
    return notice(claims, irregular=True)


@st.composite
def _caliper_events(draw: st.DrawFn) -> Claims:
    shape = draw(st.sampled_from([shape for entry in _TYPES for shape in entry.caliper]))
    own: dict[str, Any] = {"id": "x", "type": shape.type, "action": shape.action}
    if draw(st.booleans()):
        own["object"] = caliper_entity("x", "7", shape.object) | {"id": f"{shape.prefix}:7"}
    claims = caliper_claims(data=[{**draw(_some(list(catalogue().caliper_fields))), **own}])
    return live_event({**draw(_some(_METADATA)), **claims}, irregular=True, format_="caliper")


@given(claims=_live_events() | _notices() | _caliper_events())
def test_record_follows_the_schema_that_its_headers_name(claims: Claims) -> None:
    record = encode(normalise(claims), prefix="p")
    name = dict(record.headers)["ce_dataschema"].decode().rpartition(":")[2]
    _validator(name).validate(orjson.loads(record.value))


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schemas()[name])
