"""Live Events in Caliper format."""

from typing import Any

import pytest

from ingest.contract.codec import encode
from ingest.contract.envelope import Envelope
from ingest.normalising import normalise
from ingest.normalising.identity import event_id
from ingest.normalising.metadata import OURS
from tests.support.builders import (
    CANVAS,
    LIVE_EVENTS_ISSUER,
    NOW_S,
    ROOT_ACCOUNT,
    SUBSCRIPTION,
    TENANT,
    caliper_claims,
    caliper_entity,
    caliper_event,
    live_event,
    without,
)
from tests.unit.ingest.normalising.lossless import lost


def _normalised(**members: Any) -> Envelope:
    return normalise(live_event(caliper_claims(data=[caliper_event(**members)]), format_="caliper"))


def test_metadata_has_the_names_that_it_has_in_canvas_format() -> None:
    claims = live_event(caliper_claims(), format_="caliper")
    assert normalise(claims).metadata == {
        "event_id": event_id(claims),
        "event_type": "course_created",
        "event_time": "2026-09-21T14:13:15.250Z",
        "received_at": "2026-09-21T14:13:20.000Z",
        "source": "live-events",
        "format": "caliper",
        "tenant": TENANT,
        "issuer": LIVE_EVENTS_ISSUER,
        "root_account_id": "10000000000001",
        "root_account_uuid": ROOT_ACCOUNT,
        "root_account_lti_guid": "guid-of-north-campus",
        "subscription_id": SUBSCRIPTION,
        "subscription_owner_id": "10000000000042",
        "user_id": "10000000000042",
        "user_login": "mjolsen",
        "user_sis_id": None,
        "context_type": "Course",
        "context_id": "10000000003000",
        "session_id": "5e55",
        "request_id": "request-11",
        "hostname": "canvas.example.edu",
        "user_agent": "Browser/1.0",
        "client_ip": "203.0.113.9",
        "url": "https://canvas.example.edu/courses",
        "referrer": "https://canvas.example.edu/accounts/1",
        "sensor": "https://canvas.example.edu/",
        "sendTime": "2026-09-21T14:13:16.000Z",
        "dataVersion": "http://purl.imsglobal.org/ctx/caliper/v1p1",
        "iat": int(NOW_S) - 5,
        "exp": int(NOW_S) + 3595,
        "trigger": "user",
    }


def test_body_is_the_whole_event() -> None:
    assert _normalised().body == caliper_event()


def test_least_event_flows() -> None:
    claims = live_event({"data": [{"id": "x", "type": "ViewEvent"}]}, format_="caliper")
    envelope = normalise(claims)
    assert envelope.event_type == "caliper.view_event"
    assert envelope.metadata.keys() == {
        "event_id",
        "event_type",
        "received_at",
        "source",
        "format",
        "tenant",
        "issuer",
    }
    assert encode(envelope, prefix="p").topic == "p.live-events.unrecognised.v1"


def test_record_has_topic_key_and_subject_of_the_type() -> None:
    record = encode(_normalised(), prefix="p")
    assert record.topic == "p.live-events.course-created.v1"
    assert record.key.decode() == f"{ROOT_ACCOUNT}:10000000003012"
    assert dict(record.headers)["ce_subject"] == b"10000000003012"
    assert dict(record.headers)["ce_type"] == b"com.instructure.canvas.course_created"


def test_event_of_no_known_shape_has_its_object_as_subject() -> None:
    record = encode(_normalised(action="Moved"), prefix="p")
    assert dict(record.headers)["ce_type"] == b"com.instructure.canvas.caliper.event.moved"
    assert record.topic == "p.live-events.unrecognised.v1"
    assert record.key.decode() == f"{ROOT_ACCOUNT}:10000000003012"


@pytest.mark.parametrize(
    "actor",
    [
        caliper_entity("user", "0", "Person"),
        {"id": "http://canvas.example.edu/", "type": "SoftwareApplication"},
        caliper_entity("account", "5", "Organization"),
        {},
        None,
    ],
)
def test_actor_that_is_no_known_user_has_no_user_id(actor: Any) -> None:
    assert "user_id" not in _normalised(actor=actor).metadata


def test_actor_may_be_stated_by_its_id_alone() -> None:
    envelope = _normalised(actor="urn:instructure:canvas:user:42", session="urn:x", group=None)
    assert envelope.metadata["user_id"] == "42"
    assert envelope.metadata["issues"] == ["body.actor", "body.session"]
    assert not {"session_id", "context_id", "context_type"} & envelope.metadata.keys()


def test_context_may_be_known_by_its_extension_alone() -> None:
    group = {"extensions": {CANVAS: {"context_type": "Account", "entity_id": 5}}}
    metadata = _normalised(group=group).metadata
    assert (metadata["context_type"], metadata["context_id"]) == ("Account", "5")


