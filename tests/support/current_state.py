"""What the `current_` views must say: a fold of envelopes, one after the other, without any SQL.

It knows the catalogue and, in its own table, what events of other types tell; nothing of how views
are described or written.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from consumers.columns import fit_or_null
from ingest.contract.catalogue import EventType, FieldType, catalogue
from ingest.contract.envelope import Envelope
from ingest.contract.tables import ColumnType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: Mapping[FieldType, ColumnType] = {
    "id": "TEXT", "ids": "JSON", "string": "TEXT", "integer": "BIGINT", "number": "DOUBLE",
    "boolean": "BOOLEAN", "timestamp": "TIMESTAMPTZ", "object": "JSON", "array": "JSON",
}  # fmt: skip
_OWN_TYPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "current_courses": ("course_id", ("course_created", "course_updated", "syllabus_updated")),
    "current_sections": ("course_section_id", ("course_section_created", "course_section_updated")),
    "current_users": ("user_id", ("user_created", "user_updated")),
    "current_enrollments": ("enrollment_id", ("enrollment_created", "enrollment_updated")),
    "current_assignments": ("assignment_id", ("assignment_created", "assignment_updated")),
    "current_submissions": (
        "submission_id",
        (
            "submission_created",
            "submission_updated",
            "plagiarism_resubmit",
            "grade_change",
            "submission_custom_grade_status",
        ),
    ),
    "current_modules": ("module_id", ("module_created", "module_updated")),
    "current_pages": (
        "wiki_page_id",
        ("wiki_page_created", "wiki_page_updated", "wiki_page_deleted"),
    ),
    "current_discussions": (
        "discussion_topic_id",
        ("discussion_topic_created", "discussion_topic_updated"),
    ),
    "current_quizzes": ("quiz_id", ("quiz_created", "quiz_updated")),
    "current_files": (
        "attachment_id",
        ("attachment_created", "attachment_updated", "attachment_deleted"),
    ),
    "current_groups": ("group_id", ("group_created", "group_updated")),
}
_NAMES = {"user_id": "user_id", "name": "user_name", "uuid": "user_uuid"}
_GROUP = {n: n for n in ("group_id", "group_name", "group_category_id", "group_category_name")}
_WITHOUT_COURSE = frozenset({"current_users"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tells:
    """What events of a type tell of the entities of one view."""

    view: str
    key: tuple[str, ...]
    fields: Mapping[str, str]
    whole: bool
    deleted_when: str | None = None
    says_kept: bool = False


@dataclass(slots=True)
class _Entity:
    columns: dict[str, Any] = field(default_factory=dict)
    deleted: bool = False
    deleted_at: datetime | None = None


State = Mapping[str, Mapping[tuple[str, ...], Mapping[str, Any]]]
"""By view, and by tenant and key, the columns that are not null."""


def current_state(envelopes: Iterable[Envelope]) -> State:
    """What is known after these events, in whatever order and however often they came."""
    views: dict[str, dict[tuple[str, ...], _Entity]] = {}
    distinct = {envelope.event_id: envelope for envelope in envelopes}.values()
    for envelope in sorted(distinct, key=lambda e: (_time(e) or _EPOCH, e.event_id)):
        entry = catalogue().of(envelope)
        if entry is not None and envelope.metadata["format"] == "canvas":
            for tells in _tells(entry):
                _apply(views.setdefault(tells.view, {}), tells, entry, envelope)
    return {
        view: {key: _shown(view, entity) for key, entity in entities.items()}
        for view, entities in views.items()
    }


def _tells(entry: EventType) -> Iterator[_Tells]:
    own = {name: name for name in entry.fields if not name.startswith("old_")}
    for view, (key, types) in _OWN_TYPES.items():
        if entry.name in types:
            yield _Tells(
                view=view,
                key=(key,),
                fields=own,
                whole=entry.carries == "snapshot",
                deleted_when=entry.deleted_when,
                says_kept=entry.carries == "snapshot",
            )
    if entry.name in ("enrollment_created", "enrollment_updated"):
        yield _Tells(view="current_users", key=("user_id",), fields=_NAMES, whole=False)
    if entry.name in ("enrollment_state_created", "enrollment_state_updated"):
        yield _Tells(view="current_enrollments", key=("enrollment_id",), fields=own, whole=True)
    if entry.name in ("group_membership_created", "group_membership_updated"):
        yield _Tells(view="current_groups", key=("group_id",), fields=_GROUP, whole=False)
    if entry.name in ("course_grade_change", "grade_override", "final_grade_custom_status"):
        of_course = entry.name == "course_grade_change"
        yield _Tells(
            view="current_grades",
            key=("course_id", "user_id"),
            fields={n: n for n in own if n != "grading_period_id"},
            whole=of_course,
            deleted_when="workflow_state=deleted" if of_course else None,
        )


def _apply(
    entities: dict[tuple[str, ...], _Entity], tells: _Tells, entry: EventType, envelope: Envelope
) -> None:
    body, course = envelope.body, _course(entry, envelope)
    if tells.view == "current_grades" and body.get("grading_period_id") is not None:
        return
    values = {n: _value(entry, there, envelope, course) for n, there in tells.fields.items()}
    if course is not None and tells.view not in _WITHOUT_COURSE:
        values["course_id"] = course
    key = tuple(values.get(name) for name in tells.key)
    if not all(key):
        return
    entity = entities.setdefault((envelope.metadata["tenant"], *map(str, key)), _Entity())
    for name, value in values.items():
        if value is not None or (tells.whole and name != "course_id"):
            entity.columns[name] = value
    deleted = _deleted(tells, body)
    if deleted is not None:
        entity.deleted, entity.deleted_at = deleted, _time(envelope) if deleted else None
    entity.columns |= {"last_event_time": _time(envelope), "last_event_id": envelope.event_id}


def _deleted(tells: _Tells, body: Mapping[str, Any]) -> bool | None:
    if tells.deleted_when == "always":
        return True
    if tells.deleted_when is None:
        return False if tells.says_kept else None
    name, _, value = tells.deleted_when.partition("=")
    return bool(body.get(name) == value)


def _shown(view: str, entity: _Entity) -> Mapping[str, Any]:
    ends = {"is_deleted": entity.deleted, "deleted_at": entity.deleted_at}
    return {n: v for n, v in {**entity.columns, **ends}.items() if v is not None}


def _value(entry: EventType, name: str, envelope: Envelope, course: str | None) -> Any:
    """The field's value as a column holds it; an id that may be local, by the course's shard."""
    value = fit_or_null(envelope.body.get(name), _KINDS[entry.fields[name]])
    if value is None or entry.fields[name] != "id":
        return value
    if name == "context_id":  # which is one of the head's
        value = _global(value, envelope.metadata.get("root_account_id"))
    scope = entry.notes[name].scope if name in entry.notes else None
    return _global(value, course) if scope in ("local", None) else value


def _course(entry: EventType, envelope: Envelope) -> str | None:
    """The global id of the course that an event is about."""
    body, metadata = envelope.body, envelope.metadata
    stated = body.get("course_id")
    if stated is None and "context_type" in entry.fields and body.get("context_type") == "Course":
        stated = body.get("context_id")
    if stated is None and metadata.get("context_type") == "Course":
        stated = metadata.get("context_id")
    return None if stated is None else _global(str(stated), metadata.get("root_account_id"))


def _global(named: str, of_same_shard: str | None) -> str:
    if of_same_shard is None or int(of_same_shard) < 10**13 or int(named) >= 10**13:
        return named
    return str(int(of_same_shard) // 10**13 * 10**13 + int(named))


def _time(envelope: Envelope) -> datetime | None:
    moment: datetime | None = fit_or_null(envelope.metadata.get("event_time"), "TIMESTAMPTZ")
    return moment
