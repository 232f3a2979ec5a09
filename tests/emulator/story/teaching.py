"""What teachers do for a course, week by week."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from tests.emulator.story import bodies, talk, work
from tests.emulator.story.campus import Classroom
from tests.emulator.story.causes import Request
from tests.emulator.story.things import Assignment, File, Item, Module, Page, Person, Topic
from tests.emulator.story.times import WEEK
from tests.emulator.story.world import World

QUIZ_ATTEMPTS: Final = 3

_THEMES = (
    "Rain and run-off", "Measuring flow", "Ground water", "Karst and springs", "Floods",
    "Dams", "Sediment", "Deltas", "Canals", "Tides", "Ice", "Droughts",
)  # fmt: skip
_DUE = timedelta(days=6, hours=23, minutes=59)
_TYPES = ("online_text_entry", "online_upload", "online_url")


def schedule_weeks(world: World, weeks: int) -> None:
    """Each course's teacher prepares each week in its first hours."""
    for week in range(weeks):
        for room in world.campus.classrooms:
            at = world.first_day + WEEK * week
            at += timedelta(hours=7, minutes=world.rng.randrange(240))
            world.agenda.put(at, partial(_prepare, world, room, week))


def teacher_of(room: Classroom) -> Person:
    """The first of a course's teachers."""
    return next(iter(room.staff.values())).person


def _prepare(world: World, room: Classroom, week: int) -> None:
    theme = f"{_THEMES[week % len(_THEMES)]}{'' if week < len(_THEMES) else f' {week}'}"
    course, teacher = room.course, teacher_of(room)
    request = world.request(teacher, f"/courses/{course.number}/modules", place=course)
    module = Module(
        number=world.ids.number("module"),
        course=course,
        name=f"{week + 1}. {theme}",
        position=week + 2,
    )
    room.modules[module.number] = module
    world.tell("module_created", bodies.module(module), request)
    _page(world, room, theme, request)
    _item(world, module, 1, request)
    if world.rng.random() < 0.5:
        add_file(world, room, f"{theme}.pdf", request)
        _item(world, module, 2, request)
    _assignment(world, room, week, f"Report: {theme}", quiz=False)
    _item(world, module, 3, request)
    if week % 2:
        _assignment(world, room, week, f"Quiz: {theme}", quiz=True)
        _item(world, module, 4, request)
    else:
        add_topic(world, room, f"What about {theme.lower()}?", announcement=False)


def _item(world: World, module: Module, position: int, request: Request) -> None:
    item = Item(number=world.ids.number("item"), module=module, position=position)
    world.tell("module_item_created", bodies.item(item), request)
    if world.rng.random() < 0.1:
        moved = replace(item, position=position + 1)
        world.tell("module_item_updated", bodies.item(moved), request)


def _page(world: World, room: Classroom, theme: str, request: Request) -> None:
    page = Page(
        number=world.ids.number("page"),
        course=room.course,
        title=theme,
        body=f"<h2>{theme}</h2>\n<p>Read chapter {len(room.pages)}.</p>",
    )
    room.pages[page.number] = page
    world.tell("wiki_page_created", bodies.page(page), request)


def add_file(world: World, room: Classroom, name: str, request: Request) -> None:
    """A new file of a course."""
    file = File(
        number=world.ids.number("file"),
        owner=request.session.person,
        course=room.course,
        folder=world.ids.number("folder"),
        name=name,
        content_type="application/pdf",
    )
    room.files[file.number] = file
    world.tell("attachment_created", bodies.file(file, world.now), request)


def add_topic(world: World, room: Classroom, title: str, *, announcement: bool) -> None:
    """A new discussion, or an announcement."""
    course = room.course
    path = f"/courses/{course.number}/discussion_topics"
    request = world.request(teacher_of(room), path, place=course)
    topic = Topic(
        number=world.ids.number("topic"),
        course=course,
        title=title,
        body=f"<p>{title} Say it in three sentences.</p>",
        announcement=announcement,
    )
    room.topics[topic.number] = topic
    world.tell("discussion_topic_created", talk.topic(topic, world.now), request)


def _assignment(world: World, room: Classroom, week: int, title: str, *, quiz: bool) -> None:
    begin = world.first_day + WEEK * week
    assignment = Assignment(
        number=world.ids.number("assignment"),
        course=room.course,
        group=room.parts[1 if quiz else 0],
        title=title,
        due_at=begin + _DUE,
        unlock_at=begin,
        points=10.0 if quiz else world.rng.choice((20.0, 25.0, 12.5)),
        types="online_quiz" if quiz else ",".join(world.rng.sample(_TYPES, 2)),
        lti_id=world.ids.uuid(),
        link_id=world.ids.opaque(),
        quiz=world.ids.number("quiz") if quiz else None,
    )
    path = f"/courses/{room.course.number}/assignments"
    request = world.request(teacher_of(room), path, place=room.course)
    _tell(world, "created", assignment, request)
    world.agenda.put(world.in_a_while(minutes=20), partial(_publish, world, room, assignment))


def _publish(world: World, room: Classroom, assignment: Assignment) -> None:
    published = replace(assignment, state="published")
    room.assignments[assignment.number] = published
    path = f"/courses/{room.course.number}/assignments/{assignment.number}"
    request = world.request(teacher_of(room), path, place=room.course, method="PUT")
    _tell(world, "updated", published, request)


def _tell(world: World, what: str, assignment: Assignment, request: Request) -> None:
    body = work.assignment(world.school, assignment, world.now)
    world.tell(f"assignment_{what}", body, request)
    if assignment.quiz is not None:
        quiz = work.quiz(assignment, world.now, attempts=QUIZ_ATTEMPTS)
        world.tell(f"quiz_{what}", quiz, request)
