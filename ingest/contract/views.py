"""The views over the tables, as data: what each has columns of, and where their values come from.

`current_<entity>` has one row per entity, as all events together tell it. Each source is a table of
a type; it says of its columns that an absent value is null (`snapshot`) or unchanged (`partial`).
Per column that value counts whose event has the greatest `(event_time, event_id)` of those that say
something of it; an unknown time sorts as 1970-01-01. What is deleted is marked, and stays.

`all_<type>` has the events of a type in both formats, with the fields that both have.

Ids in views are global wherever the row tells its shard, by its course.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

from ingest.contract.caliper import EXTENSIONS
from ingest.contract.catalogue import Catalogue, EventType, catalogue
from ingest.contract.current import ENTITIES, Entity, Told
from ingest.contract.tables import (
    COURSE,
    COURSE_COPIES,
    COURSE_COPIES_COLUMNS,
    TYPED_HEAD,
    ColumnType,
    caliper_table,
    table_columns,
    typed_columns,
)

LTI_CONTEXTS = "lti_contexts"
COPIES_BY_COURSE = "course_copies_by_course"
TENANT = "tenant"

IS_DELETED, DELETED_AT = "is_deleted", "deleted_at"
LAST_TIME, LAST_ID = "last_event_time", "last_event_id"
_LAST: Mapping[str, ColumnType] = {LAST_TIME: "TIMESTAMPTZ", LAST_ID: "TEXT"}
_DELETED: Mapping[str, ColumnType] = {IS_DELETED: "BOOLEAN", DELETED_AT: "TIMESTAMPTZ"}


Carries = Literal["snapshot", "partial"]
Deleted = Literal["always", "never", "unsaid"] | tuple[str, str]


class Read(NamedTuple):
    """A column of a table. `is_id`: it holds ids of Canvas's; `local`: they may be local ones."""

    column: str
    kind: ColumnType
    is_id: bool = False
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSource:
    """A table that tells of entities; `columns` are the view's, with the table's for each.

    `deleted` says whether the entity is: always, where a column has a value, never, or that the
    source says nothing of it. Of `only_where`, a column and its value, other rows do not count.
    `is_about`: its events are about these entities, and do not only mention them.
    """

    table: str
    carries: Carries
    columns: Mapping[str, Read]
    deleted: Deleted
    only_where: tuple[str, str | None] | None = None
    is_about: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StateView:
    """One row per `key`, within a tenant, as its sources tell it."""

    name: str
    about: str
    key: tuple[str, ...]
    columns: Mapping[str, ColumnType]
    sources: tuple[StateSource, ...]
    marks_deleted: bool = True

    @property
    def tables(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(source.table for source in self.sources)

    @property
    def told(self) -> Mapping[str, ColumnType]:
        """The columns that sources tell, other than the key."""
        ours = {TENANT, *self.key, *_DELETED, *_LAST}
        return {name: kind for name, kind in self.columns.items() if name not in ours}


@dataclass(frozen=True, slots=True, kw_only=True)
class BothFormats:
    """The rows of a type's two tables; `paths` lead to a field's value in the Caliper body.

    The first step is a column of the Caliper table, the others lead through its JSON.
    """

    name: str
    about: str
    columns: Mapping[str, ColumnType]
    table: str
    caliper: str
    fields: Mapping[str, Read]
    paths: Mapping[str, tuple[str, ...]]

    @property
    def tables(self) -> tuple[str, ...]:
        """What it reads."""
        return self.table, self.caliper


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesView:
    """`course_copies` with the ids of both courses, where `lti_contexts` has them."""

    name: str = COPIES_BY_COURSE
    about: str = "context-copy notices with the ids of both courses, where `lti_contexts` has them"
    columns: Mapping[str, ColumnType] = field(
        default_factory=lambda: {
            **COURSE_COPIES_COLUMNS,
            "origin_course_id": "TEXT",
            COURSE: "TEXT",
        }
    )
    tables: tuple[str, ...] = (COURSE_COPIES, LTI_CONTEXTS)


View = StateView | BothFormats | CopiesView


@cache
def views() -> tuple[View, ...]:
    """All views of this release, each after those that it reads."""
    return (
        *(_state(entity, catalogue()) for entity in ENTITIES),
        CopiesView(),
        *(_both(entry, catalogue()) for entry in catalogue() if entry.caliper),
    )


def base_tables() -> dict[str, Mapping[str, ColumnType]]:
    """The tables that views read, with their columns."""
    read = {table for view in views() for table in view.tables}
    tables: dict[str, Mapping[str, ColumnType]] = {COURSE_COPIES: COURSE_COPIES_COLUMNS}
    for entry in catalogue():
        if entry.table in read:
            tables[entry.table] = table_columns(entry.fields)
        if entry.caliper:
            tables[caliper_table(entry)] = table_columns(catalogue().caliper_fields)
    return tables


def view_of(entry: EventType) -> StateView | None:
    """The view of the entities that events of this type are about, if there is one."""
    for view in views():
        if isinstance(view, StateView) and any(
            source.table == entry.table and source.is_about for source in view.sources
        ):
            return view
    return None


def _state(entity: Entity, known: Catalogue) -> StateView:
    sources = tuple(_sources(entity, known))
    told = {n: read.kind for source in sources for n, read in source.columns.items()}
    names = (*entity.key, *([COURSE] if entity.in_course else []))
    first: dict[str, ColumnType] = {TENANT: "TEXT", **{name: told[name] for name in names}}
    ends = {**(_DELETED if entity.marks_deleted else {}), **_LAST}
    return StateView(
        name=entity.view,
        about=entity.about,
        key=entity.key,
        columns={**first, **told, **ends},
        sources=sources,
        marks_deleted=entity.marks_deleted,
    )


def _sources(entity: Entity, known: Catalogue) -> Iterator[StateSource]:
    for entry in known:
        if entry.entity == entity.entity and entry.key and entry.carries:
            yield StateSource(
                table=entry.table,
                carries=entry.carries,
                columns=_reads(entry, _state_fields(entry), entity),
                deleted=_deletion(entry, entry.deleted_when, entry.carries),
            )
    for told in entity.told_by:
        found = known.find("live-events", told.type)
        if found is None:
            raise ValueError(f"{entity.view} reads {told.type}, which the catalogue lacks")
        yield _beside(found, told, entity)


def _beside(entry: EventType, told: Told, entity: Entity) -> StateSource:
    """What a type tells that is about something else."""
    fields = told.columns or _state_fields(entry)
    if told.only_where and told.only_where[1] is None:
        fields = {n: there for n, there in fields.items() if there != told.only_where[0]}
    return StateSource(
        table=entry.table,
        carries=told.carries,
        columns=_reads(entry, fields, entity),
        deleted=_deletion(entry, told.deleted_when, "partial"),
        only_where=told.only_where,
        is_about=not told.columns,
    )


def _state_fields(entry: EventType) -> Mapping[str, str]:
    return {name: name for name in entry.fields if not name.startswith("old_")}


def _reads(entry: EventType, wanted: Mapping[str, str], entity: Entity) -> dict[str, Read]:
    """The view's columns: those wanted of the type's fields, and the course."""
    columns = typed_columns(entry.fields)
    reads = {
        _column(name, columns): _read(entry, name_there, columns)
        for name, name_there in wanted.items()
    }
    # whatever the entity, the head's course says where it is; it is global there
    return reads | ({COURSE: Read(COURSE, "TEXT")} if entity.in_course else {})


def _column(name: str, columns: Mapping[str, tuple[str, ColumnType]]) -> str:
    return columns[name][0] if name in columns else name


def _read(entry: EventType, name: str, columns: Mapping[str, tuple[str, ColumnType]]) -> Read:
    note = entry.notes.get(name)
    scope = note.scope if note else None
    is_id = entry.fields[name] == "id" and scope in ("global", "local", None)
    return Read(*columns[name], is_id=is_id, local=is_id and scope != "global")


def _deletion(entry: EventType, when: str | None, carries: Carries) -> Deleted:
    if when == "always":
        return "always"
    if when is None:
        return "never" if carries == "snapshot" else "unsaid"
    name, _, value = when.partition("=")
    return typed_columns(entry.fields)[name][0], value


def _both(entry: EventType, known: Catalogue) -> BothFormats:
    columns = typed_columns(entry.fields)
    of_caliper = typed_columns(known.caliper_fields)
    fields = {columns[name][0]: _read(entry, name, columns) for name in entry.in_caliper}
    paths = {
        columns[name][0]: (of_caliper[first][0], *_spelled(rest))
        for name, (first, *rest) in entry.in_caliper.items()
    }
    return BothFormats(
        name=f"all_{entry.table}",
        about=f"`{entry.table}` in both formats, with the fields that both have",
        columns={**TYPED_HEAD, **{name: read.kind for name, read in fields.items()}},
        table=entry.table,
        caliper=caliper_table(entry),
        fields=fields,
        paths=paths,
    )


def _spelled(path: list[str]) -> Iterator[str]:
    for step in path:
        yield step
        if step == "extensions":
            yield EXTENSIONS
