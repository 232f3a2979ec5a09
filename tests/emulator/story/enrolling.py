"""People come into courses and leave them, and into groups."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

from tests.emulator.story import bodies, talk
from tests.emulator.story.campus import Classroom
from tests.emulator.story.causes import Cause
from tests.emulator.story.things import (
    Course,
    Enrollment,
    EnrollmentType,
    Group,
    GroupSet,
    Membership,
    Person,
    Section,
)
from tests.emulator.story.world import World

IMPORTER = "SIS::CSV::ImportRefactored#run"

_INVITED = 0.1
_SETS = ("Field trips", "Reading circles")
_NAMES = ("Upper valley", "Lower valley", "Delta", "Springs")
_GROUP_SIZE = 4


def enroll(
    world: World, person: Person, section: Section, type_: EnrollmentType, cause: Cause
) -> None:
    """A new enrollment. A few students are invited, and accept a day or so later."""
    invited = type_ == "StudentEnrollment" and world.rng.random() < _INVITED
    enrollment = Enrollment(
        number=world.ids.number("enrollment"),
        person=person,
        section=section,
        type=type_,
        created_at=world.now,
        state="invited" if invited else "active",
    )
    world.campus.enroll(enrollment)
    world.tell("enrollment_created", bodies.enrollment(enrollment, world.now), cause)
    world.tell("enrollment_state_created", bodies.enrollment_state(enrollment, world.now), cause)
    if invited:
        world.agenda.put(world.in_a_while(minutes=3_000), partial(_accept, world, enrollment))


def enroll_late(world: World, person: Person, course: Course) -> None:
    """A teacher lets somebody in who is not there yet."""
    room = world.campus.room[course.number]
    if person.number in room.students:
        return
    teacher = next(iter(room.staff.values())).person
    request = world.request(person=teacher, path=f"/courses/{course.number}/users", place=course)
    enroll(world, person, world.rng.choice(room.sections), "StudentEnrollment", request)


def drop(world: World, person: Person, course: Course) -> None:
    """A student leaves a course."""
    enrollment = world.campus.room[course.number].students.get(person.number)
    if enrollment is None:
        return
    world.campus.drop(enrollment)
    _tell_state(world, replace(enrollment, state="deleted"), world.job(IMPORTER))


def _accept(world: World, enrollment: Enrollment) -> None:
    room = world.campus.room[enrollment.course.number]
    if room.students.get(enrollment.person.number) != enrollment:
        return
    path = f"/courses/{enrollment.course.number}/enrollment_invitation"
    request = world.request(enrollment.person, path, place=enrollment.course)
    active = replace(enrollment, state="active")
    world.campus.enroll(active)
    _tell_state(world, active, request)


def _tell_state(world: World, enrollment: Enrollment, cause: Cause) -> None:
    world.tell("enrollment_updated", bodies.enrollment(enrollment, world.now), cause)
    world.tell("enrollment_state_updated", bodies.enrollment_state(enrollment, world.now), cause)


def divide(world: World, room: Classroom, place: int) -> None:
    """A teacher divides the first section's students into groups."""
    course, teacher = room.course, next(iter(room.staff.values())).person
    request = world.request(teacher, f"/courses/{course.number}/group_categories", place=course)
    name = _SETS[place % len(_SETS)]
    set_ = GroupSet(
        number=world.ids.number("group_set"), course=course, name=name, limit=_GROUP_SIZE
    )
    world.tell("group_category_created", talk.group_set(set_), request)
    for name in _NAMES:
        group = Group(
            number=world.ids.number("group"), uuid=world.ids.letters(), set=set_, name=name
        )
        room.groups[group.number] = group
        world.tell("group_created", talk.group(group), request)
        world.agenda.put(world.in_a_while(minutes=600), partial(_fill, world, room, group))


def _fill(world: World, room: Classroom, group: Group) -> None:
    grouped = {membership.person.number for membership in room.memberships.values()}
    free = [e.person for e in room.students.values() if e.person.number not in grouped]
    teacher = next(iter(room.staff.values())).person
    request = world.request(teacher, f"/groups/{group.number}/memberships", place=room.course)
    for person in free[:_GROUP_SIZE]:
        membership = Membership(number=world.ids.number("membership"), group=group, person=person)
        room.memberships[membership.number] = membership
        world.tell("group_membership_created", talk.membership(membership), request)


def schedule_changes(world: World, weeks: int) -> None:
    """Some students will leave a course, and some come into another, within so many weeks."""
    everywhere = [
        (e.person, room) for room in world.campus.classrooms for e in room.students.values()
    ]
    changing = world.rng.sample(everywhere, max(1, len(everywhere) // 25))
    for person, room in changing:
        leaving = world.first_day + timedelta(minutes=world.rng.randrange(weeks * 7 * 24 * 60))
        world.agenda.put(leaving, partial(drop, world, person, room.course))
    for person, _ in changing[::2]:
        other = world.rng.choice(world.campus.classrooms)
        coming = world.first_day + timedelta(minutes=world.rng.randrange(14 * 24 * 60))
        world.agenda.put(coming, partial(enroll_late, world, person, other.course))
