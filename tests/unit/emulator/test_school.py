from __future__ import annotations

import hashlib
import time
import tomllib
from datetime import UTC, datetime, timedelta

import jwt
import orjson
import pytest

from tests.emulator.key_store import Keys
from tests.emulator.school import LiveEvent, School
from tests.emulator.templates import DEPLOYMENT_CLAIM, LTI_CLAIM, NOTICE_CLAIM, VERSION_CLAIM

MANY = 500


def test_equal_seeds_make_equal_events_in_any_order() -> None:
    one, other = School.from_seed(5), School.from_seed(5)
    forwards = [one.live_event(n) for n in range(80)]
    backwards = [other.live_event(n) for n in reversed(range(80))]
    assert forwards == backwards[::-1]
    assert one.notices(0, "LtiContextCopyNotice", 5) == other.notices(0, "LtiContextCopyNotice", 5)


def test_other_seeds_make_other_schools_and_events() -> None:
    one, other = School.from_seed(5), School.from_seed(6)
    assert one.root_account_uuid != other.root_account_uuid
    assert one.live_event(0) != other.live_event(0)


def test_no_two_events_have_the_same_content(school: School) -> None:
    streams = ("events", "forged")
    keys = {school.live_event(n, stream=s).content_key() for n in range(MANY) for s in streams}
    assert len(keys) == 2 * MANY


def test_a_later_start_makes_other_events_and_notices(school: School) -> None:
    later = School.from_seed(11, first_event_at=school.first_event_at + timedelta(seconds=1))
    assert later.root_account_uuid == school.root_account_uuid
    for n in range(len(school.corpus.events)):
        assert later.live_event(n).content_key() != school.live_event(n).content_key()
    for kind in school.corpus.notice_types:
        assert later.notice(0, kind).content_key() != school.notice(0, kind).content_key()


def test_every_round_shows_each_example_once(school: School) -> None:
    count = len(school.corpus.events)
    for first in (0, 3 * count):
        names = [school.live_event(n).name for n in range(first, first + count)]
        assert sorted(names) == [example.event_name for example in school.corpus.events]


def test_event_time_grows_with_the_number(school: School) -> None:
    times = [
        datetime.fromisoformat(
            school.live_event(n, name="logged_out").claims["metadata"]["event_time"]
        )
        for n in range(MANY)
    ]
    assert times == sorted(set(times))
    assert timedelta(milliseconds=30) < (times[-1] - times[0]) / MANY < timedelta(milliseconds=50)


def test_claims_are_those_of_a_live_event(school: School) -> None:
    for n in range(len(school.corpus.events)):
        claims = school.live_event(n).claims
        assert claims.keys() == {"metadata", "body", "subscription", "iss"}
        assert claims["iss"] == "https://live-events.canvas.instructure.com"
        assert claims["subscription"].keys() == {"id", "owner_id"}
        assert {"event_name", "event_time"} <= claims["metadata"].keys()


def test_jobs_and_people_are_told_apart_by_their_metadata(school: School) -> None:
    person = school.live_event(0, name="grade_override").claims["metadata"]
    job = school.live_event(0, name="sis_batch_updated").claims["metadata"]
    heartbeat = school.live_event(0, name="heartbeat").claims["metadata"]
    assert "request_id" in person
    assert "job_id" not in person
    assert {"job_id", "job_tag"} <= job.keys()
    assert not {"request_id", "user_id"} & job.keys()
    assert heartbeat.keys() == {"event_name", "event_time", "producer"}


def test_a_calendar_feed_has_a_request_but_no_person(school: School) -> None:
    asset_accessed = [school.live_event(n, name="asset_accessed").claims for n in range(2)]
    anonymous = [c["metadata"] for c in asset_accessed if "user_id" not in c["metadata"]]
    assert len(anonymous) == 1
    assert "request_id" in anonymous[0]
    assert not [
        name
        for name in anonymous[0]
        if name.startswith(("user_", "context_")) and name != "user_agent"
    ]


def test_ids_of_one_thing_stay_together_and_keep_their_kind(school: School) -> None:
    for n in range(20):
        body = school.live_event(n, name="user_created").claims["body"]
        assert body["user_id"][-3:] == body["uuid"][-3:] == body["user_login"][-3:]
        account = school.live_event(n, name="account_created").claims["body"]
        assert isinstance(account["account_id"], int)
        assert account["root_account_id"] == int(school.root_account_id) > 2**53


def test_things_recur_with_different_events(school: School) -> None:
    users = [
        school.live_event(n, name="user_created").claims["body"]["user_id"] for n in range(2000)
    ]
    assert 500 < len(set(users)) <= 1000


def test_times_move_with_the_event_and_keep_their_form() -> None:
    school = School.from_seed(1, first_event_at=datetime(2030, 1, 1, 12, tzinfo=UTC))
    updated = school.live_event(0, name="attachment_updated").claims["body"]["updated_at"]
    spaced = school.live_event(0, name="content_export_created").claims["metadata"]["event_time"]
    assert updated == "2030-01-01T06:00:00-06:00"
    assert spaced == "2030-01-01 06:00:00 -0600"


