"""What claims say of themselves."""

from typing import Any

import pytest

from ingest.errors import Malformed, Unusable
from ingest.values import Claims, Format, HugeNumber
from ingest.verifying.claims import (
    check_form,
    check_is_notice,
    check_time,
    client_id_of,
    format_of,
    hostname_of,
    root_account_uuid_of,
    subscription_id_of,
)
from tests.support.builders import (
    NOTICE_CLAIM,
    NOW_S,
    caliper_claims,
    caliper_event,
    live_event,
    live_event_claims,
    live_event_metadata,
    notice,
    notice_claim,
    notice_claims,
    without,
)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (live_event_claims(), "canvas"),
        ({}, "canvas"),
        ({"dataVersion": "http://purl.imsglobal.org/ctx/caliper/v1p1"}, "caliper"),
        ({"data": [{}]}, "caliper"),
        (caliper_claims(), "caliper"),
    ],
)
def test_format_of_a_live_event_is_seen_in_its_claims(
    payload: dict[str, Any], expected: Format
) -> None:
    assert format_of(payload, "live-events") == expected
    assert format_of(payload, "pns") == "pns"


@pytest.mark.parametrize(
    ("audience", "party", "client"),
    [
        ("c1", None, "c1"),
        (["c1"], None, "c1"),
        (["c1"], "c2", "c1"),
        (["c1", "c2"], "c2", "c2"),
        (["c1", "c2"], "c3", None),
        (["c1", "c2"], None, None),
        (["c1", "c2"], 5, None),
        ([], "c1", None),
        ([5], None, None),
        ("", None, None),
        (7, "7", None),
        (None, "c1", None),
        ({"c1": 1}, "c1", None),
    ],
)
def test_client_is_the_audience_or_the_party_among_several(
    audience: Any, party: Any, client: str | None
) -> None:
    assert client_id_of({"aud": audience, "azp": party}) == client


def test_claims_without_an_audience_name_no_client() -> None:
    assert client_id_of({"azp": "c1"}) is None


@pytest.mark.parametrize(
    ("payload", "uuid"),
    [
        ({"metadata": {"root_account_uuid": "r"}}, "r"),
        ({"metadata": {"root_account_uuid": ""}}, None),
        ({"metadata": {"root_account_uuid": 5}}, None),
        ({"metadata": {}}, None),
        ({"metadata": []}, None),
        ({}, None),
        (
            {
                "data": [
                    {
                        "actor": {
                            "extensions": {"com.instructure.canvas": {"root_account_uuid": "r"}}
                        }
                    }
                ]
            },
            "r",
        ),
        ({"data": [{"actor": {"extensions": []}}]}, None),
        ({"data": [None]}, None),
        ({"data": []}, None),
        ({"data": {}}, None),
    ],
)
def test_root_account_is_found_in_either_format(payload: dict[str, Any], uuid: str | None) -> None:
    assert root_account_uuid_of(payload) == uuid