@pytest.mark.parametrize(
    ("members", "trigger"),
    [
        ({}, "user"),
        ({"extensions": {CANVAS: {"job_id": 9, "job_tag": "Importer#run"}}}, "system"),
        ({"extensions": {}, "actor": caliper_entity("user", "7", "Person")}, "user"),
        ({"extensions": {}, "actor": None}, None),
    ],
)
def test_trigger_is_the_job_or_the_person(members: dict[str, Any], trigger: str | None) -> None:
    assert _normalised(**members).metadata.get("trigger") == trigger


def test_event_of_a_job_names_it() -> None:
    job = {"job_id": 9_010_000_000_000_123, "job_tag": "Importer#run", "producer": "canvas"}
    metadata = _normalised(extensions={CANVAS: job}).metadata
    assert metadata["job_id"] == "9010000000000123"
    assert (metadata["job_tag"], metadata["producer"]) == ("Importer#run", "canvas")


def test_event_time_is_in_utc() -> None:
    envelope = _normalised(eventTime="2026-09-21T08:13:15-06:00")
    assert envelope.metadata["event_time"] == "2026-09-21T14:13:15.000Z"
    assert envelope.body["eventTime"] == "2026-09-21T14:13:15.000Z"


def test_unreadable_event_time_stays_as_it_came_and_is_named() -> None:
    envelope = _normalised(eventTime="yesterday")
    assert envelope.metadata["event_time"] == envelope.body["eventTime"] == "yesterday"
    assert envelope.metadata["issues"] == ["metadata.event_time", "body.eventTime"]


@pytest.mark.parametrize(
    "again", [{"sendTime": "2026-09-21T14:29:16.000Z"}, {"iat": 1, "exp": 2}, {"sensor": "other"}]
)
def test_event_sent_again_keeps_its_id(again: dict[str, Any]) -> None:
    first, second = (
        live_event(caliper_claims(**members), format_="caliper") for members in ({}, again)
    )
    assert normalise(first).event_id == normalise(second).event_id


@pytest.mark.parametrize("name", sorted(OURS | {"user_id", "root_account_uuid", "event_time"}))
def test_other_claims_cannot_take_the_place_of_what_the_event_says(name: str) -> None:
    honest = normalise(live_event(caliper_claims(), format_="caliper")).metadata
    claims = live_event(caliper_claims(**{name: "forged"}), format_="caliper")
    envelope = normalise(claims)
    assert envelope.metadata[f"{name}__2"] == "forged"
    if name != "issues":
        assert envelope.metadata.get(name) == honest.get(name)
    assert lost(claims, envelope) == []


_BIG = caliper_entity("assignment", "7", "Entity", n=2**70, at="2026-09-21 08:13:15 -0600")


@pytest.mark.parametrize(
    "payload",
    [
        caliper_claims(),
        without(caliper_claims(), "subscription", "sensor"),
        caliper_claims(subscription="text", metadata={"a": 1}, body=[1]),
        caliper_claims(data=[caliper_event(object=_BIG, new={"ids": [5], "x_id": 5})]),
        caliper_claims(data=[caliper_event(actor=[], object=5, action={}, eventTime=7, id="x")]),
        caliper_claims(data=[caliper_event(extensions={CANVAS: [1]}, group={"id": {}})]),
        caliper_claims(data=[caliper_event(extensions={CANVAS: {"request_id": {"a": 2**64}}})]),
    ],
)
def test_nothing_signed_is_lost(payload: dict[str, Any]) -> None:
    claims = live_event(payload, format_="caliper")
    assert lost(claims, normalise(claims)) == []


@pytest.mark.parametrize(
    "payload",
    [
        caliper_claims(data=[caliper_event(type="\x00", id="\ud800", n=float("nan"))]),
        caliper_claims(data=[caliper_event(actor=caliper_entity("user", "\x00", "Person"))]),
        caliper_claims(data=[caliper_event(**{"\x00": 1, "\\u0000": 2})]),
        caliper_claims(sensor="\x00", subscription={"\ud800": 1}),
    ],
)
def test_nothing_irregular_is_lost(payload: dict[str, Any]) -> None:
    claims = live_event(payload, irregular=True, format_="caliper")
    envelope = normalise(claims)
    assert lost(claims, envelope) == []
    assert envelope.metadata["issues"]


def test_claims_are_not_changed() -> None:
    payload = caliper_claims(tenant="x")
    normalise(live_event(payload, format_="caliper"))
    assert payload == caliper_claims(tenant="x")


def test_deepest_claims_that_are_read_are_normalised() -> None:
    deep: Any = 1
    for _ in range(197):
        deep = {"x_id": deep}
    claims = live_event(caliper_claims(data=[caliper_event(deep=deep)]), format_="caliper")
    assert lost(claims, normalise(claims)) == []
