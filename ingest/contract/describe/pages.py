"""The contract for people: a start page, the data model, a page per type. Markdown, generated."""

from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from string import Template
from textwrap import fill

from ingest.contract.catalogue import EventType, FieldNote, FieldType, catalogue
from ingest.contract.codec import ce_type
from ingest.contract.comments import HEAD_WORDS
from ingest.contract.envelope import Envelope
from ingest.contract.metadata import MetadataField, our_fields, signed_fields
from ingest.contract.tables import (
    COURSE_COPIES_COLUMNS,
    EVENTS_COLUMNS,
    MAX_UNKNOWN_FIELDS,
    TYPED_HEAD,
    ColumnType,
    caliper_table,
    typed_columns,
)
from ingest.contract.topics import schema_id, schema_name, type_topic
from ingest.contract.views import StateView, view_of, views

START = "README.md"
DATA_MODEL = "data-model.md"
PREFIX = "canvas"
"""What topics begin with by default, and what the schema of the tables is called."""

Layout = Callable[[Envelope], str]

_LATEST = """\
select {columns}
from {table}
order by event_time desc
limit 100;"""
_PER_DAY = """\
select cast(event_time as date) as day, count(*) as events
from {table}
group by cast(event_time as date)
order by day;"""
_LATEST_OF_EACH = """\
-- the latest event of each {entity}
select *
from (
  select *, row_number() over (
    partition by {key} order by event_time desc, event_id desc
  ) as nth
  from {table}
) as latest
where nth = 1;"""
_AS_THEY_ARE = """\
-- {about}, as they are now
select *
from {view}
order by last_event_time desc
limit 100;"""
_CURRENT_QUERY = """\
select s.submission_id, u.name, s.score, s.late
from {schema}.current_submissions as s
left join {schema}.current_users as u on u.tenant = s.tenant and u.user_id = s.user_id
where not s.is_deleted
limit 100;"""
_BOTH_QUERY = """\
select format, count(*) as events, count(score) as with_score
from {schema}.all_grade_change
group by format;"""
_CALIPER_QUERY = """\
select event_time, actor_id, action, object->>'type' as kind, object->>'id' as thing
from {table}
order by event_time desc
limit 100;"""

# names of ours that SQL keeps to itself
_RESERVED = frozenset({"all", "end", "from", "group", "order", "table", "to", "user", "when"})
_CARRIES = {
    "snapshot": "a snapshot of the {entity}: of the fields listed, an absent one is null",
    "partial": "a part of the {entity}: an absent field is unchanged",
    None: "an occurrence",
}
_SENT_BY = {"user": "a person's request", "system": "a background job"}


def pages(examples: Iterable[Envelope], shown: Layout) -> dict[str, str]:
    """All pages by file name. `shown` lays an envelope out as text."""
    of_type = {(e.source, e.event_type): e for e in examples if e.metadata["format"] != "caliper"}
    return {
        START: _start(),
        DATA_MODEL: _data_model(),
        **{
            page_name(entry): _page(entry, of_type.get((entry.source, entry.name)), shown)
            for entry in catalogue()
        },
    }


def page_name(entry: EventType) -> str:
    """The file of a type's page: `live-events.submission-created.md`."""
    return f"{_name(entry)}.md"


def queries(entry: EventType) -> list[str]:
    """Queries to begin with, in SQL that any of the stores takes."""
    table = f"{PREFIX}.{entry.table}"
    columns = typed_columns(entry.fields)
    listed = ", ".join(["event_time", "actor_id", *(_quoted(name) for name, _ in columns.values())])
    made = [_LATEST.format(columns=fill(listed, 100, subsequent_indent="  "), table=table)]
    made.append(_PER_DAY.format(table=table))
    view = view_of(entry)
    if view is not None:
        made.append(_AS_THEY_ARE.format(about=view.about, view=f"{PREFIX}.{view.name}"))
    elif entry.key:
        column, _ = columns[entry.key[0]]
        path = "".join(f"->>'{step}'" for step in entry.key[1:])
        of_each = {"key": f"{_quoted(column)}{path}", "entity": _spaced(entry.entity or "entity")}
        made.append(_LATEST_OF_EACH.format(table=table, **of_each))
    return made


def caliper_query() -> str:
    """A query on a table of Caliper events."""
    entry = next(entry for entry in catalogue() if entry.caliper)
    return _CALIPER_QUERY.format(table=f"{PREFIX}.{caliper_table(entry)}")


def _start() -> str:
    by_category = [
        f"### {title}\n\n{_types(entry for entry in catalogue() if entry.category == category)}"
        for category, title in catalogue().categories.items()
    ]
    return _filled("start.md", types=str(len(catalogue())), list="\n\n".join(by_category))


def _types(entries: Iterable[EventType]) -> str:
    rows = [(f"[{e.name}]({page_name(e)})", e.about, f"`{e.table}`") for e in entries]
    return _table(("type", "what happened", "table"), rows)


def _data_model() -> str:
    shapes = [entry for entry in catalogue() if entry.caliper]
    return _filled(
        "data_model.md",
        metadata=_metadata({**our_fields(), **signed_fields()}),
        events=_columns(EVENTS_COLUMNS),
        head=_head(),
        unknown=str(MAX_UNKNOWN_FIELDS),
        caliper=_fields(catalogue().caliper_fields, catalogue().caliper_notes),
        shapes=str(len(shapes)),
        caliper_sql=caliper_query(),
        current=_current(),
        current_sql=_CURRENT_QUERY.format(schema=PREFIX),
        both_sql=_BOTH_QUERY.format(schema=PREFIX),
        copies=_columns(COURSE_COPIES_COLUMNS),
    )


