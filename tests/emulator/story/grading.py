"""What graders do: grade, comment, and now and then think again."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from functools import partial

from tests.emulator.story import work
from tests.emulator.story.causes import Request
from tests.emulator.story.things import Enrollment, Person, Submission
from tests.emulator.story.times import waking
from tests.emulator.story.world import World

_USUAL_HOURS = 30.0
_COMMENTS, _THINKS_AGAIN, _TELLS_COURSE = 0.15, 0.06, 0.4


def grade_later(world: World, submission: Submission) -> None:
    """Somebody of the staff will grade this attempt, mostly within a few days."""
    hours = world.rng.lognormvariate(math.log(_USUAL_HOURS), 0.7)
    _at_some_time(world, submission, hours)


def _at_some_time(world: World, submission: Submission, hours: float) -> None:
    at = waking(world.now + timedelta(hours=hours), world.rng)
    key = (submission.assignment.number, submission.person.number)
    world.agenda.put(at, partial(_grade, world, key, submission.attempt))


def _grade(world: World, key: tuple[int, int], attempt: int) -> None:
    old = world.campus.submissions[key]
    if old.attempt != attempt:
        return  # a newer attempt came, which has a turn of its own
    room = world.campus.room[old.assignment.course.number]
    grader = world.rng.choice(list(room.staff.values())).person
    path = work.course_path(room.course, "/gradebook/update_submission")
    request = world.request(grader, path, place=room.course)
    score = _score(world, old)
    new = replace(old, score=score, graded_attempt=attempt, graded_at=world.now)
    world.campus.submit(new)
    world.tell("submission_updated", work.submission(new, world.now), request)
    if new.score != old.score:
        world.tell("grade_change", work.grade_change(new, old, grader), request)
        _tell_course(world, room.students.get(key[1]), old, new, request)
    if world.rng.random() < _COMMENTS:
        _comment(world, new, grader, request)
    if world.rng.random() < _THINKS_AGAIN:
        _at_some_time(world, new, _USUAL_HOURS)


def _score(world: World, submission: Submission) -> float:
    """In quarters of points. Who hands in again, or is looked at again, does not get less."""
    points = submission.assignment.points
    drawn = round(4 * points * world.rng.betavariate(7, 2)) / 4
    return max(drawn, submission.score or 0.0)


def _tell_course(
    world: World, enrollment: Enrollment | None, old: Submission, new: Submission, request: Request
) -> None:
    """The course's grade in percent of what was graded so far, said now and then."""
    sums = world.campus.points[new.assignment.course.number, new.person.number]
    before = round(100 * sums[0] / sums[1], 2) if sums[1] else None
    sums[0] += (new.score or 0.0) - (old.score or 0.0)
    sums[1] += 0.0 if old.score is not None else new.assignment.points
    if enrollment is None or world.rng.random() >= _TELLS_COURSE:
        return
    percent = round(100 * sums[0] / sums[1], 2)
    body = work.course_grade_change(enrollment, percent, before, world.now)
    world.tell("course_grade_change", body, request)


def _comment(world: World, submission: Submission, grader: Person, request: Request) -> None:
    body = work.comment(world.ids.number("comment"), submission, grader, world.now)
    world.tell("submission_comment_created", body, request)
