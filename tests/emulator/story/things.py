"""What there is in a school. A thing that changes is replaced, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Role = Literal["student", "teacher", "ta", "admin"]
EnrollmentType = Literal["StudentEnrollment", "TeacherEnrollment", "TaEnrollment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A faculty, below the root account."""

    number: int
    uuid: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user."""

    number: int
    uuid: str
    lti_id: str
    name: str
    short_name: str
    login: str
    sis_id: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A course. `source` is the course that it was copied from, `packaged` that it came in a
    file."""

    number: int
    uuid: str
    lti_id: str
    name: str
    code: str
    account: Account
    created_at: datetime
    source: Course | None = None
    packaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of a course."""

    number: int
    course: Course
    name: str
    sis_id: str
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """A person in a section."""

    number: int
    person: Person
    section: Section
    type: EnrollmentType
    created_at: datetime
    state: str = "active"

    @property
    def course(self) -> Course:
        """The section's course."""
        return self.section.course


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentGroup:
    """A part of a course's grade."""

    number: int
    course: Course
    name: str
    position: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Something to hand in; with `quiz`, by taking that quiz."""

    number: int
    course: Course
    group: AssignmentGroup
    title: str
    due_at: datetime
    unlock_at: datetime
    points: float
    types: str
    lti_id: str
    link_id: str
    quiz: int | None = None
    state: str = "unpublished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A week's part of a course."""

    number: int
    course: Course
    name: str
    position: int
    state: str = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A line of a module."""

    number: int
    module: Module
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A wiki page."""

    number: int
    course: Course
    title: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a course, or without one of its owner."""

    number: int
    owner: Person
    course: Course | None
    folder: int
    name: str
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A discussion."""

    number: int
    course: Course
    title: str
    body: str
    announcement: bool = False
    state: str = "active"
    lock_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What somebody said in a discussion."""

    number: int
    topic: Topic
    person: Person
    text: str
    created_at: datetime
    parent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSet:
    """A division of a course's students."""

    number: int
    course: Course
    name: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Students who work together."""

    number: int
    uuid: str
    set: GroupSet
    name: str
    state: str = "available"


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A student in a group."""

    number: int
    group: Group
    person: Person
    state: str = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A student's answer to an assignment: its latest attempt, and its grade."""

    number: int
    assignment: Assignment
    person: Person
    attempt: int
    type: str
    submitted_at: datetime
    late: bool
    text: str | None = None
    url: str | None = None
    score: float | None = None
    graded_attempt: int | None = None
    graded_at: datetime | None = None
