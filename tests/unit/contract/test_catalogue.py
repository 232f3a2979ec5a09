"""The catalogue that this release ships, and how entries are read."""

import re
from collections import Counter

import pytest

from ingest.contract.catalogue import EventType, catalogue
from ingest.contract.topics import UNRECOGNISED, type_topic
from tests.support.each import each_case

_ENTRIES = list(catalogue())
_RESERVED = re.compile(r"events|course_copies.*|lti_contexts|(all|current|forebay)_.*")


def test_catalogue_knows_both_sources() -> None:
    assert {entry.source for entry in _ENTRIES} == {"live-events", "pns"}
    assert len(catalogue()) == len(_ENTRIES) > 100


def test_every_type_is_found_by_its_own_name() -> None:
    assert all(catalogue().find(entry.source, entry.name) is entry for entry in _ENTRIES)


def test_unknown_type_has_no_entry() -> None:
    assert catalogue().find("live-events", "course_evaporated") is None


def test_type_of_the_other_source_is_not_found() -> None:
    assert catalogue().find("pns", "course_created") is None


def test_no_two_types_share_a_topic() -> None:
    topics = Counter(type_topic("p", entry.source, entry.name) for entry in _ENTRIES)
    assert [topic for topic, count in topics.items() if count > 1] == []


def test_no_type_has_the_topic_of_unknown_types() -> None:
    topics = {type_topic("p", entry.source, entry.name) for entry in _ENTRIES}
    assert topics.isdisjoint({f"p.{s}.{UNRECOGNISED}.v1" for s in ("live-events", "pns")})


def test_no_two_types_share_a_table() -> None:
    tables = Counter(entry.table for entry in _ENTRIES)
    assert [table for table, count in tables.items() if count > 1] == []


def test_no_type_takes_a_reserved_table() -> None:
    assert [entry.table for entry in _ENTRIES if _RESERVED.fullmatch(entry.table)] == []


def test_key_is_a_declared_field() -> None:
    with each_case() as case:
        for entry in filter(lambda entry: entry.key, _ENTRIES):
            with case(entry.name):
                assert entry.key[0] in entry.fields
                declared = entry.fields[entry.key[0]]
                # an entity is named by a text; a path of two steps goes through an object
                assert declared in ({"object"} if len(entry.key) > 1 else {"id", "string"})


def test_table_name_fits_every_store() -> None:
    with each_case() as case:
        for entry in _ENTRIES:
            with case(entry.name):
                assert re.fullmatch(r"[a-z][a-z0-9_]{0,54}", entry.table)


def test_every_type_says_what_it_is_about() -> None:
    assert [entry.name for entry in _ENTRIES if not entry.about.strip()] == []


def test_every_heading_has_types_and_every_type_a_heading() -> None:
    assert {entry.category for entry in _ENTRIES} == catalogue().categories.keys()


def test_mark_of_deletion_is_in_a_declared_field() -> None:
    with each_case() as case:
        for entry in _ENTRIES:
            path = (entry.deleted_when or "always").partition("=")[0].partition(".")[0]
            with case(entry.name):
                assert path == "always" or path in entry.fields
                # what is deleted, or changed, has an id
                assert entry.key or not (entry.deleted_when or entry.carries)


def test_what_is_said_in_caliper_is_a_field_and_where_it_is_said_a_part_of_caliper() -> None:
    with each_case() as case:
        for entry in filter(lambda entry: entry.caliper, _ENTRIES):
            with case(entry.name):
                assert entry.in_caliper.keys() <= entry.fields.keys()
                first = {path[0] for path in entry.in_caliper.values()}
                assert all(catalogue().caliper_fields[name] == "object" for name in first)
                assert all(len(path) > 1 for path in entry.in_caliper.values())


def test_course_is_named_by_a_declared_field() -> None:
    with each_case() as case:
        for entry in filter(lambda entry: entry.course, _ENTRIES):
            with case(entry.name):
                declared = entry.fields[entry.course[0]]
                assert declared == ("object" if len(entry.course) > 1 else "id")


@pytest.mark.parametrize(
    ("source", "name", "table"),
    [
        ("live-events", "submission_created", "submission_created"),
        ("live-events", "quizzes.item_created", "quizzes_item_created"),
        ("live-events", "quizzes-lti.grade_changed", "quizzes_lti_grade_changed"),
        ("live-events", "Mixed_Case", "mixed_case"),
        ("pns", "LtiContextCopyNotice", "lti_context_copy_notice"),
        ("pns", "LtiHelloWorldNotice", "lti_hello_world_notice"),
    ],
)
def test_table_is_words_in_lower_case(source: str, name: str, table: str) -> None:
    entry = EventType(source=source, name=name, about="x", fields={})  # type: ignore[arg-type]
    assert entry.table == table


_NESTED = EventType(
    source="live-events", name="x", about="x", fields={"thing": "object"}, key=("thing", "id")
)


@pytest.mark.parametrize(
    ("body", "entity"),
    [
        ({"thing": {"id": "9"}}, "9"),
        ({"thing": {"id": ""}}, None),
        ({"thing": {"id": 9}}, None),
        ({"thing": {"id": None}}, None),
        ({"thing": "9"}, None),
        ({"thing": None}, None),
        ({}, None),
    ],
)
def test_entity_id_is_a_text_at_the_key_or_nothing(
    body: dict[str, object], entity: str | None
) -> None:
    assert _NESTED.entity_id(body) == entity


def test_type_without_a_key_has_no_entity() -> None:
    entry = EventType(source="live-events", name="x", about="x", fields={"id": "id"})
    assert entry.entity_id({"id": "9"}) is None
