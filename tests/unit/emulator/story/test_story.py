"""The story as a sequence: equal for equal seeds, in either format, and sent in its order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import jwt
import orjson
import pytest

from ingest.contract.catalogue import catalogue
from tests.emulator.canvas import Canvas
from tests.emulator.key_store import Keys
from tests.emulator.messages import LiveEvent, Notice
from tests.emulator.school import School
from tests.emulator.story.caliper import FORMS
from tests.emulator.story.story import Story
from tests.unit.emulator.receiver_stub import accept, receiver_stub

_EVENTS = 2_000


@pytest.fixture(scope="module")
def story() -> Story:
    return Story(school=School.from_seed(5), events=_EVENTS)


@pytest.fixture(scope="module")
def told(story: Story) -> list[LiveEvent | Notice]:
    return list(story)


def test_it_is_the_same_each_time(story: Story, told: list[LiveEvent | Notice]) -> None:
    assert len(told) == _EVENTS
    assert list(story) == told
    assert list(Story(school=School.from_seed(5), events=_EVENTS)) == told


def test_another_seed_is_another_school(told: list[LiveEvent | Notice]) -> None:
    other = list(Story(school=School.from_seed(6), events=_EVENTS))
    assert not {each.content_key() for each in other} & {each.content_key() for each in told}


def test_no_two_events_have_the_same_content(told: list[LiveEvent | Notice]) -> None:
    assert len({each.content_key() for each in told}) == _EVENTS


def test_a_story_that_ends_later_has_other_events_and_notices_of_the_same_people(
    told: list[LiveEvent | Notice],
) -> None:
    school = School.from_seed(5, first_event_at=datetime(2030, 5, 6, 12, tzinfo=UTC))
    later = list(Story(school=school, events=_EVENTS))
    assert not {each.content_key() for each in later} & {each.content_key() for each in told}
    assert [each.claims["body"]["user_id"] for each in later if each.name == "user_created"] == [
        each.claims["body"]["user_id"] for each in told if each.name == "user_created"
    ]


def test_caliper_tells_the_same_at_the_same_moments(
    story: Story, told: list[LiveEvent | Notice]
) -> None:
    forms = set()
    mixed = list(replace(story, caliper_share=0.5))
    for plain, other in zip(told, mixed, strict=True):
        assert plain.name == other.name
        if "data" not in other.claims:
            continue
        [event] = other.claims["data"]
        metadata, body = plain.claims["metadata"], plain.claims["body"]
        assert catalogue().caliper_type(event) == plain.name
        assert event["eventTime"] == metadata["event_time"]
        if event["actor"]["type"] == "Person":
            assert event["actor"]["id"].endswith(f":{metadata['user_id']}")
        if "submission_id" in body:
            assert event["object"]["id"].endswith(f":submission:{body['submission_id']}")
        forms.add(other.name)
    assert forms == FORMS.keys()
    assert 0 < sum("data" in each.claims for each in mixed) < _EVENTS / 2
    assert len({each.content_key() for each in mixed}) == _EVENTS


def test_a_story_is_not_shorter_than_its_school_needs() -> None:
    school = School.from_seed(1)
    for fields in ({"events": 1_999}, {"events": 2_000, "weeks": 0}):
        with pytest.raises(ValueError, match="at least"):
            Story(school=school, **fields)


@pytest.fixture
async def canvas(keys: Keys) -> AsyncIterator[Canvas]:
    async with Canvas(school=School.from_seed(5), keys=keys, timeout_s=5) as canvas:
        yield canvas


async def test_it_is_sent_in_its_order_notices_between_events(
    canvas: Canvas, story: Story, told: list[LiveEvent | Notice]
) -> None:
    async with receiver_stub(accept) as receiver:
        report = await canvas.send_story(
            receiver.url, story, concurrency=1, repeat_share=0.02, quoted_share=0.1
        )
    assert report.ok
    assert (report.events, report.accepted) == (_EVENTS, _EVENTS)
    assert report.repeats > 0
    assert canvas.oracle.accepted == {each.content_key() for each in told}
    paths = [path for path, _, _ in receiver.requests]
    assert paths.count("/live-events") > paths.count("/pns") > 0
    sent = dict.fromkeys(_content_key(path, body) for path, body, _ in receiver.requests)
    assert list(sent) == [each.content_key() for each in told]


def _content_key(path: str, body: bytes) -> str:
    if path == "/pns":
        [notice] = orjson.loads(body)["notices"]
        return Notice(name="", claims=_claims(notice["jwt"])).content_key()
    return LiveEvent(name="", claims=_claims(body.strip(b'"'))).content_key()


def _claims(token: str | bytes) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False, "verify_aud": False}))
