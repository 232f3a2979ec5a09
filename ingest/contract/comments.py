"""What tables, views and their columns hold, in words: for the comments that a store keeps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from ingest.contract.catalogue import EventType, FieldNote, FieldType, catalogue
from ingest.contract.metadata import our_fields, signed_fields
from ingest.contract.tables import (
    COURSE,
    COURSE_COPIES,
    COURSE_COPIES_COLUMNS,
    EVENTS,
    EVENTS_COLUMNS,
    TYPED_HEAD,
    caliper_table,
    typed_columns,
)
from ingest.contract.views import BothFormats, CopiesView, StateView, views

_OF_METADATA = {n: f.about for n, f in {**our_fields(), **signed_fields()}.items()}
HEAD_WORDS: Mapping[str, str] = {
    **{name: _OF_METADATA[name] for name in TYPED_HEAD if name in _OF_METADATA},
    "actor_id": _OF_METADATA["user_id"],
    "actor_login": _OF_METADATA["user_login"],
    "context_type": "kind of place that it belongs to, or else where the user acted",
    "context_id": "place that it belongs to, or else where the user acted",
    COURSE: "course that it is about, or else where the user acted",
}
"""What the columns of `TYPED_HEAD` hold."""

_COPIES = {
    "context_id": "LTI id of the course that received the content",
    "context_label": "short name of that course",
    "context_title": "title of that course",
    "origin_context_id": "LTI id of the first course that the content came from",
    "origin_context_ids": "LTI ids of all courses that the content came from",
}
_OF_VIEWS = {
    "is_deleted": "whether the latest word is that it is deleted",
    "deleted_at": "when that was last said",
    "last_event_time": "time of the latest event that told of it",
    "last_event_id": "id of the latest event that told of it",
    "origin_course_id": "course that origin_context_id stands for",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a table or view holds, and each of its columns."""

    about: str
    columns: Mapping[str, str]


@cache
def table_words() -> Mapping[str, Words]:
    """Words for every table and view that the contract knows, by name."""
    words = dict(_tables())
    for view in views():
        words[view.name] = Words(about=view.about, columns=_of_view(view, words))
    return words


def _tables() -> Iterator[tuple[str, Words]]:
    whole = {"metadata": "all metadata", "body": "all fields of the type's own"}
    of_events = {name: _OF_METADATA.get(name) or whole[name] for name in EVENTS_COLUMNS}
    yield EVENTS, Words(about="Every event of every type, whole.", columns=of_events)
    of_copies = {n: _COPIES.get(n) or _OF_METADATA[n] for n in COURSE_COPIES_COLUMNS}
    about = "Which course's content was copied into which, by context-copy notices."
    yield COURSE_COPIES, Words(about=about, columns=of_copies)
    for entry in catalogue():
        yield entry.table, _typed(entry, entry.fields, entry.notes)
        if entry.caliper:
            known = catalogue()
            yield caliper_table(entry), _typed(entry, known.caliper_fields, known.caliper_notes)


def _typed(
    entry: EventType, fields: Mapping[str, FieldType], notes: Mapping[str, FieldNote]
) -> Words:
    columns = typed_columns(fields)
    own = {columns[name][0]: note.about for name, note in notes.items()}
    return Words(about=entry.about, columns={**HEAD_WORDS, **own})


def _of_view(view: StateView | BothFormats | CopiesView, of: Mapping[str, Words]) -> dict[str, str]:
    match view:
        case StateView():
            read = {
                n: of[s.table].columns[r.column] for s in view.sources for n, r in s.columns.items()
            }
        case BothFormats():
            read = {n: of[view.table].columns[r.column] for n, r in view.fields.items()}
        case CopiesView():
            read = dict(of[COURSE_COPIES].columns)
    known = {**HEAD_WORDS, **_OF_VIEWS, **read}
    return {name: known[name] for name in view.columns}
