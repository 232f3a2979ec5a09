"""What a worker reads and writes of all there is."""

import re

import pytest

from consumers.choice import EVERYTHING, only_tables, tables_named, topic_pattern, types_named
from consumers.projections import all_tables
from ingest.contract.catalogue import catalogue
from ingest.contract.topics import event_topic_pattern, event_topics, quarantine_topic
from tests.unit.consumers.builders import PREFIX, copy_notice, live_event

PROJECT = all_tables(catalogue())


def topics(types: str) -> list[str]:
    pattern = re.compile(topic_pattern(PREFIX, types))
    found = [*event_topics(PREFIX), quarantine_topic(PREFIX), f"{PREFIX}.dlq.tables.v1"]
    return [topic for topic in found if pattern.match(topic)]


def tables(text: str) -> list[str]:
    rows = only_tables(PROJECT, text)
    envelopes = (live_event(1), live_event(2, "submission_created", {}), copy_notice(3))
    return [row.table for envelope in envelopes for row in rows(envelope)]


def test_everything_is_every_topic_of_events_and_every_table() -> None:
    assert topic_pattern(PREFIX, EVERYTHING) == event_topic_pattern(PREFIX)
    assert topics(EVERYTHING) == event_topics(PREFIX)
    assert only_tables(PROJECT, EVERYTHING) is PROJECT


def test_types_choose_their_topics_alone() -> None:
    assert topics("submission_created, LtiContextCopyNotice") == [
        f"{PREFIX}.live-events.submission-created.v1",
        f"{PREFIX}.pns.lti-context-copy-notice.v1",
    ]
    assert topics("submission_cr*,grade_change") == topics("grade_change,submission_created")
    assert all(".unrecognised." in topic for topic in topics("unrecognised"))
    assert len(topics("unrecognised")) == 2


def test_a_later_version_of_a_topic_is_read_too() -> None:
    pattern = topic_pattern(PREFIX, "course_created")
    assert re.match(pattern, f"{PREFIX}.live-events.course-created.v2")
    assert not re.match(pattern, f"{PREFIX}.live-events.course-created.other.v1")


def test_tables_choose_their_rows_alone() -> None:
    assert tables("events") == ["events"] * 3
    assert tables("course_*") == ["course_created", "course_copies"]
    assert tables("submission_created, events") == [
        "events",
        "events",
        "submission_created",
        "events",
    ]


@pytest.mark.parametrize("text", ["course_craeted", "events,", "", "forebay_offsets", "EVENTS"])
def test_a_table_that_there_is_not_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="there is no table of events"):
        tables_named(text)


@pytest.mark.parametrize(
    "text", ["course_craeted", "course_created,nothing_*", "Submission_created"]
)
def test_a_type_that_there_is_not_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="there is no event type"):
        types_named(text)


def test_lists_that_name_something_are_what_they_were() -> None:
    assert types_named("course_*,unrecognised") == "course_*,unrecognised"
    assert tables_named("*__caliper, events") == "*__caliper, events"