def test_an_unknown_type_is_a_key_error(school: School) -> None:
    with pytest.raises(KeyError):
        school.live_event(0, name="flood_warning")
    with pytest.raises(KeyError):
        school.caliper_event(0, name="heartbeat")
    with pytest.raises(KeyError):
        school.notice(0, "LtiFloodNotice")


def test_tokens_are_good_for_an_hour_and_verify(school: School, keys: Keys) -> None:
    event, now_s = school.live_event(3), int(time.time())
    token = event.token(keys.live_events.current, now_s)
    claims = jwt.decode(
        token,
        jwt.PyJWKSet.from_dict(keys.live_events.jwks())[keys.live_events.current.kid],
        algorithms=["RS256"],
        issuer=school.live_events_issuer,
    )
    assert claims == {**event.claims, "iat": now_s, "exp": now_s + 3600}


def test_a_notice_has_the_claims_of_the_platform(school: School) -> None:
    for kind in school.corpus.notice_types:
        claims = school.notice(1, kind).claims
        assert claims["aud"] == claims["azp"] == school.client_id
        assert claims["iss"] == "https://canvas.instructure.com"
        assert claims[VERSION_CLAIM] == "1.3.0"
        assert claims[DEPLOYMENT_CLAIM] == school.deployment_id
        assert claims[NOTICE_CLAIM].keys() == {"id", "timestamp", "type"}
        assert claims[NOTICE_CLAIM]["type"] == kind
        assert claims[LTI_CLAIM + "context"].keys() >= {"id", "title", "type"}
        assert ("sub" in claims) == kind.startswith("LtiAssetProcessor")


def test_notices_of_one_batch_have_ids_of_their_own(school: School) -> None:
    notices = school.notices(0, "LtiContextCopyNotice", 50)
    assert len({notice.content_key() for notice in notices}) == 50
    assert len({notice.claims["nonce"] for notice in notices}) == 50


def test_caliper_events_are_one_event_with_an_id_of_its_own(school: School) -> None:
    count = len(school.corpus.caliper)
    events = [school.caliper_event(n) for n in range(2 * count)]
    assert [school.caliper_event(n) for n in range(2 * count)] == events
    assert len({event.content_key() for event in events}) == 2 * count
    assert sorted(event.name for event in events[:count]) == [
        example.event_name for example in school.corpus.caliper
    ]
    for event in events:
        assert {"sensor", "sendTime", "dataVersion", "data"} < event.claims.keys()
        [data] = event.claims["data"]
        assert data["id"].startswith("urn:uuid:")
        assert data["eventTime"] < event.claims["sendTime"]


def test_a_caliper_event_that_is_sent_later_is_the_same_event(school: School) -> None:
    event = school.caliper_event(3)
    later = LiveEvent(name=event.name, claims={**event.claims, "sendTime": "later"})
    assert later.content_key() == event.content_key()
    text = orjson.dumps(
        ["caliper", event.claims["iss"], school.subscription_id, event.claims["data"][0]["id"]]
    )
    assert event.content_key() == hashlib.sha256(text).hexdigest()


def test_caliper_ids_of_one_thing_stay_together(school: School) -> None:
    for n in range(20):
        [data] = school.caliper_event(n, name="logged_in").claims["data"]
        actor = data["actor"]
        beyond = actor["extensions"]["com.instructure.canvas"]
        assert actor["id"] == f"urn:instructure:canvas:user:{beyond['entity_id']}"
        assert beyond["root_account_uuid"] == school.root_account_uuid
        assert data["object"]["id"] == "https://campus.example.edu/"
        [data] = school.caliper_event(n, name="enrollment_created").claims["data"]
        assert data["actor"]["id"] == "urn:instructure:canvas:user:0"
        assert data.keys() & {"session", "referrer"} == set()


def test_content_keys_are_what_orjson_would_hash(school: School) -> None:
    for n in range(2 * len(school.corpus.events)):
        event = school.live_event(n)
        claims = event.claims
        identity = [
            "canvas",
            claims["iss"],
            school.subscription_id,
            claims["metadata"],
            claims["body"],
        ]
        text = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
        assert event.content_key() == hashlib.sha256(text).hexdigest()


def test_the_tenants_file_names_this_school(school: School) -> None:
    file = tomllib.loads(school.tenants_toml(platform_jwks_url="http://127.0.0.1:1/j"))
    [tenant], [platform] = file["tenant"], file["platform"]
    assert platform == {"issuer": school.platform_issuer, "jwks_url": "http://127.0.0.1:1/j"}
    assert tenant["name"] == "school"
    assert tenant["live_events"] == [
        {
            "root_account_uuid": school.root_account_uuid,
            "subscription_ids": [school.subscription_id],
        }
    ]
    assert tenant["pns"] == [
        {
            "issuer": school.platform_issuer,
            "client_id": school.client_id,
            "deployment_ids": [school.deployment_id],
        }
    ]


def test_the_subscription_need_not_be_pinned(school: School) -> None:
    text = school.tenants_toml(platform_jwks_url="http://127.0.0.1:1/j", pin_subscription=False)
    assert tomllib.loads(text)["tenant"][0]["live_events"][0]["subscription_ids"] == []
