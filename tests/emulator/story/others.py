"""Types that the story itself has no use for: like the examples, but about the school's own things.

So their ids, too, are those of people and courses that are there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.emulator.corpus import Corpus, EventExample, NoticeExample
from tests.emulator.story.ids import global_id, local_id
from tests.emulator.story.things import Course, Person, Submission
from tests.emulator.story.world import World

TOLD = frozenset(
    {
        "account_created",
        "asset_accessed",
        "assignment_created",
        "assignment_group_created",
        "assignment_override_created",
        "assignment_updated",
        "attachment_created",
        "attachment_deleted",
        "attachment_updated",
        "content_migration_completed",
        "content_migration_started",
        "course_created",
        "course_grade_change",
        "course_section_created",
        "course_section_updated",
        "course_updated",
        "discussion_entry_created",
        "discussion_entry_deleted",
        "discussion_entry_updated",
        "discussion_topic_created",
        "discussion_topic_updated",
        "enrollment_created",
        "enrollment_state_created",
        "enrollment_state_updated",
        "enrollment_updated",
        "grade_change",
        "group_category_created",
        "group_created",
        "group_membership_created",
        "group_membership_updated",
        "group_updated",
        "logged_in",
        "logged_out",
        "module_created",
        "module_item_created",
        "module_item_updated",
        "module_updated",
        "quiz_created",
        "quiz_submitted",
        "quiz_updated",
        "submission_comment_created",
        "submission_created",
        "submission_updated",
        "syllabus_updated",
        "user_created",
        "user_updated",
        "wiki_page_created",
        "wiki_page_deleted",
        "wiki_page_updated",
        "LtiContextCopyNotice",
    }
)
"""The names of what the story tells by itself."""


def others(corpus: Corpus, rng: random.Random) -> Iterator[EventExample | NoticeExample]:
    """The examples of all other types, each once a round, without end."""
    examples: list[EventExample | NoticeExample] = [
        *(example for example in corpus.events if example.event_name not in TOLD),
        *(example for example in corpus.notices if example.notice_type not in TOLD),
    ]
    while True:
        rng.shuffle(examples)
        yield from examples


def tell_other(world: World, example: EventExample | NoticeExample) -> None:
    """An event like the example, about one of the courses and people that are there."""
    rooms = world.campus.classrooms
    room = world.rng.choice(rooms)
    students, staff = list(room.students.values()), list(room.staff.values())
    things = _course(rooms[0].course, _ORIGIN) | _course(room.course, _COURSE)
    if students and staff:
        student, teacher = world.rng.choice(students), world.rng.choice(staff)
        things |= _person(student.person, _STUDENT) | _person(teacher.person, _TEACHER)
        things |= {
            "10930000000007290": global_id(student.number),
            "10930000000002231": global_id(student.section.number),
            "2231": local_id(student.section.number),
        }
        latest = world.campus.latest.get(student.person.number)
        things |= _submission(latest) if latest else {}
    world.narrator.tell_like(example, things)


# how the examples name a course, two people and a submission, in the order of what follows
_COURSE = ("10930000000002204", "2204", "pLk2ZxW9mTq5VbHs7YdRnGc4JfAe1UoP8iKw6204",
           "fc0d97e35b1a48c2a6e3d7b2910c4f5a60b8d204", "Hydrology I")  # fmt: skip
_ORIGIN = ("10930000000002188", "2188", "Gh5sTz0WqLm8XnVd2KbRy4JpCe7FaUo1Pi9Tk188",
           "0a9c3e5d71f64b28b5d0c2e8f73a1649d4e7c188", "Hydrology")  # fmt: skip
_STUDENT = ("10930000000004512", "4512", "mWq8ZbT2vLx5CkPa0RsNdYh3GjEu7FoiV9tBr512",
            "d1e8a0c4b7f2936510ec4a7d8b25f96370ab4512", "student-512", "S-2026-512",
            "Student 12")  # fmt: skip
_TEACHER = ("10930000000004501", "4501", "", "", "staff-501", "T-501", "")


def _course(course: Course, names: tuple[str, ...]) -> dict[str, str]:
    number = course.number
    own = (global_id(number), local_id(number), course.uuid, course.lti_id, course.name)
    account = course.account
    return dict(zip(names, own, strict=True)) | {
        "10930000000000617": global_id(account.number),
        "tXk4JdQm0VbN6sRw8HzLc3GyPa2EfUo7CiBq5617": account.uuid,
        "HYD1-S26-204": course.code,
        "HYD1-S26": course.code,
    }


def _person(person: Person, names: tuple[str, ...]) -> dict[str, str]:
    own = (
        global_id(person.number),
        local_id(person.number),
        person.uuid,
        person.lti_id,
        person.login,
        person.sis_id,
        person.name,
    )
    return {name: value for name, value in zip(names, own, strict=True) if name}


def _submission(submission: Submission) -> dict[str, str]:
    return {
        "10930000000030478": global_id(submission.number),
        "30478": local_id(submission.number),
        "10930000000008346": global_id(submission.assignment.number),
        "8346": local_id(submission.assignment.number),
        "5b0e7d4c-93ab-4c5e-8a0f-6f2d1e9b3346": submission.assignment.lti_id,
        "8e1f0a6bc24d97355d08b7ce19fa4630d2c5b346": submission.assignment.link_id,
    }
