"""What students do: hand in, take quizzes, say something in a discussion."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from tests.emulator.story import bodies, talk, work
from tests.emulator.story.campus import Classroom
from tests.emulator.story.causes import Request
from tests.emulator.story.grading import grade_later
from tests.emulator.story.ids import global_id
from tests.emulator.story.teaching import QUIZ_ATTEMPTS
from tests.emulator.story.things import Assignment, Enrollment, Entry, File, Submission
from tests.emulator.story.world import World

_NO_HURRY = 6.0
_TALKS = 0.12
_CORRECTS = 0.08
_SOON, _TOO_LATE = timedelta(days=2), timedelta(days=4)
_ESSAY_ATTEMPTS = 3
_TEXTS = (
    "<p>The water was <em>not</em> clear.\nAt all. \N{SMILING FACE WITH OPEN MOUTH}</p>",
    "<p>Flow grew with the square of the depth.</p>",
    "<p>We measured three times, and the dye came out at the lower spring.</p>",
)
_SAYINGS = (
    "<p>I would never dam a river with salmon.</p>",
    '<p>"Never" is a long time \\ said the miller.</p>',
    "<p>Line one\nline two</p>",
    "<p>Et l'eau, où va-t-elle ? 水</p>",
)


def study(world: World, room: Classroom, enrollment: Enrollment) -> bool:
    """A student does some work in a course, most likely what is due soon. False for none."""
    tasks = list(room.assignments.values())
    pulls = [_pull(world, room, enrollment, task) for task in tasks]
    if world.rng.random() * (sum(pulls) + _NO_HURRY) < sum(pulls):
        [task] = world.rng.choices(tasks, weights=pulls)
        if task.quiz is None:
            _hand_in(world, room, enrollment, task)
        else:
            _take_quiz(world, room, enrollment, task)
        return True
    return world.rng.random() < _TALKS and _talk(world, room, enrollment)


def _pull(world: World, room: Classroom, enrollment: Enrollment, task: Assignment) -> float:
    """How much a student wants to work at something now."""
    left = _due(room, enrollment, task) - world.now
    before = world.campus.submissions.get((task.number, enrollment.person.number))
    if before is None:
        if left > timedelta():
            return 5.0 if left < _SOON else 1.0
        return 0.3 if left > -_TOO_LATE else 0.0
    most = _ESSAY_ATTEMPTS if task.quiz is None else QUIZ_ATTEMPTS
    if left < timedelta() or before.attempt >= most:
        return 0.0
    return 0.3 if task.quiz is None else 2.0


def _due(room: Classroom, enrollment: Enrollment, task: Assignment) -> datetime:
    return room.overrides.get((task.number, enrollment.section.number), task.due_at)


def _hand_in(world: World, room: Classroom, enrollment: Enrollment, task: Assignment) -> None:
    path = work.course_path(room.course, f"/assignments/{task.number}/submissions")
    request = world.request(enrollment.person, path, place=room.course)
    type_ = world.rng.choice(task.types.split(","))
    if type_ == "online_upload":
        _upload(world, enrollment, request)
    text = world.rng.choice(_TEXTS) if type_ == "online_text_entry" else None
    url = "https://field-notes.example.org/turbidity?v=2#depth" if type_ == "online_url" else None
    submission = replace(_attempt(world, room, enrollment, task, type_), text=text, url=url)
    world.campus.submit(submission)
    world.tell("submission_created", work.submission(submission, world.now), request)
    grade_later(world, submission)


def _upload(world: World, enrollment: Enrollment, request: Request) -> None:
    file = File(
        number=world.ids.number("file"),
        owner=enrollment.person,
        course=None,
        folder=world.ids.number("folder"),
        name="Ångström notes (final).pdf",
        content_type="application/pdf",
    )
    world.tell("attachment_created", bodies.file(file, world.now), request)


def _attempt(
    world: World, room: Classroom, enrollment: Enrollment, task: Assignment, type_: str
) -> Submission:
    """The submission with one more attempt; or the first."""
    late = world.now > _due(room, enrollment, task)
    before = world.campus.submissions.get((task.number, enrollment.person.number))
    if before is not None:
        return replace(
            before, attempt=before.attempt + 1, type=type_, submitted_at=world.now, late=late
        )
    return Submission(
        number=world.ids.number("submission"),
        assignment=task,
        person=enrollment.person,
        attempt=1,
        type=type_,
        submitted_at=world.now,
        late=late,
    )


def _take_quiz(world: World, room: Classroom, enrollment: Enrollment, task: Assignment) -> None:
    path = work.course_path(room.course, f"/quizzes/{task.quiz}/submissions")
    request = world.request(enrollment.person, path, place=room.course)
    submission = _attempt(world, room, enrollment, task, "online_quiz")
    world.tell("submission_created", work.submission(submission, world.now), request)
    world.tell("quiz_submitted", work.quiz_submitted(submission), request)
    # Canvas grades it at once, and keeps the best attempt
    score = float(min(10, max(0, round(world.rng.gauss(6 + submission.attempt, 2)))))
    graded = replace(
        submission,
        score=max(score, submission.score or 0.0),
        graded_attempt=submission.attempt,
        graded_at=world.now,
    )
    world.campus.submit(graded)
    world.tell("submission_updated", work.submission(graded, world.now), request)
    if graded.score != submission.score:
        world.tell("grade_change", work.grade_change(graded, submission, None), request)


def _talk(world: World, room: Classroom, enrollment: Enrollment) -> bool:
    topics = [topic for topic in room.topics.values() if topic.lock_at is None]
    if not topics:
        return False
    topic = world.rng.choice(topics)
    entries = world.campus.entries[topic.number]
    path = work.course_path(room.course, f"/discussion_topics/{topic.number}/entries")
    request = world.request(enrollment.person, path, place=room.course)
    own = [each for each in entries.values() if each.person == enrollment.person]
    if own and world.rng.random() < _CORRECTS:
        corrected = replace(own[-1], text=f"{own[-1].text}<p>(corrected)</p>"[-2_000:])
        entries[corrected.number] = corrected
        world.tell("discussion_entry_updated", talk.entry(corrected, global_id), request)
        return True
    others = list(entries)
    entry = Entry(
        number=world.ids.number("entry"),
        topic=topic,
        person=enrollment.person,
        text=world.rng.choice(_SAYINGS),
        created_at=world.now,
        parent=world.rng.choice(others) if others and world.rng.random() < 0.5 else None,
    )
    entries[entry.number] = entry
    world.tell("discussion_entry_created", talk.entry(entry), request)
    return True
