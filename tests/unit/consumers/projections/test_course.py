"""The head's place: context and course."""

from collections.abc import Mapping
from typing import Any

from consumers.projections import all_tables
from ingest.contract.catalogue import catalogue
from tests.unit.consumers.builders import live_event


class TestCourse:
    """Which course an event is about, and by which id."""

    def course(self, name: str, body: Mapping[str, Any], **metadata: Any) -> Any:
        told = {"root_account_id": f"9{1:013}"} | metadata
        (_, row, *_) = all_tables(catalogue())(live_event(1, name, body, **told))
        assert row.table == name
        return row.values["course_id"]

    def test_it_is_the_one_that_the_body_names(self) -> None:
        there = {"context_type": "Course", "context_id": f"9{8:013}"}
        assert self.course("course_created", {"course_id": f"9{7:013}"}, **there) == f"9{7:013}"
        assert self.course("course_completed", {"course": {"id": "7"}}, **there) == f"9{7:013}"

    def test_else_it_is_the_context_of_the_body_where_that_is_a_course(self) -> None:
        body = {"context_type": "Course", "context_id": "7"}
        there = {"context_type": "Course", "context_id": f"9{8:013}"}
        assert self.course("module_created", body, **there) == f"9{7:013}"
        assert self.course("module_created", {**body, "context_type": "Group"}, **there) == (
            f"9{8:013}"
        )

    def test_else_it_is_where_the_user_was(self) -> None:
        there = {"context_type": "Course", "context_id": f"9{8:013}"}
        assert self.course("logged_in", {}, **there) == f"9{8:013}"
        assert self.course("logged_in", {}, context_type="Account", context_id=f"9{8:013}") is None

    def test_a_local_id_becomes_global_by_the_shard_of_the_root_account(self) -> None:
        assert self.course("course_section_created", {"course_id": "17"}) == f"9{17:013}"

    def test_an_id_stays_as_it_came_where_the_shard_is_unknown_or_it_is_no_number(self) -> None:
        named = {"course_id": "17"}
        assert self.course("course_section_created", named, root_account_id="1") == "17"
        assert self.course("course_section_created", named, root_account_id=None) == "17"
        assert self.course("course_section_created", {"course_id": "own"}) == "own"

    def test_the_contexts_of_bodies_stand_in_the_head(self) -> None:
        body = {"context_type": "Course", "context_id": "7"}
        there = {"context_type": "Account", "context_id": f"9{1:013}"}
        (_, row) = all_tables(catalogue())(
            live_event(1, "module_created", body, root_account_id=f"9{1:013}", **there)
        )
        assert (row.values["context_type"], row.values["context_id"]) == ("Course", f"9{7:013}")
        assert "context_id__2" not in row.columns

    def test_a_course_that_does_not_fit_is_no_other_course(self) -> None:
        there = {"context_type": "Course", "context_id": f"9{8:013}"}
        (_, row) = all_tables(catalogue())(
            live_event(1, "course_created", {"course_id": {"a": 1}}, **there)
        )
        assert row.values["course_id"] is None
        assert row.values["course_id__text"] == '{"a":1}'

    def test_in_caliper_it_is_the_object_or_where_that_is(self) -> None:
        here = {"context_type": "Course", "context_id": f"9{8:013}", "format": "caliper"}
        body = {"object": {"id": f"urn:instructure:canvas:course:9{7:013}"}}
        (_, row) = all_tables(catalogue())(live_event(1, "course_created", body, **here))
        assert (row.table, row.values["course_id"]) == ("course_created__caliper", f"9{7:013}")
        (_, row) = all_tables(catalogue())(live_event(1, "course_created", {}, **here))
        assert row.values["course_id"] == f"9{8:013}"
