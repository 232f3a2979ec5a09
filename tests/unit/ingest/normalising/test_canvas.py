"""Live Events in Canvas's own format."""

from typing import Any

import pytest

from ingest.normalising import normalise
from ingest.normalising.identity import event_id
from ingest.normalising.metadata import OURS
from tests.support.builders import (
    LIVE_EVENTS_ISSUER,
    NOW_S,
    SUBSCRIPTION,
    TENANT,
    live_event,
    live_event_claims,
    live_event_metadata,
    without,
)
from tests.unit.ingest.normalising.lossless import lost


def _metadata(**members: Any) -> Any:
    return normalise(
        live_event(live_event_claims(metadata=live_event_metadata(**members)))
    ).metadata


def _body(event_name: str, body: dict[str, Any]) -> Any:
    metadata = live_event_metadata(event_name=event_name)
    return normalise(live_event(live_event_claims(metadata=metadata, body=body)))


def test_metadata_is_flat_and_says_what_we_know() -> None:
    claims = live_event()
    assert normalise(claims).metadata == {
        "event_id": event_id(claims),
        "event_type": "course_created",
        "event_time": "2026-09-21T14:13:15.250Z",
        "received_at": "2026-09-21T14:13:20.000Z",
        "source": "live-events",
        "format": "canvas",
        "tenant": TENANT,
        "issuer": LIVE_EVENTS_ISSUER,
        "producer": "canvas",
        "root_account_id": "10000000000001",
        "root_account_uuid": live_event_metadata()["root_account_uuid"],
        "subscription_id": SUBSCRIPTION,
        "subscription_owner_id": "10000000000042",
        "user_id": "10000000000042",
        "request_id": "request-11",
        "iat": int(NOW_S) - 5,
        "exp": int(NOW_S) + 3595,
        "trigger": "user",
    }


def test_body_keeps_its_fields() -> None:
    assert normalise(live_event()).body == live_event_claims()["body"]


def test_least_event_has_the_least_envelope() -> None:
    claims = live_event({"metadata": {"event_name": "heartbeat"}, "body": {}})
    envelope = normalise(claims)
    assert set(envelope.metadata) == {
        "event_id",
        "event_type",
        "received_at",
        "source",
        "format",
        "tenant",
        "issuer",
    }
    assert envelope.body == {}


def test_declared_fields_take_their_types() -> None:
    envelope = _body("course_created", {"course_id": 3012, "account_id": None, "later": 5})
    assert envelope.body == {"course_id": "3012", "account_id": None, "later": 5}
    assert "issues" not in envelope.metadata


def test_unknown_type_flows_with_ids_as_text() -> None:
    envelope = _body("course_evaporated", {"course_id": 3012, "heat": 7, "at": "2026-01-02"})
    assert envelope.event_type == "course_evaporated"
    assert envelope.body == {"course_id": "3012", "heat": 7, "at": "2026-01-02"}
    assert "issues" not in envelope.metadata


@pytest.mark.parametrize(
    ("signed", "kept"),
    [
        ("2026-09-21T08:13:15-06:00", "2026-09-21T14:13:15.000Z"),
        ("2026-09-21 08:13:15 -0600", "2026-09-21T14:13:15.000Z"),
    ],
)
def test_event_time_is_in_utc(signed: str, kept: str) -> None:
    assert _metadata(event_time=signed)["event_time"] == kept


@pytest.mark.parametrize("signed", ["019-11-01T03:04:05Z", "", 1_790_000_000, [], "2026-09-21"])
def test_unreadable_event_time_stays_as_it_came_and_is_named(signed: Any) -> None:
    metadata = _metadata(event_time=signed)
    assert metadata["event_time"] == signed
    assert metadata["issues"] == ["metadata.event_time"]


@pytest.mark.parametrize(
    ("members", "trigger"),
    [
        ({"user_id": "1", "request_id": "r"}, "user"),
        ({"request_id": "r"}, "user"),
        ({"user_id": "1"}, "user"),
        ({"job_id": "9", "job_tag": "Importer#run"}, "system"),
        ({"job_id": "9", "user_id": "1"}, "system"),
        ({}, None),
    ],
)
def test_trigger_is_the_job_or_the_person(members: dict[str, Any], trigger: str | None) -> None:
    claims = live_event_claims(metadata={"event_name": "course_created", **members})
    assert normalise(live_event(claims)).metadata.get("trigger") == trigger


def test_context_with_integer_ids_becomes_text() -> None:
    metadata = _metadata(context_id=9_010_000_000_000_123, user_id=5, job_id=7)
    assert (metadata["context_id"], metadata["user_id"]) == ("9010000000000123", "5")
    assert metadata["job_id"] == "7"


@pytest.mark.parametrize("name", sorted(OURS - {"event_type"}))
def test_signed_metadata_cannot_take_the_place_of_ours(name: str) -> None:
    honest = normalise(live_event()).metadata
    claims = live_event(live_event_claims(metadata=live_event_metadata(**{name: "forged"})))
    envelope = normalise(claims)
    assert envelope.metadata.get(name) != "forged"
    if name not in ("event_id", "issues"):
        assert envelope.metadata.get(name) == honest.get(name)
    assert envelope.metadata[f"{name}__2"] == "forged"
    assert f"metadata.{name}__2" in envelope.metadata["issues"]
    assert lost(claims, envelope) == []