def _head() -> str:
    rows = [(f"`{name}`", kind, HEAD_WORDS[name]) for name, kind in TYPED_HEAD.items()]
    return _table(("column", "type", "meaning"), rows)


def _current() -> str:
    rows = [
        (f"`{view.name}`", view.about, ", ".join(f"`{name}`" for name in view.key))
        for view in views()
        if isinstance(view, StateView) and view.marks_deleted
    ]
    return _table(("view", "what", "key"), rows)


def _page(entry: EventType, example: Envelope | None, shown: Layout) -> str:
    fields = _fields(entry.fields, entry.notes) if entry.fields else "No field is known."
    parts = [
        f"# {entry.name}",
        entry.about,
        _facts(entry),
        "## Fields of the body",
        f"Each may be null or absent. The [data model]({DATA_MODEL}) has the metadata, and more.",
        fields,
        *_in_caliper(entry),
        "## Example",
        f"```json\n{shown(example)}```" if example else "There is none yet.",
        "## Queries",
        *(f"```sql\n{query}\n```" for query in queries(entry)),
        f"[All types]({START})",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(entry: EventType) -> str:
    key = f"`body.{'.'.join(entry.key)}`" if entry.key else "the user who acted, or the event"
    tables = [f"`{PREFIX}.{entry.table}`"]
    if entry.caliper:
        tables.append(f"in Caliper format `{PREFIX}.{caliper_table(entry)}`")
    documented = (
        "documented" if entry.documented else "known from its code, not from its documentation"
    )
    rows = [
        ("topic", f"`{type_topic(PREFIX, entry.source, entry.name)}`"),
        ("key", f"`<{_owner(entry)}>:` and {key}"),
        ("table", ", ".join(tables)),
        *([("views", ", ".join(names))] if (names := _views(entry)) else []),
        ("schema", f"[`{schema_id(entry.source, entry.name)}`](../schemas/{_schema(entry)})"),
        ("`ce_type`", f"`{ce_type(entry.source, entry.name)}`"),
        ("a row is", _CARRIES[entry.carries].format(entity=_spaced(entry.entity or ""))),
        *([("deleted", _deleted(entry.deleted_when))] if entry.deleted_when else []),
        (
            "caused by",
            f"{_SENT_BY[entry.trigger]}, as a rule" if entry.trigger else "not documented",
        ),
        ("in Canvas", documented),
    ]
    return _table(("", ""), rows)


def _views(entry: EventType) -> list[str]:
    read = {view.name for view in views() if entry.table in view.tables}
    return [f"`{PREFIX}.{name}`" for name in sorted(read)]


def _owner(entry: EventType) -> str:
    return "client id" if entry.source == "pns" else "root account's UUID"


def _deleted(when: str) -> str:
    path, _, value = when.partition("=")
    return "each event of this type" if path == "always" else f"where `body.{path}` is `{value}`"


def _in_caliper(entry: EventType) -> list[str]:
    if not entry.caliper:
        return []
    rows = [
        (f"`{s.type}`", f"`{s.action}`", f"`{s.object}`", f"`{s.prefix}`", _maybe(s.extension))
        for s in entry.caliper
    ]
    columns = ("type", "action", "object's type", "object's id begins with", "object's extension")
    return [
        "## In Caliper format",
        f"The body is the whole Caliper event; [these]({DATA_MODEL}) are its fields. It is told by",
        _table(columns, rows),
    ]


def _fields(fields: Mapping[str, FieldType], notes: Mapping[str, FieldNote]) -> str:
    columns = typed_columns(fields)
    rows = [
        (f"`{name}`", kind, "`{}` {}".format(*columns[name]), _about(notes.get(name)))
        for name, kind in fields.items()
    ]
    return _table(("field", "type", "column", "meaning"), rows)


def _metadata(fields: Mapping[str, MetadataField]) -> str:
    rows = [
        (f"`{name}`", field.type, "always" if field.always else "", _of_values(field))
        for name, field in fields.items()
    ]
    return _table(("field", "type", "", "meaning"), rows)


def _of_values(field: MetadataField) -> str:
    values = ", ".join(f"`{value}`" for value in field.values)
    return f"{field.about}: {values}" if values else field.about


def _columns(columns: Mapping[str, ColumnType]) -> str:
    return _table(("column", "type"), [(f"`{name}`", kind) for name, kind in columns.items()])


def _about(note: FieldNote | None) -> str:
    if note is None:
        return ""
    return f"{note.about} ({note.scope} id)" if note.scope else note.about


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines
    )


def _filled(name: str, **values: str) -> str:
    text = files("ingest.contract.describe").joinpath(name).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _name(entry: EventType) -> str:
    return schema_name(entry.source, entry.name).rpartition(".")[0]


def _schema(entry: EventType) -> str:
    return f"{schema_name(entry.source, entry.name)}.json"


def _quoted(column: str) -> str:
    return f'"{column}"' if column in _RESERVED else column


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _maybe(text: str | None) -> str:
    return f"`{text}`" if text else ""
