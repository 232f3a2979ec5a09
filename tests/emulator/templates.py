"""What most events have in common: the usual `metadata` of each kind, and the LTI claim names.

Source for the members: Canvas documentation, "Live Events: metadata"; canvas-lms
app/models/lti/pns/notice_builder.rb for the claims.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from typing import Any, Final

from tests.emulator.corpus import Kind

LTI_CLAIM: Final = "https://purl.imsglobal.org/spec/lti/claim/"
NOTICE_CLAIM: Final = f"{LTI_CLAIM}notice"
VERSION_CLAIM: Final = f"{LTI_CLAIM}version"
DEPLOYMENT_CLAIM: Final = f"{LTI_CLAIM}deployment_id"

_ACCOUNT = {
    "producer": "canvas",
    "root_account_id": "set by the school",
    "root_account_uuid": "set by the school",
    "root_account_lti_guid": "set by the school",
}

_REQUEST = {
    "request_id": "drawn",
    "session_id": "drawn",
    "hostname": "set by the school",
    "http_method": "POST",
    "user_agent": "drawn",
    "client_ip": "drawn",
    "url": "https://campus.example.edu/api/v1/courses/204/things",
    "referrer": "https://campus.example.edu/courses/204",
}

_ACTOR = {
    "user_id": "10930000000004501",
    "user_login": "staff-501",
    "user_account_id": "10930000000000017",
    "user_sis_id": "T-501",
    "time_zone": "America/Denver",
    "context_type": "Course",
    "context_id": "10930000000002204",
    "context_account_id": "10930000000000617",
    "context_sis_source_id": "HYD1-S26-204",
    "context_role": "TeacherEnrollment",
}

_JOB = {"job_id": "10930000081120655", "job_tag": "Delayed::Job#invoke"}

METADATA: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "user": {**_ACCOUNT, **_REQUEST, **_ACTOR},
    "anonymous": {**_ACCOUNT, **_REQUEST, "session_id": None, "referrer": None},
    "system": {**_ACCOUNT, **_JOB},
    "service": dict(_ACCOUNT),
    "bare": {"producer": "canvas"},
}

CANVAS: Final = "com.instructure.canvas"

_CALIPER_ACCOUNT = {name: value for name, value in _ACCOUNT.items() if name != "producer"}

_CALIPER_BASE = {
    "@context": "http://purl.imsglobal.org/ctx/caliper/v1p1",
    "edApp": {"id": "http://www.canvaslms.com/", "type": "SoftwareApplication"},
}

_CALIPER_COURSE = {
    "id": "urn:instructure:canvas:course:10930000000002204",
    "type": "CourseOffering",
    "extensions": {CANVAS: {"context_type": "Course", "entity_id": "10930000000002204"}},
}

_CALIPER_REQUEST = {
    "session": {"id": "urn:instructure:canvas:session:5bd0e2c1f7a94e3388d6b01c29f4a7e6"}
    | {"type": "Session"},
    "extensions": {
        CANVAS: {
            "hostname": "set by the school",
            "request_id": "drawn",
            "user_agent": "drawn",
            "client_ip": "drawn",
            "request_url": "https://campus.example.edu/api/v1/courses/204/things",
            "version": "1.0.0",
        }
    },
}

_CALIPER_NOBODY = {
    "id": "urn:instructure:canvas:user:0",
    "type": "Person",
    "extensions": {CANVAS: {**_CALIPER_ACCOUNT, "entity_id": "0"}},
}

CALIPER: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "user": {
        **_CALIPER_BASE,
        **_CALIPER_REQUEST,
        "actor": {
            "id": "urn:instructure:canvas:user:10930000000004501",
            "type": "Person",
            "extensions": {
                CANVAS: {
                    **_CALIPER_ACCOUNT,
                    "user_login": "staff-501",
                    "user_sis_id": "T-501",
                    "entity_id": "10930000000004501",
                }
            },
        },
        "group": _CALIPER_COURSE,
        "membership": {
            "id": "urn:instructure:canvas:course:10930000000002204:Instructor:10930000000004501",
            "type": "Membership",
            "member": {"id": "urn:instructure:canvas:user:10930000000004501", "type": "Person"},
            "organization": {
                "id": "urn:instructure:canvas:course:10930000000002204",
                "type": "CourseOffering",
            },
            "roles": ["Instructor"],
        },
        "referrer": "https://campus.example.edu/courses/204",
    },
    "anonymous": {
        **_CALIPER_BASE,
        **_CALIPER_REQUEST,
        "actor": _CALIPER_NOBODY,
        "group": _CALIPER_COURSE,
    },
    "system": {
        **_CALIPER_BASE,
        "actor": _CALIPER_NOBODY,
        "group": _CALIPER_COURSE,
        "extensions": {CANVAS: {**_JOB, "version": "1.0.0"}},
    },
    "service": {**_CALIPER_BASE, "actor": _CALIPER_NOBODY},
    "bare": dict(_CALIPER_BASE),
}
"""The members that most Caliper events of a kind have. How those of jobs look is not documented."""

_USER_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0",
    "CanvasStudent/8.3 (iPhone; iOS 26.1)",
)


def drawn_request(rng: random.Random) -> dict[str, str]:
    """The members of `metadata` that are new with every web request."""
    return {
        "request_id": drawn_uuid(rng),
        "session_id": f"{rng.getrandbits(128):032x}",
        "user_agent": rng.choice(_USER_AGENTS),
        # TEST-NET-3, set aside for examples by RFC 5737
        "client_ip": f"203.0.113.{rng.randrange(1, 255)}",
    }


def drawn_uuid(rng: random.Random) -> str:
    """A random UUID, the same for the same state of `rng`."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def full_claim_name(name: str) -> str:
    """The URI of a claim that the corpus may name by its last segment."""
    return name if "://" in name else LTI_CLAIM + name
