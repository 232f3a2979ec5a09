"""The table `course_copies`: which course was copied from which.

Source: canvas-lms app/models/lti/pns/lti_context_copy_notice_builder.rb: `context` is the new
course, `origin_contexts` names where its content came from, and is absent if that is unknown.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from consumers import columns
from consumers.projections import head
from consumers.values import Row
from ingest.contract.envelope import Envelope
from ingest.contract.tables import COURSE_COPIES, COURSE_COPIES_COLUMNS

NOTICE = "LtiContextCopyNotice"


def course_copy_rows(envelope: Envelope) -> Iterator[Row]:
    """One row for a context-copy notice, none for anything else."""
    if envelope.source == "pns" and envelope.event_type == NOTICE:
        values = head.head(envelope) | _parties(envelope.metadata) | _courses(envelope.body)
        yield Row(
            table=COURSE_COPIES,
            columns=COURSE_COPIES_COLUMNS,
            values=values,
            repeats_keep_time=head.repeats_keep_time(envelope, values["event_time"]),
        )


def _parties(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = ("issuer", "client_id", "deployment_id")
    return {name: columns.text_or_null(metadata.get(name)) for name in names}


def _courses(body: Mapping[str, Any]) -> dict[str, Any]:
    context, origins = body.get("context"), body.get("origin_contexts")
    course = context if isinstance(context, Mapping) else {}
    first = origins[0] if isinstance(origins, list) and origins else None
    return {
        "context_id": columns.fit_or_null(course.get("id"), "TEXT"),
        "context_label": columns.fit_or_null(course.get("label"), "TEXT"),
        "context_title": columns.fit_or_null(course.get("title"), "TEXT"),
        "origin_context_id": columns.fit_or_null(first, "TEXT"),
        "origin_context_ids": columns.fit_or_null(origins, "JSON"),
    }
