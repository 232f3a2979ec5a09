"""What teachers change and take away, now and then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeVar

from tests.emulator.story import bodies, talk, work
from tests.emulator.story.campus import Classroom
from tests.emulator.story.causes import Request
from tests.emulator.story.ids import global_id
from tests.emulator.story.teaching import add_file, add_topic
from tests.emulator.story.things import Person
from tests.emulator.story.world import World

_Thing = TypeVar("_Thing")


def tend(world: World, room: Classroom, person: Person) -> bool:
    """Somebody of the staff changes something. False if there was nothing of that kind."""
    [change] = world.rng.choices(list(_CHANGES), weights=list(_CHANGES.values()))
    request = world.request(person, f"/courses/{room.course.number}", place=room.course)
    return change(world, room, request)


def _page_changed(world: World, room: Classroom, request: Request) -> bool:
    page = _one(world, room.pages)
    if page is None:
        return False
    new = replace(page, body=f"{page.body}\n<p>And look at the map.</p>"[-2_000:])
    room.pages[page.number] = new
    world.tell("wiki_page_updated", bodies.page(new, page), request)
    return True


def _page_gone(world: World, room: Classroom, request: Request) -> bool:
    page = _one(world, room.pages)
    if page is None or len(room.pages) < 3:
        return False
    del room.pages[page.number]
    world.tell("wiki_page_deleted", bodies.page_gone(page), request)
    return True


def _file_changed(world: World, room: Classroom, request: Request) -> bool:
    file = _one(world, room.files)
    if file is None:
        add_file(world, room, f"{room.course.code} map.png", request)
        return True
    new = replace(file, name=f"{file.name.removesuffix('.pdf').removesuffix(' (new)')} (new).pdf")
    room.files[file.number] = new
    body = bodies.file(new, world.now) | {"old_display_name": file.name}
    world.tell("attachment_updated", body, request)
    return True


def _file_gone(world: World, room: Classroom, request: Request) -> bool:
    file = _one(world, room.files)
    if file is None:
        return False
    del room.files[file.number]
    world.tell("attachment_deleted", bodies.file(file, world.now), request)
    return True


def _due_moved(world: World, room: Classroom, request: Request) -> bool:
    coming = {n: a for n, a in room.assignments.items() if a.due_at > world.now}
    assignment = _one(world, coming)
    if assignment is None:
        return False
    new = replace(assignment, due_at=assignment.due_at + timedelta(days=1))
    room.assignments[assignment.number] = new
    world.tell("assignment_updated", work.assignment(world.school, new, world.now), request)
    return True


def _assignment_gone(world: World, room: Classroom, request: Request) -> bool:
    used = {assignment for assignment, _ in world.campus.submissions}
    unused = {n: a for n, a in room.assignments.items() if a.quiz is None and n not in used}
    assignment = _one(world, unused)
    if assignment is None or len(room.assignments) < 3:
        return False
    del room.assignments[assignment.number]
    gone = replace(assignment, state="deleted")
    world.tell("assignment_updated", work.assignment(world.school, gone, world.now), request)
    return True


def _override(world: World, room: Classroom, request: Request) -> bool:
    section = room.sections[-1].number
    common = {n: a for n, a in room.assignments.items() if (n, section) not in room.overrides}
    assignment = _one(world, common)
    if assignment is None:
        return False
    due_at = room.overrides[assignment.number, section] = assignment.due_at + timedelta(days=2)
    body = work.override(world.ids.number("override"), assignment, section, due_at)
    world.tell("assignment_override_created", body, request)
    return True


def _module_renamed(world: World, room: Classroom, request: Request) -> bool:
    module = _one(world, room.modules)
    if module is None:
        return False
    new = replace(module, name=f"{module.name.removesuffix(', and more')}, and more")
    room.modules[module.number] = new
    world.tell("module_updated", bodies.module(new), request)
    return True


def _module_gone(world: World, room: Classroom, request: Request) -> bool:
    module = _one(world, room.modules)
    if module is None or len(room.modules) < 3:
        return False
    del room.modules[module.number]
    world.tell("module_updated", bodies.module(replace(module, state="deleted")), request)
    return True


def _announced(world: World, room: Classroom, request: Request) -> bool:
    add_topic(world, room, f"News of {room.course.code}", announcement=True)
    return True


def _topic_locked(world: World, room: Classroom, request: Request) -> bool:
    topic = _one(world, room.topics)
    if topic is None or topic.lock_at is not None:
        return False
    new = replace(topic, lock_at=world.now)
    room.topics[topic.number] = new
    world.tell("discussion_topic_updated", talk.topic(new, world.now), request)
    return True


def _topic_gone(world: World, room: Classroom, request: Request) -> bool:
    topic = _one(world, room.topics)
    if topic is None or topic.number in world.campus.entries:
        return False
    del room.topics[topic.number]
    gone = replace(topic, state="deleted")
    world.tell("discussion_topic_updated", talk.topic(gone, world.now), request)
    return True


def _entry_removed(world: World, room: Classroom, request: Request) -> bool:
    topic = _one(world, {n: t for n, t in room.topics.items() if world.campus.entries.get(n)})
    entry = None if topic is None else _one(world, world.campus.entries[topic.number])
    if entry is None:
        return False
    del world.campus.entries[entry.topic.number][entry.number]
    world.tell("discussion_entry_deleted", talk.entry(entry, global_id), request)
    return True


def _group_changed(world: World, room: Classroom, request: Request) -> bool:
    group = _one(world, room.groups)
    if group is None:
        return False
    new = replace(group, name=f"{group.name.removesuffix(' (boat)')} (boat)")
    room.groups[group.number] = new
    world.tell("group_updated", talk.group(new), request)
    return True


def _member_gone(world: World, room: Classroom, request: Request) -> bool:
    membership = _one(world, room.memberships)
    if membership is None:
        return False
    del room.memberships[membership.number]
    gone = replace(membership, state="deleted")
    world.tell("group_membership_updated", talk.membership(gone), request)
    return True


def _section_renamed(world: World, room: Classroom, request: Request) -> bool:
    section = room.sections[-1]
    new = replace(section, name=f"{section.name.removesuffix(' (late)')} (late)")
    room.sections[-1] = new
    world.tell("course_section_updated", bodies.section(world.school, new), request)
    return True


def _syllabus_changed(world: World, room: Classroom, request: Request) -> bool:
    old, room.syllabus = room.syllabus, f"<p>{room.course.name}: bring boots</p>"
    world.tell("syllabus_updated", bodies.syllabus(room.course, old, room.syllabus), request)
    return True


def _one(world: World, things: dict[int, _Thing]) -> _Thing | None:
    return world.rng.choice(list(things.values())) if things else None


_CHANGES: Final[dict[Callable[[World, Classroom, Request], bool], int]] = {
    _page_changed: 10,
    _page_gone: 2,
    _file_changed: 5,
    _file_gone: 2,
    _due_moved: 4,
    _assignment_gone: 1,
    _override: 2,
    _module_renamed: 4,
    _module_gone: 1,
    _announced: 4,
    _topic_locked: 2,
    _topic_gone: 1,
    _entry_removed: 2,
    _group_changed: 2,
    _member_gone: 2,
    _section_renamed: 1,
    _syllabus_changed: 2,
}
