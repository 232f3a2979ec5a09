"""How things stand at this moment of the story. What is deleted is not here any more."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

from tests.emulator.story.things import (
    Account,
    Assignment,
    AssignmentGroup,
    Course,
    Enrollment,
    Entry,
    File,
    Group,
    Membership,
    Module,
    Page,
    Person,
    Section,
    Submission,
    Topic,
)

_STAFF_WEIGHT = 3.0  # a teacher is there that much more often than the average student


@dataclass(slots=True, kw_only=True)
class Classroom:
    """One course's things, by their numbers, in the order in which they came.

    `staff` and `students` are by the number of the person, `assignments` are those that students
    see, `overrides` due dates by assignment and section.
    """

    course: Course
    sections: list[Section] = field(default_factory=list)
    staff: dict[int, Enrollment] = field(default_factory=dict)
    students: dict[int, Enrollment] = field(default_factory=dict)
    parts: list[AssignmentGroup] = field(default_factory=list)
    assignments: dict[int, Assignment] = field(default_factory=dict)
    modules: dict[int, Module] = field(default_factory=dict)
    pages: dict[int, Page] = field(default_factory=dict)
    files: dict[int, File] = field(default_factory=dict)
    topics: dict[int, Topic] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)
    memberships: dict[int, Membership] = field(default_factory=dict)
    overrides: dict[tuple[int, int], datetime] = field(default_factory=dict)
    syllabus: str | None = None


class Campus:
    """All of the school. Classrooms are in the order of their courses, submissions by assignment
    and person, `latest` by person."""

    def __init__(self, rng: random.Random, accounts: list[Account], people: list[Person]) -> None:
        self.accounts = accounts
        self.people = {person.number: person for person in people}
        self.classrooms: list[Classroom] = []
        self.room: dict[int, Classroom] = {}
        self.enrollments: defaultdict[int, dict[int, Enrollment]] = defaultdict(dict)
        self.submissions: dict[tuple[int, int], Submission] = {}
        self.latest: dict[int, Submission] = {}
        self.entries: defaultdict[int, dict[int, Entry]] = defaultdict(dict)
        self.points: defaultdict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._numbers = list(self.people)
        # few are there very often, many seldom
        self._weights = list(
            accumulate(
                _STAFF_WEIGHT if person.role in ("teacher", "ta") else rng.lognormvariate(0, 0.7)
                for person in people
            )
        )

    def visitor(self, rng: random.Random) -> Person:
        """Somebody who comes by."""
        [number] = rng.choices(self._numbers, cum_weights=self._weights)
        return self.people[number]

    def open(self, course: Course) -> Classroom:
        """The classroom of a new course."""
        room = self.room[course.number] = Classroom(course=course)
        self.classrooms.append(room)
        return room

    def enroll(self, enrollment: Enrollment) -> None:
        """Somebody comes into a course, or is there in another state."""
        room = self.room[enrollment.course.number]
        students = enrollment.type == "StudentEnrollment"
        (room.students if students else room.staff)[enrollment.person.number] = enrollment
        self.enrollments[enrollment.person.number][enrollment.course.number] = enrollment

    def submit(self, submission: Submission) -> None:
        """A submission, or what became of it."""
        self.submissions[submission.assignment.number, submission.person.number] = submission
        self.latest[submission.person.number] = submission

    def drop(self, enrollment: Enrollment) -> None:
        """A student leaves a course."""
        self.room[enrollment.course.number].students.pop(enrollment.person.number)
        self.enrollments[enrollment.person.number].pop(enrollment.course.number)
