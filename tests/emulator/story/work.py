"""What events say of work: assignments, quizzes, submissions, grades, and what is looked at.

As `bodies`.
"""

from __future__ import annotations

from datetime import datetime

from tests.emulator.school import School
from tests.emulator.story.bodies import Body
from tests.emulator.story.ids import global_id, local_id
from tests.emulator.story.things import (
    Assignment,
    AssignmentGroup,
    Course,
    Enrollment,
    Person,
    Submission,
)
from tests.emulator.story.times import seconds, with_offset


def assignment_group(group: AssignmentGroup) -> Body:
    """Of assignment_group_created."""
    return {
        "assignment_group_id": local_id(group.number),
        "context_id": local_id(group.course.number),
        "context_type": "Course",
        "name": group.name,
        "position": group.position,
        "group_weight": group.weight,
        "rules": "",
        "integration_data": None,
        "sis_source_id": None,
        "workflow_state": "available",
    }


def assignment(school: School, assignment: Assignment, now: datetime) -> Body:
    """Of assignment_created and assignment_updated."""
    return {
        "assignment_id": global_id(assignment.number),
        "assignment_group_id": global_id(assignment.group.number),
        "context_id": global_id(assignment.course.number),
        "context_type": "Course",
        "context_uuid": assignment.course.uuid,
        "title": assignment.title,
        "description": f"<p>{assignment.title}: two pages &amp; a sketch.</p>",
        "due_at": with_offset(assignment.due_at),
        "unlock_at": with_offset(assignment.unlock_at),
        "lock_at": None,
        "points_possible": assignment.points,
        "submission_types": assignment.types,
        "lti_assignment_id": assignment.lti_id,
        "lti_resource_link_id": assignment.link_id,
        "lti_resource_link_id_duplicated_from": None,
        "assignment_id_duplicated_from": None,
        "created_on_blueprint_sync": False,
        "domain": school.hostname,
        "updated_at": seconds(now),
        "workflow_state": assignment.state,
    }


def quiz(assignment: Assignment, now: datetime, *, attempts: int) -> Body:
    """Of quiz_created and quiz_updated; the assignment is what the quiz is graded as."""
    assert assignment.quiz is not None
    return {
        "quiz_id": global_id(assignment.quiz),
        "assignment_id": global_id(assignment.number),
        "context_id": global_id(assignment.course.number),
        "context_type": "Course",
        "context_uuid": assignment.course.uuid,
        "title": assignment.title,
        "description": "<p>Ten short questions</p>",
        "quiz_type": "assignment",
        "points_possible": assignment.points,
        "due_at": with_offset(assignment.due_at),
        "unlock_at": with_offset(assignment.unlock_at),
        "lock_at": None,
        "time_limit": 30,
        "allowed_attempts": attempts,
        "scoring_policy": "keep_highest",
        "shuffle_answers": True,
        "access_code": False,
        "anonymous_submissions": False,
        "one_question_at_a_time": False,
        "show_correct_answers": True,
        "workflow_state": "available" if assignment.state == "published" else "unpublished",
        "updated_at": seconds(now),
    }


def quiz_submitted(submission: Submission) -> Body:
    """Of quiz_submitted."""
    assert submission.assignment.quiz is not None
    return {
        "quiz_id": global_id(submission.assignment.quiz),
        "submission_id": global_id(submission.number),
    }


def submission(submission: Submission, now: datetime) -> Body:
    """Of submission_created, which each attempt causes, and submission_updated."""
    graded = submission.graded_attempt == submission.attempt
    return {
        "submission_id": global_id(submission.number),
        "assignment_id": global_id(submission.assignment.number),
        "user_id": global_id(submission.person.number),
        "lti_user_id": submission.person.lti_id,
        "lti_assignment_id": submission.assignment.lti_id,
        "group_id": None,
        "attempt": submission.attempt,
        "submission_type": submission.type,
        "body": submission.text,
        "url": submission.url,
        "submitted_at": seconds(submission.submitted_at),
        "late": submission.late,
        "missing": False,
        "score": submission.score,
        "grade": grade(submission.score),
        "graded_at": seconds(submission.graded_at) if submission.graded_at else None,
        "posted_at": seconds(submission.graded_at) if submission.graded_at else None,
        "updated_at": seconds(now),
        "workflow_state": "graded" if graded else "submitted",
    }


def grade_change(submission: Submission, old: Submission, grader: Person | None) -> Body:
    """Of grade_change. Without a grader Canvas did it by itself."""
    points = submission.assignment.points
    return {
        "submission_id": global_id(submission.number),
        "assignment_id": global_id(submission.assignment.number),
        "assignment_name": submission.assignment.title,
        "user_id": global_id(submission.person.number),
        "student_id": global_id(submission.person.number),
        "student_sis_id": submission.person.sis_id,
        "grader_id": global_id(grader.number) if grader else None,
        "score": submission.score,
        "grade": grade(submission.score),
        "points_possible": points,
        "old_score": old.score,
        "old_grade": grade(old.score),
        "old_points_possible": points,
        "grading_complete": True,
        "muted": False,
    }


def grade(score: float | None) -> str | None:
    """A score as Canvas writes a grade in points."""
    return None if score is None else f"{score:g}"


def course_grade_change(
    enrollment: Enrollment, score: float, old: float | None, now: datetime
) -> Body:
    """Of course_grade_change: a student's grade in a course, in percent."""
    names = ("current_score", "final_score", "unposted_current_score", "unposted_final_score")
    return {
        "user_id": local_id(enrollment.person.number),
        "course_id": local_id(enrollment.course.number),
        **dict.fromkeys(names, score),
        **dict.fromkeys((f"old_{name}" for name in names), old),
        "created_at": seconds(enrollment.created_at),
        "updated_at": seconds(now),
        "workflow_state": "active",
    }


def comment(number: int, submission: Submission, author: Person, now: datetime) -> Body:
    """Of submission_comment_created."""
    return {
        "submission_comment_id": local_id(number),
        "submission_id": local_id(submission.number),
        "user_id": local_id(author.number),
        "attachment_ids": [],
        "body": "See the second page.\nWell measured!",
        "created_at": seconds(now),
    }


def override(number: int, assignment: Assignment, section: int, due_at: datetime) -> Body:
    """Of assignment_override_created: another due date for one section."""
    return {
        "assignment_override_id": local_id(number),
        "assignment_id": local_id(assignment.number),
        "course_section_id": local_id(section),
        "group_id": None,
        "type": "CourseSection",
        "due_at": with_offset(due_at),
        "all_day": False,
        "all_day_date": None,
        "unlock_at": None,
        "lock_at": None,
        "workflow_state": "active",
    }


def viewed(
    school: School, enrollment: Enrollment, asset: tuple[str, int, str, str, str | None], path: str
) -> Body:
    """Of asset_accessed. `asset` is type, number, name, category and list within it, if it is
    one."""
    kind, number, name, category, subtype = asset
    return {
        "asset_id": global_id(number),
        "asset_type": kind,
        "asset_name": name,
        "asset_subtype": subtype,
        "category": category,
        "display_name": name,
        "domain": school.hostname,
        "url": f"https://{school.hostname}{path}",
        "role": enrollment.type,
        "level": None,
        "enrollment_id": local_id(enrollment.number),
        "section_id": local_id(enrollment.section.number),
    }


def course_path(course: Course, tail: str = "") -> str:
    """The path of a page of a course."""
    return f"/courses/{local_id(course.number)}{tail}"