@pytest.mark.parametrize("name", sorted(OURS))
def test_other_claims_cannot_take_the_place_of_ours(name: str) -> None:
    claims = live_event(live_event_claims(**{name: "forged"}))
    envelope = normalise(claims)
    assert envelope.metadata.get(name) != "forged"
    assert envelope.metadata[f"{name}__2"] == "forged"
    assert lost(claims, envelope) == []


def test_signed_event_type_cannot_change_the_type() -> None:
    envelope = normalise(
        live_event(live_event_claims(metadata=live_event_metadata(event_type="grade_change")))
    )
    assert envelope.event_type == "course_created"
    assert envelope.metadata["event_type__2"] == "grade_change"


def test_claim_of_a_metadata_name_is_kept_beside_it() -> None:
    claims = live_event(live_event_claims(user_id="other", producer="other"))
    envelope = normalise(claims)
    assert envelope.metadata["user_id"] == "10000000000042"
    assert envelope.metadata["user_id__2"] == "other"
    assert lost(claims, envelope) == []


@pytest.mark.parametrize(
    "payload",
    [
        live_event_claims(),
        without(live_event_claims(), "subscription"),
        live_event_claims(subscription=None),
        live_event_claims(subscription="text"),
        live_event_claims(subscription={"id": 7, "new": {"a": 1}, "trigger": "x"}),
        live_event_claims(jti="j", sub="s", extra={"user_id": 5, "n": [2**70]}),
        live_event_claims(
            metadata=live_event_metadata(tenant="a", tenant__2="b", tenant__2__2="c", issues=["x"]),
            tenant="d",
        ),
        live_event_claims(
            metadata=live_event_metadata(event_name="grade_change"),
            body={"score": "93.50", "points_possible": True, "grade": {"a": [None, {}]}},
        ),
        live_event_claims(metadata=live_event_metadata(event_time="2026-09-21 08:13:15.5 -0600")),
        live_event_claims(metadata=live_event_metadata(event_time=None)),
    ],
)
def test_nothing_signed_is_lost(payload: dict[str, Any]) -> None:
    claims = live_event(payload)
    assert lost(claims, normalise(claims)) == []


@pytest.mark.parametrize(
    "payload",
    [
        live_event_claims(body={"a\x00": "\ud800", "b": [float("nan"), float("inf")]}),
        live_event_claims(body={"\x00": 1, "\\u0000": 2}),
        live_event_claims(metadata=live_event_metadata(event_name="x\x00y", user_id="\udead")),
        live_event_claims(subscription={"id": "\x00", "\ud800": 1}),
        live_event_claims(**{"e\x00": {"deep": ["\x00"]}}),
    ],
)
def test_nothing_irregular_is_lost(payload: dict[str, Any]) -> None:
    claims = live_event(payload, irregular=True)
    envelope = normalise(claims)
    assert lost(claims, envelope) == []
    assert envelope.metadata["issues"]


def test_issue_is_named_once() -> None:
    body = {"n": float("nan"), "big": 2**80, "s": "\x00"}
    claims = live_event(live_event_claims(body=body, exp=float("nan")), irregular=True)
    issues = normalise(claims).metadata["issues"]
    assert sorted(issues) == ["body.big", "body.n", "body.s", "metadata.exp"]


def test_claims_are_not_changed() -> None:
    payload = live_event_claims(metadata=live_event_metadata(tenant="x"), body={"a_id": 5})
    normalise(live_event(payload))
    assert payload == live_event_claims(metadata=live_event_metadata(tenant="x"), body={"a_id": 5})


def test_deepest_claims_that_are_read_are_normalised() -> None:
    deep: Any = 1
    for _ in range(197):
        deep = {"x_id": deep}
    claims = live_event(live_event_claims(body={"x_id": deep}))
    assert lost(claims, normalise(claims)) == []


@pytest.mark.parametrize("name", ["hostname", "user_id", "producer"])
def test_known_metadata_of_another_type_stays_and_is_named(name: str) -> None:
    metadata = _metadata(**{name: {"a": 1}})
    assert metadata[name] == {"a": 1}
    assert metadata["issues"] == [f"metadata.{name}"]


def test_subscription_id_of_another_type_stays_and_is_named() -> None:
    claims = live_event_claims(subscription={"id": ["x"]})
    metadata = normalise(live_event(claims)).metadata
    assert metadata["subscription_id"] == ["x"]
    assert metadata["issues"] == ["metadata.subscription_id"]


_WORDS = "sluice gate weir " * 1000


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        (_WORDS[:8189].rpartition(" ")[0] + "...", True),
        ("x" * 8189 + "...", True),
        ("\N{RIGHT-TO-LEFT MARK}\U0001f30a" * 4094 + "...", True),
        (_WORDS[:7165] + "...", True),
        (_WORDS[:7164] + "...", False),
        (_WORDS[:8190] + "...", False),
        (_WORDS[:8192], False),
        ("and so on...", False),
        (None, False),
    ],
)
def test_text_that_canvas_seems_to_have_cut_is_named(text: Any, cut: bool) -> None:
    claims = live_event(live_event_claims(body={"syllabus_body": text, "course_id": "7"}))
    metadata = normalise(claims).metadata
    assert metadata.get("truncated") == (["body.syllabus_body"] if cut else None)
    assert "issues" not in metadata


def test_signed_field_of_the_same_name_is_kept_beside() -> None:
    metadata = _metadata(truncated=["x"])
    assert metadata["truncated__2"] == ["x"]
    assert "truncated" not in metadata
