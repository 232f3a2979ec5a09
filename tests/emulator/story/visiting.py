"""People come by, look at this and that, and do what they came for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

from tests.emulator.story import bodies, work
from tests.emulator.story.campus import Classroom
from tests.emulator.story.causes import Session
from tests.emulator.story.studying import study
from tests.emulator.story.tending import tend
from tests.emulator.story.things import Course, Enrollment, Person
from tests.emulator.story.world import World

_MAX_STEPS = 9
_LEAVES = 0.3
_TENDS = 0.25
_CHANGES_NAME = 0.004
_FAVOURITES = 1.3  # the larger, the more a few things are looked at before all others

_Asset = tuple[str, int, str, str, str | None, str]


def visit(world: World) -> None:
    """Somebody comes by: logs in if need be, and does some things within the hour or so."""
    person = world.campus.visitor(world.rng)
    known = world.sessions.get(person.number)
    session = world.session(person)
    if session is known:
        _step(world, session)
    at = world.now
    for _ in range(world.rng.randrange(1, _MAX_STEPS)):
        at += timedelta(seconds=world.rng.randrange(20, 600))
        world.agenda.put(at, partial(_step, world, session))
    if world.rng.random() < _LEAVES:
        at += timedelta(seconds=world.rng.randrange(20, 600))
        world.agenda.put(at, partial(_leave, world, session))


def _leave(world: World, session: Session) -> None:
    if world.sessions.get(session.person.number) is not session:
        return
    world.tell("logged_out", {}, world.request(session.person, "/logout", method="DELETE"))
    world.sessions.pop(session.person.number)


def _step(world: World, session: Session) -> None:
    person = session.person
    enrollments = list(world.campus.enrollments[person.number].values())
    if world.sessions.get(person.number) is not session or not enrollments:
        return
    enrollment = world.rng.choice(enrollments)
    room = world.campus.room[enrollment.course.number]
    if world.rng.random() < _CHANGES_NAME:
        _change_name(world, person)
    elif enrollment.state != "active" or not _acts(world, room, enrollment):
        _look(world, room, enrollment)


def _change_name(world: World, person: Person) -> None:
    """How somebody wants to be called."""
    known = world.campus.people[person.number]
    new = replace(known, short_name=f"{known.short_name[0]}. {known.name.split()[-1]}")
    world.campus.people[person.number] = new
    request = world.request(person, f"/api/v1/users/{person.number}", method="PUT")
    world.tell("user_updated", bodies.user(new, world.now), request)


def _acts(world: World, room: Classroom, enrollment: Enrollment) -> bool:
    if enrollment.type == "StudentEnrollment":
        return study(world, room, enrollment)
    return world.rng.random() < _TENDS and tend(world, room, enrollment.person)


def _look(world: World, room: Classroom, enrollment: Enrollment) -> None:
    kind, number, name, category, subtype, tail = _asset(world, room)
    path = work.course_path(room.course, tail)
    request = world.request(enrollment.person, path, place=room.course, method="GET")
    asset = (kind, number, name, category, subtype)
    world.tell("asset_accessed", work.viewed(world.school, enrollment, asset, path), request)


def _asset(world: World, room: Classroom) -> _Asset:
    """Something of the course; the first few are looked at much more than the rest."""
    assets = [*_lists(room.course), *_assets(room)]
    rank = int(world.rng.paretovariate(1 / _FAVOURITES)) - 1
    return assets[rank % len(assets)]


def _lists(course: Course) -> list[_Asset]:
    number, name = course.number, course.name
    return [
        ("course", number, name, "home", None, ""),
        ("course", number, name, "modules", "modules", "/modules"),
        ("course", number, name, "grades", "grades", "/grades"),
        ("course", number, name, "assignments", "assignments", "/assignments"),
    ]


def _assets(room: Classroom) -> list[_Asset]:
    return [
        *(
            ("wiki_page", page.number, page.title, "pages", None, f"/pages/{page.number}")
            for page in room.pages.values()
        ),
        *(
            ("attachment", file.number, file.name, "files", None, f"/files/{file.number}")
            for file in room.files.values()
        ),
        *(
            (
                "assignment",
                task.number,
                task.title,
                "assignments",
                None,
                f"/assignments/{task.number}",
            )
            for task in room.assignments.values()
        ),
        *(
            (
                "discussion_topic",
                topic.number,
                topic.title,
                "topics",
                None,
                f"/discussion_topics/{topic.number}",
            )
            for topic in room.topics.values()
        ),
    ]
