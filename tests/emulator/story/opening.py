"""Before the first week: who is there, what is taught, and who takes what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.emulator.corpus import NoticeExample
from tests.emulator.story import bodies, work
from tests.emulator.story.causes import Cause
from tests.emulator.story.courses import sections
from tests.emulator.story.enrolling import IMPORTER, divide, enroll
from tests.emulator.story.things import (
    Account,
    AssignmentGroup,
    Course,
    File,
    Module,
    Page,
    Person,
)
from tests.emulator.story.world import World

Step = Callable[[], None]

_IMPORT = "ContentMigration#import_content"
_PARTS = (("Reports", 60.0), ("Quizzes", 40.0))
_COURSES_EACH = 3
# as the examples of notices name a course, and the one that it was copied from
_COPY, _COPY_CODE = "fc0d97e35b1a48c2a6e3d7b2910c4f5a60b8d204", "HYD1-S26"
_COPY_NAMES = ("Hydrology I", "Hydrologie générale \N{CLOUD WITH RAIN}")
_ORIGIN = "0a9c3e5d71f64b28b5d0c2e8f73a1649d4e7c188"


def opening(world: World, courses: list[Course]) -> list[Step]:
    """The steps, in order."""
    people = list(world.campus.people.values())
    students = [person for person in people if person.role == "student"]
    return [
        *(partial(_account, world, account) for account in world.campus.accounts),
        *(partial(_person, world, person) for person in people),
        *(partial(_course, world, course) for course in courses),
        *(partial(_staff, world, place, course) for place, course in enumerate(courses)),
        *(partial(_fill, world, course) for course in courses),
        *(partial(_student, world, person) for person in students),
        *(partial(_groups, world, place, course) for place, course in enumerate(courses)),
    ]


def _account(world: World, account: Account) -> None:
    body = bodies.account(world.school, account)
    world.tell("account_created", body, world.job("Account.api_create"))


def _person(world: World, person: Person) -> None:
    world.tell("user_created", bodies.user(person, world.now), world.job(IMPORTER))


def _course(world: World, course: Course) -> None:
    room, cause = world.campus.open(course), world.job(IMPORTER)
    world.tell("course_created", bodies.course(course, world.now, "claimed"), cause)
    room.sections = sections(world.ids, course)
    for section in room.sections:
        world.tell("course_section_created", bodies.section(world.school, section), cause)


def _staff(world: World, place: int, course: Course) -> None:
    people = world.campus.people.values()
    teachers = [person for person in people if person.role == "teacher"]
    assistants = [person for person in people if person.role == "ta"]
    [section, *_] = world.campus.room[course.number].sections
    cause = world.job(IMPORTER)
    enroll(world, teachers[place % len(teachers)], section, "TeacherEnrollment", cause)
    if place % 3:
        enroll(world, assistants[place % len(assistants)], section, "TaEnrollment", cause)


def _student(world: World, person: Person) -> None:
    rooms = world.campus.classrooms
    for room in world.rng.sample(rooms, min(_COURSES_EACH, len(rooms))):
        section = world.rng.choice(room.sections)
        enroll(world, person, section, "StudentEnrollment", world.job(IMPORTER))


def _fill(world: World, course: Course) -> None:
    """The course gets its contents: by hand, out of a file, or from the course it is a copy of."""
    room = world.campus.room[course.number]
    teacher = next(iter(room.staff.values())).person
    if course.source is None and not course.packaged:
        cause: Cause = world.request(teacher, f"/courses/{course.number}", place=course)
        _contents(world, course, teacher, cause)
    else:
        cause = world.job(_IMPORT, course)
        body = bodies.migration(world.school, world.ids.number("migration"), course)
        world.tell("content_migration_started", body, cause)
        _contents(world, course, teacher, cause)
        world.tell("content_migration_completed", body, cause)
        _notice(world, course)
    world.tell("course_updated", bodies.course(course, world.now, "available"), cause)


def _contents(world: World, course: Course, teacher: Person, cause: Cause) -> None:
    room, ids = world.campus.room[course.number], world.ids
    for position, (name, weight) in enumerate(_PARTS, 1):
        part = AssignmentGroup(
            number=ids.number("assignment_group"),
            course=course,
            name=name,
            position=position,
            weight=weight,
        )
        room.parts.append(part)
        world.tell("assignment_group_created", work.assignment_group(part), cause)
    page = Page(number=ids.number("page"), course=course, title="Welcome", body="<p>Welcome</p>")
    room.pages[page.number] = page
    world.tell("wiki_page_created", bodies.page(page), cause)
    module = Module(number=ids.number("module"), course=course, name="0. Before", position=1)
    room.modules[module.number] = module
    world.tell("module_created", bodies.module(module), cause)
    file = File(
        number=ids.number("file"),
        owner=teacher,
        course=course,
        folder=ids.number("folder"),
        name=f"{course.code} syllabus.pdf",
        content_type="application/pdf",
    )
    room.files[file.number] = file
    world.tell("attachment_created", bodies.file(file, world.now), cause)
    room.syllabus = f"<p>{course.name}: rain &amp; run-off, week by week</p>"
    world.tell("syllabus_updated", bodies.syllabus(course, None, room.syllabus), cause)


def _notice(world: World, course: Course) -> None:
    """The tool hears of it too; of what came in a file without an origin."""
    copied = course.source is not None
    [example] = [each for each in _examples(world) if ("origin_contexts" in each.claims) == copied]
    things = {_COPY: course.lti_id, _COPY_CODE: course.code}
    things |= dict.fromkeys(_COPY_NAMES, course.name)
    if course.source is not None:
        things[_ORIGIN] = course.source.lti_id
    world.narrator.tell_like(example, things)


def _examples(world: World) -> list[NoticeExample]:
    notices = world.school.corpus.notices
    return [each for each in notices if each.notice_type == "LtiContextCopyNotice"]


def _groups(world: World, place: int, course: Course) -> None:
    if place % 2 == 0:
        divide(world, world.campus.room[course.number], place)
