"""The same things in Caliper format, for those types of which Caliper says as much.

Source: Canvas documentation, Live Events: event types, Caliper format; IMS Caliper 1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from tests.emulator.school import School
from tests.emulator.story.causes import Request
from tests.emulator.story.ids import global_id
from tests.emulator.story.things import Account, Course
from tests.emulator.story.times import millis
from tests.emulator.templates import CANVAS

_URN = "urn:instructure:canvas"
_CONTEXT = "http://purl.imsglobal.org/ctx/caliper/v1p1"
_PROGRAM = {"id": "http://www.canvaslms.com/", "type": "SoftwareApplication"}
_ROLES = {
    "StudentEnrollment": "Learner",
    "TeacherEnrollment": "Instructor",
    "TaEnrollment": "TeachingAssistant",
}

Members = dict[str, Any]
Form = Callable[[School, Request, Mapping[str, Any]], Members]


def event(
    school: School,
    request: Request,
    name: str,
    body: Mapping[str, Any],
    *,
    at: datetime,
    event_id: str,
) -> Members:
    """The event of this name and Canvas body that the request caused. KeyError if it has no
    form."""
    return {
        "@context": _CONTEXT,
        "id": f"urn:uuid:{event_id}",
        "eventTime": millis(at),
        "edApp": _PROGRAM,
        "actor": _actor(school, request),
        "session": _thing("session", request.session.session_id, "Session"),
        "extensions": {CANVAS: _request(school, request)},
        **_place(request),
        **FORMS[name](school, request, body),
    }


def _actor(school: School, request: Request) -> Members:
    person = request.session.person
    return _thing(
        "user",
        global_id(person.number),
        "Person",
        user_login=person.login,
        user_sis_id=person.sis_id,
        root_account_id=school.root_account_id,
        root_account_uuid=school.root_account_uuid,
        root_account_lti_guid=school.root_account_lti_guid,
    )


def _request(school: School, request: Request) -> Members:
    return {
        "hostname": school.hostname,
        "request_id": request.request_id,
        "user_agent": request.session.user_agent,
        "client_ip": request.session.client_ip,
        "request_url": f"https://{school.hostname}{request.path}",
        "version": "1.0.0",
    }


def _place(request: Request) -> Members:
    place = request.place
    if not isinstance(place, Course):
        return {}
    course, user = global_id(place.number), global_id(request.session.person.number)
    role = _ROLES[request.role or "StudentEnrollment"]
    return {
        "group": _thing("course", course, "CourseOffering", context_type="Course"),
        "membership": {
            "id": f"{_URN}:course:{course}:{role}:{user}",
            "type": "Membership",
            "member": _bare("user", user, "Person"),
            "organization": _bare("course", course, "CourseOffering"),
            "roles": [role],
        },
    }


def _logged_in(school: School, request: Request, body: Mapping[str, Any]) -> Members:
    address = f"https://{school.hostname}/"
    return {
        "type": "SessionEvent",
        "action": "LoggedIn",
        "object": {
            "id": address,
            "type": "SoftwareApplication",
            "name": "Canvas",
            "extensions": {CANVAS: {"redirect_url": body["redirect_url"]}},
        },
    }


def _viewed(school: School, request: Request, body: Mapping[str, Any]) -> Members:
    kind = body["asset_type"].rpartition(":")[2]
    names = ("asset_name", "asset_type", "asset_subtype", "display_name", "domain", "url")
    place = request.place
    account = place.account if isinstance(place, Course) else place
    assert isinstance(account, Account)
    return {
        "type": "NavigationEvent",
        "action": "NavigatedTo",
        "object": _thing(
            "wikiPage" if kind == "wiki_page" else kind,
            body["asset_id"],
            "Entity",
            http_method=request.method,
            context_account_id=global_id(account.number),
            **{name: body[name] for name in names},
        )
        | {"name": kind},
    }


def _submitted(school: School, request: Request, body: Mapping[str, Any]) -> Members:
    attempt = _attempt(body, submission_type=body["submission_type"], url=body["url"]) | {
        "count": body["attempt"],
        "dateCreated": body["submitted_at"],
        "body": body["body"],
    }
    return {"type": "AssignableEvent", "action": "Submitted", "object": attempt}


def _graded(school: School, request: Request, body: Mapping[str, Any]) -> Members:
    grader = body["grader_id"]
    by = _PROGRAM["id"] if grader is None else f"{_URN}:user:{grader}"
    score = {
        **_thing("grade", body["submission_id"], "Score", grade=body["grade"]),
        "maxScore": body["points_possible"],
        "scoreGiven": body["score"],
        "scoredBy": by,
        "attempt": _bare("submission", body["submission_id"], "Attempt"),
    }
    return {
        "type": "GradeEvent",
        "action": "Graded",
        "object": _attempt(body, grade=body["grade"]),
        "generated": score,
    } | ({"actor": _PROGRAM} if grader is None else {})


def _quiz_submitted(school: School, request: Request, body: Mapping[str, Any]) -> Members:
    student = global_id(request.session.person.number)
    attempt = _thing("submission", body["submission_id"], "Attempt") | {
        "assignee": _bare("user", student, "Person"),
        "assignable": _bare("quiz", body["quiz_id"], "Assessment"),
    }
    return {"type": "AssessmentEvent", "action": "Submitted", "object": attempt}


def _posted(school: School, request: Request, body: Mapping[str, Any]) -> Members:
    # the body's ids are local, Caliper's always global
    entry, topic = (
        global_id(int(body[name])) for name in ("discussion_entry_id", "discussion_topic_id")
    )
    message = _thing("discussionEntry", entry, "Message") | {
        "body": body["text"],
        "isPartOf": _bare("discussion", topic, "Thread"),
    }
    return {"type": "MessageEvent", "action": "Posted", "object": message}


def _attempt(body: Mapping[str, Any], **beyond: Any) -> Members:
    assignment = _bare("assignment", body["assignment_id"], "AssignableDigitalResource")
    return _thing("submission", body["submission_id"], "Attempt", **beyond) | {
        "assignee": _bare("user", body["user_id"], "Person"),
        "assignable": assignment,
    }


def _bare(kind: str, number: str, type_: str) -> Members:
    return {"id": f"{_URN}:{kind}:{number}", "type": type_}


def _thing(kind: str, number: str, type_: str, **beyond: Any) -> Members:
    return _bare(kind, number, type_) | {"extensions": {CANVAS: {**beyond, "entity_id": number}}}


FORMS: Final[Mapping[str, Form]] = {
    "logged_in": _logged_in,
    "asset_accessed": _viewed,
    "submission_created": _submitted,
    "grade_change": _graded,
    "quiz_submitted": _quiz_submitted,
    "discussion_entry_created": _posted,
}
