"""The entities whose current state has a view, and what events of other types tell of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A type of event, about something else, that tells of an entity too.

    `columns` maps the view's columns to the type's fields, key included; none stands for all. Of
    `only_where`, a field and its value, other events tell of something else. `deleted_when` is as
    in the catalogue.
    """

    type: str
    carries: Literal["snapshot", "partial"] = "partial"
    columns: Mapping[str, str] = field(default_factory=dict)
    only_where: tuple[str, str | None] | None = None
    deleted_when: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """An entity of the catalogue, by the word there, and the columns that tell one from another.

    All types of this entity that have a key and carry something tell of it, beside `told_by`.
    `in_course`: the view says in which course it is, which may not be a field of its own.
    """

    view: str
    about: str
    entity: str
    key: tuple[str, ...]
    told_by: tuple[Told, ...] = ()
    in_course: bool = True
    marks_deleted: bool = True


_MEMBER = {"user_id": "user_id", "name": "user_name", "uuid": "user_uuid"}
_GROUP = {
    name: name for name in ("group_id", "group_name", "group_category_id", "group_category_name")
}
_MIGRATED = {"lti_context_id": "lti_context_id", "course_uuid": "context_uuid"}
_WHOLE_COURSE = ("grading_period_id", None)
_INTO_COURSE = ("context_type", "Course")

ENTITIES: tuple[Entity, ...] = (
    Entity(
        view="current_courses",
        about="courses, with the latest syllabus",
        entity="course",
        key=("course_id",),
    ),
    Entity(
        view="current_sections",
        about="sections of courses",
        entity="course_section",
        key=("course_section_id",),
    ),
    Entity(
        view="current_users",
        about="people, also those of whom only an enrollment told",
        entity="user",
        key=("user_id",),
        told_by=(
            Told(type="enrollment_created", columns=_MEMBER),
            Told(type="enrollment_updated", columns=_MEMBER),
        ),
        in_course=False,
    ),
    Entity(
        view="current_enrollments",
        about="enrollments, with the state that counts at present",
        entity="enrollment",
        key=("enrollment_id",),
        told_by=(
            Told(type="enrollment_state_created", carries="snapshot"),
            Told(type="enrollment_state_updated", carries="snapshot"),
        ),
    ),
    Entity(
        view="current_assignments",
        about="assignments",
        entity="assignment",
        key=("assignment_id",),
    ),
    Entity(
        view="current_submissions",
        about="submissions, with the latest grade and who gave it",
        entity="submission",
        key=("submission_id",),
    ),
    Entity(
        view="current_grades",
        about="a student's scores in a course as a whole",
        entity="",
        key=("course_id", "user_id"),
        told_by=(
            # it does not name the score, which is the course's, not that of a grading period:
            # canvas-lms lib/grade_calculator.rb
            Told(
                type="course_grade_change",
                carries="snapshot",
                deleted_when="workflow_state=deleted",
            ),
            Told(type="grade_override", only_where=_WHOLE_COURSE),
            Told(type="final_grade_custom_status", only_where=_WHOLE_COURSE),
        ),
    ),
    Entity(
        view="current_modules",
        about="modules of courses",
        entity="module",
        key=("module_id",),
    ),
    Entity(
        view="current_pages",
        about="pages of wikis",
        entity="wiki_page",
        key=("wiki_page_id",),
    ),
    Entity(
        view="current_discussions",
        about="discussion topics and announcements",
        entity="discussion_topic",
        key=("discussion_topic_id",),
    ),
    Entity(
        view="current_quizzes",
        about="Classic Quizzes",
        entity="quiz",
        key=("quiz_id",),
    ),
    Entity(
        view="current_files",
        about="files, which Canvas calls attachments",
        entity="attachment",
        key=("attachment_id",),
    ),
    Entity(
        view="current_groups",
        about="student groups",
        entity="group",
        key=("group_id",),
        told_by=(
            Told(type="group_membership_created", columns=_GROUP),
            Told(type="group_membership_updated", columns=_GROUP),
        ),
    ),
    Entity(
        view="lti_contexts",
        about="the course that an LTI context id stands for",
        entity="",
        key=("lti_context_id",),
        told_by=(
            Told(type="content_migration_started", columns=_MIGRATED, only_where=_INTO_COURSE),
            Told(type="content_migration_completed", columns=_MIGRATED, only_where=_INTO_COURSE),
        ),
        marks_deleted=False,
    ),
)
