"""Names of topics and keys."""

import re

import pytest

from ingest.contract.catalogue import catalogue
from ingest.contract.envelope import Source
from ingest.contract.topics import (
    dead_letter_topic,
    event_topic_pattern,
    event_topics,
    ingest_topics,
    key_of,
    quarantine_topic,
    schema_id,
    topic_name,
    topic_of,
    type_topic,
)
from tests.support.builders import CLIENT, ROOT_ACCOUNT, envelope


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        ("live-events", "submission_created", "submission-created"),
        ("live-events", "quizzes.item_created", "quizzes.item-created"),
        ("live-events", "quizzes-lti.grade_changed", "quizzes-lti.grade-changed"),
        ("live-events", "Course_Created", "course-created"),
        ("pns", "LtiContextCopyNotice", "lti-context-copy-notice"),
        (
            "pns",
            "LtiAssetProcessorSubmissionNotice",
            "lti-asset-processor-submission-notice",
        ),
        ("pns", "LtiV2Notice", "lti-v2-notice"),
    ],
)
def test_topic_spells_a_name_in_kebab_case_and_keeps_dots(
    source: Source, name: str, expected: str
) -> None:
    assert topic_name(source, name) == expected


def test_known_type_has_its_own_topic() -> None:
    assert topic_of(envelope(), "campus.a") == "campus.a.live-events.course-created.v1"


@pytest.mark.parametrize("source", ["live-events", "pns"])
@pytest.mark.parametrize("name", ["course_evaporated", "LtiTeaNotice", "", "../x", "ü", "a" * 300])
def test_unknown_types_share_one_topic_per_source(source: Source, name: str) -> None:
    assert type_topic("p", source, name) == f"p.{source}.unrecognised.v1"
    assert schema_id(source, name) == f"urn:forebay:schema:{source}.unrecognised.v1"


def test_type_in_another_case_is_not_the_known_type() -> None:
    assert type_topic("p", "live-events", "COURSE_CREATED") == "p.live-events.unrecognised.v1"


def test_every_topic_is_a_legal_kafka_name() -> None:
    names = [*ingest_topics("campus"), dead_letter_topic("campus", "tables")]
    assert [name for name in names if not re.fullmatch(r"[a-z0-9.-]{1,249}", name)] == []


def test_kafka_tells_all_topics_apart_in_its_metrics() -> None:
    # Kafka's metrics write dots as underscores, so two names must differ in more than that
    names = {re.sub(r"[._]", "_", name) for name in ingest_topics("p")}
    assert len(names) == len(ingest_topics("p"))


def test_quarantine_is_a_topic_of_ingest_and_holds_no_envelopes() -> None:
    assert quarantine_topic("p") == "p.quarantine.v1"
    assert set(ingest_topics("p")) - set(event_topics("p")) == {"p.quarantine.v1"}


def test_ingest_writes_one_topic_per_type_and_one_per_source_for_the_rest() -> None:
    assert len(event_topics("p")) == len(set(event_topics("p"))) == len(catalogue()) + 2


def test_dead_letters_have_a_topic_per_worker() -> None:
    assert dead_letter_topic("p", "tables") == "p.dlq.tables.v1"


def test_pattern_finds_event_topics_of_this_prefix_and_later_versions_only() -> None:
    pattern = re.compile(event_topic_pattern("a.b"))
    assert all(pattern.match(name) for name in event_topics("a.b"))
    assert pattern.match("a.b.live-events.made-next-year.v2")
    for other in ("a.b.quarantine.v1", "a.b.dlq.tables.v1", "axb.pns.x.v1", "a.b.c.pns.x.v1"):
        assert not pattern.match(other)


@pytest.mark.parametrize(
    ("metadata", "entity", "key"),
    [
        ({}, "3012", f"{ROOT_ACCOUNT}:3012"),
        ({}, None, f"{ROOT_ACCOUNT}:10000000000042"),
        ({"user_id": None}, None, f"{ROOT_ACCOUNT}:{'7e' * 32}"),
        ({"root_account_uuid": None, "client_id": CLIENT}, "3012", f"{CLIENT}:3012"),
        ({"root_account_uuid": None, "client_id": CLIENT}, None, f"{CLIENT}:10000000000042"),
        ({"root_account_uuid": None}, "3012", ":3012"),
        ({}, "größe", f"{ROOT_ACCOUNT}:größe"),
    ],
)
def test_key_falls_back_from_entity_to_actor_to_event(
    metadata: dict[str, str | None], entity: str | None, key: str
) -> None:
    assert key_of(envelope(metadata), entity) == key.encode()
