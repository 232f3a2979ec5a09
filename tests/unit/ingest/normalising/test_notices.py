"""Platform notices."""

from typing import Any

import orjson
import pytest

from ingest.contract.codec import encode
from ingest.normalising import normalise
from ingest.normalising.identity import event_id
from ingest.values import HugeNumber
from tests.support.builders import (
    CLIENT,
    DEPLOYMENT,
    NOTICE_CLAIM,
    NOW_S,
    PLATFORM,
    TENANT,
    notice,
    notice_claim,
    notice_claims,
    without,
)
from tests.unit.ingest.normalising.lossless import lost

_CONTEXT = "https://purl.imsglobal.org/spec/lti/claim/context"


def test_metadata_is_flat_and_says_what_we_know() -> None:
    claims = notice(notice_claims(sub="user-9"))
    assert normalise(claims).metadata == {
        "event_id": event_id(claims),
        "event_type": "LtiContextCopyNotice",
        "event_time": "2026-09-21T14:13:15.000Z",
        "received_at": "2026-09-21T14:13:20.000Z",
        "source": "pns",
        "format": "pns",
        "tenant": TENANT,
        "issuer": PLATFORM,
        "client_id": CLIENT,
        "deployment_id": DEPLOYMENT,
        "notice_id": "notice-5",
        "user_id": "user-9",
        "aud": CLIENT,
        "azp": CLIENT,
        "iat": int(NOW_S) - 5,
        "exp": int(NOW_S) + 3595,
        "nonce": "nonce-1",
    }


def test_claims_lie_under_the_last_segment_of_their_uri() -> None:
    body = normalise(notice(notice_claims(**{_CONTEXT: {"id": "c-9"}}))).body
    assert body == {
        "notice": notice_claim(),
        "version": "1.3.0",
        "deployment_id": DEPLOYMENT,
        "context": {"id": "c-9"},
    }


def test_claims_that_share_a_segment_are_both_kept() -> None:
    other = "https://vendor.example.edu/spec/context"
    claims = notice(notice_claims(**{_CONTEXT: {"id": "c-9"}, other: "mine", other + "/": "too"}))
    envelope = normalise(claims)
    assert envelope.body["context"] == {"id": "c-9"}
    assert {envelope.body["context__2"], envelope.body["context__3"]} == {"mine", "too"}
    assert set(envelope.metadata["issues"]) == {"body.context__2", "body.context__3"}
    assert lost(claims, envelope) == []


def test_standard_claim_keeps_its_name_wherever_it_stands() -> None:
    other = {"https://vendor.example.edu/spec/notice": "mine"}
    envelope = normalise(notice({**other, **notice_claims()}))
    assert envelope.body["notice"]["id"] == "notice-5"


def test_notice_without_a_timestamp_has_no_time() -> None:
    bare = without(notice_claim(), "timestamp")
    assert "event_time" not in normalise(notice(notice_claims(**{NOTICE_CLAIM: bare}))).metadata


@pytest.mark.parametrize("timestamp", [None, "soon", 5])
def test_notice_with_a_strange_timestamp_is_encoded_without_a_time(timestamp: Any) -> None:
    claims = notice(notice_claims(**{NOTICE_CLAIM: notice_claim(timestamp=timestamp)}))
    record = encode(normalise(claims), prefix="p")
    assert "ce_time" not in dict(record.headers)


def test_unknown_notice_type_flows() -> None:
    claims = notice(notice_claims(**{NOTICE_CLAIM: notice_claim(type="LtiTeaNotice")}))
    assert encode(normalise(claims), prefix="p").topic == "p.pns.unrecognised.v1"


def test_notice_without_a_deployment_has_none() -> None:
    assert "deployment_id" not in normalise(notice(deployment_id=None)).metadata


@pytest.mark.parametrize(
    "name", ["tenant", "event_id", "issues", "client_id", "notice_id", "source"]
)
def test_claims_cannot_take_the_place_of_ours(name: str) -> None:
    claims = notice(notice_claims(**{name: "forged"}))
    envelope = normalise(claims)
    assert envelope.metadata.get(name) != "forged"
    assert envelope.metadata[f"{name}__2"] == "forged"
    assert lost(claims, envelope) == []


def test_actor_is_the_subject_whatever_else_is_claimed() -> None:
    claims = notice(notice_claims(sub="user-9", user_id="user-0"))
    envelope = normalise(claims)
    assert envelope.metadata["user_id"] == "user-9"
    assert lost(claims, envelope) == []


def test_time_is_the_notices_own_whatever_else_is_claimed() -> None:
    claims = notice(notice_claims(event_time="2001-01-01T00:00:00Z"))
    envelope = normalise(claims)
    assert envelope.metadata["event_time"] == "2026-09-21T14:13:15.000Z"
    assert lost(claims, envelope) == []


@pytest.mark.parametrize(
    "members",
    [
        {"sub": "user-9", "aud": [CLIENT, "other"]},
        {_CONTEXT: {"id": 5, "n": 2**70, "list": [{"x_ids": [1]}]}},
        {"https://vendor.example.edu/a/b/": None, "plain": {"x_id": 3}},
        {NOTICE_CLAIM: notice_claim(extra=True, timestamp="2026-09-21T14:13:15+02:00")},
    ],
)
def test_nothing_signed_is_lost(members: dict[str, Any]) -> None:
    claims = notice(notice_claims(**members))
    assert lost(claims, normalise(claims)) == []


@pytest.mark.parametrize(
    "members",
    [
        {NOTICE_CLAIM: notice_claim(id="a\x00", type="Lti\ud800")},
        {_CONTEXT: {"id": "\udead", "n": float("-inf"), "x": HugeNumber("1e999")}},
        {"sub": "\x00", "https://vendor.example.edu/\x00": 1},
    ],
)
def test_nothing_irregular_is_lost(members: dict[str, Any]) -> None:
    claims = notice(notice_claims(**members), irregular=True)
    envelope = normalise(claims)
    assert lost(claims, envelope) == []
    assert orjson.loads(encode(envelope, prefix="p").value)["body"] == envelope.body


def test_issues_are_paths_in_the_envelope() -> None:
    claims = notice(notice_claims(**{_CONTEXT: {"id": "\x00"}}), irregular=True)
    assert normalise(claims).metadata["issues"] == ["body.context.id"]


@pytest.mark.parametrize("deployment", ["d\x00", "d\ud800"])
def test_deployment_that_stores_refuse_is_made_visible(deployment: str) -> None:
    claims = notice(irregular=True, deployment_id=deployment)
    value = encode(normalise(claims), prefix="p").value
    assert orjson.loads(value)["metadata"]["deployment_id"] == f"d\\u{ord(deployment[1]):04x}"
