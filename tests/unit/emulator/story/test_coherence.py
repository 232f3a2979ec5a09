"""Nothing is told of before it is there, and what is told goes together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from ingest.contract.catalogue import catalogue
from tests.emulator.messages import LiveEvent, Notice
from tests.emulator.school import School
from tests.emulator.story.others import TOLD
from tests.emulator.story.story import Story
from tests.unit.emulator.story.model import Model

_SHARD = "1093"


@dataclass(frozen=True)
class Read:
    """A story, all that it tells, and what the model makes of it."""

    story: Story
    told: list[LiveEvent | Notice]
    model: Model

    def of(self, *names: str) -> Iterator[dict[str, Any]]:
        for each in self.told:
            if isinstance(each, LiveEvent) and each.name in names:
                yield dict(each.claims)


@pytest.fixture(scope="module", params=[(3, 20_000), (8, 2_000)], ids=["full", "small"])
def read(request: pytest.FixtureRequest) -> Read:
    seed, events = request.param
    story = Story(school=School.from_seed(seed), events=events)
    told, model = list(story), Model()
    for each in told:
        if each.name in TOLD:
            model.read(each)
    return Read(story, told, model)


def test_whatever_is_referred_to_was_told_of_and_grades_and_attempts_follow(read: Read) -> None:
    assert read.model.faults == []


def test_it_is_a_school(read: Read) -> None:
    counts, story = read.model.counts, read.story
    assert counts["user_created"] == story.people
    assert counts["course_created"] == story.courses
    assert counts["course_section_created"] == 2 * story.courses
    assert counts["copies from 1"] >= story.courses // 2
    for name in ("submission_created", "grade_change", "quiz_submitted", "asset_accessed"):
        assert counts[name] > 10, name
    late = [c["body"]["late"] for c in read.of("submission_created")]
    assert 0.02 < sum(late) / len(late) < 0.4


def test_a_full_school_has_500_people_in_20_courses() -> None:
    story = Story(school=School.from_seed(1), events=20_000)
    assert (story.people, story.courses) == (500, 20)


def test_time_goes_forward_through_all_the_weeks_and_ends_at_the_end(read: Read) -> None:
    times = [datetime.fromisoformat(c["metadata"]["event_time"]) for c in read.of(*TOLD)]
    assert all(before < after for before, after in pairwise(times))
    assert timedelta() <= read.story.ends_at - times[-1] < timedelta(hours=2)
    assert timedelta(days=44) < times[-1] - times[0] < timedelta(days=47)


def test_people_log_in_by_day(read: Read) -> None:
    hours = Counter(
        (datetime.fromisoformat(c["metadata"]["event_time"]) - timedelta(hours=7)).hour
        for c in read.of("logged_in")
    )
    night, day = sum(hours[h] for h in range(6)), sum(hours[h] for h in range(9, 22))
    assert night < 0.1 * hours.total() < 0.6 * hours.total() < day


def test_a_few_assets_are_used_much_more_than_the_rest(read: Read) -> None:
    uses = Counter(c["body"]["asset_id"] for c in read.of("asset_accessed"))
    top = uses.most_common(read.story.courses)
    assert len(uses) > 3 * len(top)
    assert sum(count for _, count in top) > 0.5 * uses.total()


def test_every_type_that_there_are_examples_of_is_told(read: Read) -> None:
    corpus = read.story.school.corpus
    wanted = {*corpus.event_names, *corpus.notice_types}
    names = {each.name for each in read.told}
    if read.story.events >= 20_000:
        assert names >= wanted | TOLD
    assert names <= wanted | TOLD


def test_what_the_story_has_no_use_for_is_about_people_and_courses_that_are_there(
    read: Read,
) -> None:
    users = {c["body"]["user_id"] for c in read.of("user_created")}
    courses = {c["body"]["course_id"] for c in read.of("course_created")}
    others = [e for e in read.told if isinstance(e, LiveEvent) and e.name not in TOLD]
    assert len(others) > 0.02 * len(read.told)
    actors = {e.claims["metadata"]["user_id"] for e in others if "user_id" in e.claims["metadata"]}
    progress = [
        e.claims["body"] for e in others if e.name in ("course_progress", "course_completed")
    ]
    assert {body["course"]["id"] for body in progress} <= courses
    assert {body["user"]["id"] for body in progress} <= users
    assert len(actors - users) <= 1  # an administrator's program


def test_each_field_has_its_ids_in_the_form_that_the_catalogue_states(read: Read) -> None:
    seen = 0
    for name in TOLD:
        entry = catalogue().find("live-events", name)
        if entry is None:
            continue
        scopes = {field: note.scope for field, note in entry.notes.items()}
        for claims in read.of(name):
            for field, value in claims["body"].items():
                assert field in entry.fields, (name, field)
                if value is not None and scopes.get(field) in ("global", "local"):
                    is_global = len(value) == 17 and value.startswith(_SHARD)
                    assert is_global == (scopes[field] == "global"), (name, field, value)
                    seen += 1
    assert seen > len(read.told)


def test_the_model_finds_what_does_not_go_together(read: Read) -> None:
    grade = next(e for e in read.told if e.name == "grade_change" and e.claims["body"]["grader_id"])
    body = {**grade.claims["body"], "grader_id": grade.claims["body"]["user_id"]}
    spoilt = LiveEvent(name=grade.name, claims={**grade.claims, "body": body})
    model = Model()
    for each in read.told:
        if each.name in TOLD:
            model.read(spoilt if each is grade else each)
    assert len(model.faults) == 1
    assert "does not teach there" in model.faults[0]


def test_a_submission_before_its_enrollment_is_found(read: Read) -> None:
    model = Model()
    for each in read.told:
        if each.name in TOLD and each.name != "enrollment_created":
            try:
                model.read(each)
            except KeyError:
                continue
    assert any("is not enrolled" in fault for fault in model.faults)


def test_the_weeks_can_be_others() -> None:
    story = Story(school=School.from_seed(1), events=2_000, weeks=2)
    first = next(iter(story))
    assert first.claims["metadata"]["event_time"] > (story.ends_at - timedelta(days=19)).isoformat()
    longer = replace(story, weeks=9)
    assert longer.first_day < story.first_day
