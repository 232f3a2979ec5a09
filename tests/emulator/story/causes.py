"""Who or what caused an event, and the `metadata` that says so.

Source: Canvas documentation, Live Events: metadata; canvas-lms lib/job_live_events_context.rb.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.emulator.school import School
from tests.emulator.story.ids import global_id
from tests.emulator.story.things import Account, Course, EnrollmentType, Person
from tests.emulator.story.times import ZONE_NAME, millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One login of one person at one machine."""

    person: Person
    session_id: str
    client_ip: str
    user_agent: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One web request of a person. All events that it causes share its id."""

    session: Session
    request_id: str
    method: str
    path: str
    place: Course | Account | None = None
    role: EnrollmentType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One background job: nobody's, though somebody may have asked for it."""

    job_id: str
    tag: str
    place: Course | None = None


Cause = Request | Job


def metadata(school: School, cause: Cause, name: str, at: datetime) -> dict[str, Any]:
    """The `metadata` of an event of this name that the cause had at this time."""
    members = {
        "producer": "canvas",
        "root_account_id": school.root_account_id,
        "root_account_uuid": school.root_account_uuid,
        "root_account_lti_guid": school.root_account_lti_guid,
        "event_name": name,
        "event_time": millis(at),
    }
    return members | (_of_request(school, cause) if isinstance(cause, Request) else _of_job(cause))


def _of_job(job: Job) -> dict[str, Any]:
    return {"job_id": job.job_id, "job_tag": job.tag} | (
        {"context_type": "Course", "context_id": global_id(job.place.number)} if job.place else {}
    )


def _of_request(school: School, request: Request) -> dict[str, Any]:
    session, person = request.session, request.session.person
    address = f"https://{school.hostname}"
    return {
        "request_id": request.request_id,
        "session_id": session.session_id,
        "hostname": school.hostname,
        "http_method": request.method,
        "user_agent": session.user_agent,
        "client_ip": session.client_ip,
        "url": address + request.path,
        "referrer": f"{address}/" if request.method == "POST" else None,
        "user_id": global_id(person.number),
        "user_login": person.login,
        "user_account_id": school.root_account_id,
        "user_sis_id": person.sis_id,
        "time_zone": ZONE_NAME,
        **_context(request),
    }


def _context(request: Request) -> dict[str, Any]:
    place = request.place
    if place is None:
        return {}
    if isinstance(place, Account):
        return {
            "context_type": "Account",
            "context_id": global_id(place.number),
            "context_account_id": global_id(place.number),
            "context_sis_source_id": None,
            "context_role": "AccountAdmin",
        }
    return {
        "context_type": "Course",
        "context_id": global_id(place.number),
        "context_account_id": global_id(place.account.number),
        "context_sis_source_id": place.code,
        "context_role": request.role,
    }