@pytest.mark.parametrize(
    ("subscription", "identifier"),
    [
        ({"id": "s"}, "s"),
        ({"id": 9}, "9"),
        ({"id": ""}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_subscription_is_named_by_its_id(subscription: Any, identifier: str | None) -> None:
    assert subscription_id_of({"subscription": subscription}) == identifier


@pytest.mark.parametrize("value", [None, "text", [], 1])
def test_claims_without_a_notice_are_malformed(value: Any) -> None:
    with pytest.raises(Malformed):
        check_is_notice({NOTICE_CLAIM: value})
    with pytest.raises(Malformed):
        check_is_notice({})


def _timed(**members: Any) -> Claims:
    return live_event({**without(live_event_claims(), "exp"), **members})


@pytest.mark.parametrize(
    "members",
    [
        {"exp": NOW_S - 299},
        {"exp": int(NOW_S) - 299},
        {"exp": 10**300},
        {"exp": NOW_S, "nbf": NOW_S + 300},
        {"exp": NOW_S, "nbf": -5.5},
        {"exp": NOW_S, "iat": NOW_S + 10**6},
        {"exp": NOW_S, "iat": "yesterday"},
    ],
)
def test_token_within_its_time_and_the_leeway_passes(members: dict[str, Any]) -> None:
    check_time(_timed(**members), 300)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"exp": NOW_S - 300}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -(10**300)}, "expired"),
        ({"exp": NOW_S, "nbf": NOW_S + 301}, "expired"),
        ({}, "unreadable_claims"),
        ({"exp": None}, "unreadable_claims"),
        ({"exp": str(int(NOW_S))}, "unreadable_claims"),
        ({"exp": True}, "unreadable_claims"),
        ({"exp": float("nan")}, "unreadable_claims"),
        ({"exp": float("inf")}, "unreadable_claims"),
        ({"exp": [NOW_S]}, "unreadable_claims"),
        ({"exp": NOW_S, "nbf": None}, "unreadable_claims"),
        ({"exp": NOW_S, "nbf": "0"}, "unreadable_claims"),
    ],
)
def test_token_outside_its_time_is_unusable(members: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        check_time(_timed(**members), 300)
    assert caught.value.reason == reason
    assert caught.value.claims is not None


_NOT_ONE_CALIPER_EVENT: list[Any] = [
    None,
    [],
    {},
    ["text"],
    [caliper_event(), caliper_event()],
    [caliper_event(id=None)],
    [caliper_event(id="")],
    [caliper_event(type=5)],
    [without(caliper_event(), "type")],
]


def _caliper(data: Any) -> Claims:
    return live_event(caliper_claims(data=data), format_="caliper")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        (live_event(live_event_claims(sub=5)), "unreadable_claims"),
        (live_event(live_event_claims(sub=None)), "unreadable_claims"),
        (live_event(live_event_claims(jti=["x"])), "unreadable_claims"),
        (live_event(live_event_claims(metadata=None)), "unsupported_format"),
        (live_event(live_event_claims(metadata=[])), "unsupported_format"),
        (live_event(live_event_claims(body="text")), "unsupported_format"),
        (live_event(without(live_event_claims(), "body")), "unsupported_format"),
        (
            live_event(live_event_claims(metadata=live_event_metadata(event_name=""))),
            "unsupported_format",
        ),
        (
            live_event(live_event_claims(metadata=live_event_metadata(event_name=3))),
            "unsupported_format",
        ),
        *((_caliper(data), "unsupported_format") for data in _NOT_ONE_CALIPER_EVENT),
        (live_event(caliper_claims(sub=5), format_="caliper"), "unreadable_claims"),
        (notice(notice_claims(**{NOTICE_CLAIM: notice_claim(id="")})), "unreadable_claims"),
        (notice(notice_claims(**{NOTICE_CLAIM: notice_claim(type=None)})), "unreadable_claims"),
        (notice(notice_claims(sub=7)), "unreadable_claims"),
    ],
)
def test_claims_of_which_no_event_can_be_told_are_unusable(claims: Claims, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        check_form(claims)
    assert caught.value.reason == reason
    assert caught.value.claims is claims


@pytest.mark.parametrize(
    "claims",
    [
        live_event(),
        live_event(caliper_claims(), format_="caliper"),
        live_event(caliper_claims(data=[{"id": "x", "type": "y"}]), format_="caliper"),
        live_event(live_event_claims(sub="s", jti="")),
        live_event(
            live_event_claims(metadata={"event_name": "heartbeat", "event_time": None}, body={})
        ),
        notice(),
        notice(notice_claims(sub="s")),
    ],
)
def test_claims_with_the_least_that_is_safe_to_require_pass(claims: Claims) -> None:
    check_form(claims)


def test_digits_of_a_number_beyond_any_double_are_no_text() -> None:
    huge = HugeNumber("1e999")
    for name in ("sub", "jti"):
        with pytest.raises(Unusable):
            check_form(live_event(live_event_claims(**{name: huge}), irregular=True))
    with pytest.raises(Unusable):
        check_form(live_event(live_event_claims(metadata=live_event_metadata(event_name=huge))))
    assert client_id_of({"aud": huge}) is None
    assert client_id_of({"aud": [huge]}) is None
    assert subscription_id_of({"subscription": {"id": huge}}) is None


def test_hostname_is_read_in_both_formats_and_may_be_absent() -> None:
    metadata = live_event_metadata(hostname="campus.example.edu")
    assert hostname_of(live_event_claims(metadata=metadata)) == "campus.example.edu"
    assert hostname_of(caliper_claims()) == "canvas.example.edu"
    for claims in (
        live_event_claims(),
        live_event_claims(metadata={"hostname": 5}),
        caliper_claims(data=[caliper_event(extensions=None)]),
        caliper_claims(data=[]),
        notice_claims(),
    ):
        assert hostname_of(claims) is None
