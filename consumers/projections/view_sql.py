"""The views as SQL: what a store is to make of each, by its dialect. Pure.

Columns are listed, so that a table may get more of them, and each is read with its table's name
before it, for a store may take a bare name for the view's own column.
"""

from collections.abc import Callable, Iterable, Mapping

from consumers.projections.dialects import Dialect, quoted, text
from ingest.contract.ids import LOCAL_DIGITS
from ingest.contract.tables import COURSE, COURSE_COPIES, COURSE_COPIES_COLUMNS, TYPED_HEAD
from ingest.contract.views import (
    DELETED_AT,
    IS_DELETED,
    LAST_ID,
    LAST_TIME,
    LTI_CONTEXTS,
    TENANT,
    BothFormats,
    CopiesView,
    Read,
    StateSource,
    StateView,
    View,
    views,
)

Path = Callable[[str], str]
"""A table's or view's name as a store's SQL has it after `from`."""

_SAYS_DELETED = "r.forebay_deleted is not null"


def view_queries(dialect: Dialect, schema: str) -> dict[str, str]:
    """Each view's query by the view's name, in an order in which they can be made."""

    def path(name: str) -> str:
        return f"{quoted(schema)}.{quoted(name)}"

    return {view.name: query(view, dialect, path) for view in views()}


def query(view: View, dialect: Dialect, path: Path) -> str:
    """The query that the view stands for."""
    match view:
        case StateView():
            return _state(view, dialect, path)
        case BothFormats():
            return _both(view, dialect, path)
        case CopiesView():
            return _copies(path)


def _state(view: StateView, dialect: Dialect, path: Path) -> str:
    keys = [TENANT, *view.key]
    told = "\nunion all\n".join(
        _told(view, number, source, dialect, path) for number, source in enumerate(view.sources)
    )
    parted = ", ".join(f"t.{quoted(name)}" for name in keys)
    chosen = [f"r.{quoted(name)} as {quoted(name)}" for name in keys]
    chosen += [f"{_latest(view, n, dialect)} as {quoted(n)}" for n in view.told]
    chosen += _ends(view, dialect)
    return (
        f"with told as (\n{told}\n), ranked as (\n"
        f"select t.*, row_number() over (partition by {parted}"
        f" order by coalesce(t.event_time, {dialect.epoch}), t.{dialect.by_id}) as forebay_nth\n"
        f"from told as t\n)\n"
        f"select\n{_lines(chosen)}\nfrom ranked as r\n"
        f"group by {', '.join(f'r.{quoted(name)}' for name in keys)}"
    )


def _told(view: StateView, number: int, source: StateSource, dialect: Dialect, path: Path) -> str:
    """What one source tells, in the columns that all sources of the view have."""
    chosen = ["e.event_id as event_id", "e.event_time as event_time"]
    chosen.append(f"e.{quoted(TENANT)} as {quoted(TENANT)}")
    for name in (*view.key, *view.told):
        kind = view.columns[name]
        value = _value(source.columns[name], dialect) if name in source.columns else None
        chosen.append(f"{value or dialect.null(kind)} as {quoted(name)}")
    chosen.append(f"{_deletion(source, dialect)} as forebay_deleted")
    chosen.append(f"{number} as forebay_source")
    wanted = [f"e.{quoted(source.columns[name].column)} <> ''" for name in view.key]
    if source.only_where is not None:
        column, value = source.only_where
        is_it = "is null" if value is None else f"= {text(value)}"
        wanted.append(f"e.{quoted(column)} {is_it}")
    return (
        f"select {', '.join(chosen)}\nfrom {path(source.table)} as e\nwhere {' and '.join(wanted)}"
    )


def _value(read: Read, dialect: Dialect) -> str:
    held = dialect.held(f"e.{quoted(read.column)}", dialect.types[read.kind])
    return _global(held, dialect) if read.local else held


def _global(named: str, dialect: Dialect) -> str:
    """The global id, where the row's course tells the shard."""
    course = f"e.{quoted(COURSE)}"
    return (
        f"case when length({named}) <= {LOCAL_DIGITS} and length({course}) > {LOCAL_DIGITS}"
        f" and {dialect.is_number(named)} and {dialect.is_number(course)}"
        f" then left({course}, length({course}) - {LOCAL_DIGITS})"
        f" || lpad({named}, {LOCAL_DIGITS}, '0') else {named} end"
    )


def _deletion(source: StateSource, dialect: Dialect) -> str:
    match source.deleted:
        case "always":
            return "true"
        case "never":
            return "false"
        case "unsaid":
            return dialect.null("BOOLEAN")
        case (column, value):
            return f"coalesce(e.{quoted(column)} = {text(value)}, false)"


def _latest(view: StateView, name: str, dialect: Dialect) -> str:
    """The latest value of those that sources tell: nulls too, where a source says that it is null.

    The course alone is never told to be none: it may be only where the user was.
    """
    value = f"r.{quoted(name)}"
    whole = [
        str(number)
        for number, source in enumerate(view.sources)
        if source.carries == "snapshot" and name in source.columns and name != COURSE
    ]
    if len(whole) == len(view.sources):
        return dialect.latest(value, None)
    says = f"{value} is not null"
    if whole:
        says = f"r.forebay_source in ({', '.join(whole)}) or {says}"
    return dialect.latest(value, says)


def _ends(view: StateView, dialect: Dialect) -> Iterable[str]:
    if view.marks_deleted:
        deleted = f"coalesce({dialect.latest('r.forebay_deleted', _SAYS_DELETED)}, false)"
        at = dialect.latest("r.event_time", _SAYS_DELETED)
        yield f"{deleted} as {quoted(IS_DELETED)}"
        yield f"case when {deleted} then {at} end as {quoted(DELETED_AT)}"
    yield f"{dialect.latest('r.event_time', None)} as {quoted(LAST_TIME)}"
    yield f"{dialect.latest('r.event_id', None)} as {quoted(LAST_ID)}"


def _both(view: BothFormats, dialect: Dialect, path: Path) -> str:
    head = [f"e.{quoted(name)} as {quoted(name)}" for name in TYPED_HEAD]
    own = [f"{_value(read, dialect)} as {quoted(n)}" for n, read in view.fields.items()]
    caliper = [
        f"{_in_caliper(view.paths[name], read, dialect)} as {quoted(name)}"
        for name, read in view.fields.items()
    ]
    return (
        f"select\n{_lines([*head, *own])}\nfrom {path(view.table)} as e\nunion all\n"
        f"select\n{_lines([*head, *caliper])}\nfrom {path(view.caliper)} as e"
    )


def _in_caliper(path: tuple[str, ...], read: Read, dialect: Dialect) -> str:
    column, *steps = path
    found = dialect.json_at(f"e.{quoted(column)}", steps, read.kind)
    return dialect.canvas_id(found) if read.is_id else found


def _copies(path: Path) -> str:
    copied = [f"c.{quoted(name)} as {quoted(name)}" for name in COURSE_COPIES_COLUMNS]
    copied += ["o.course_id as origin_course_id", "n.course_id as course_id"]
    joined = _joined({"o": "origin_context_id", "n": "context_id"}, path)
    return f"select\n{_lines(copied)}\nfrom {path(COURSE_COPIES)} as c\n{joined}"


def _joined(contexts: Mapping[str, str], path: Path) -> str:
    return "\n".join(
        f"left join {path(LTI_CONTEXTS)} as {known}"
        f" on {known}.tenant = c.tenant and {known}.lti_context_id = c.{column}"
        for known, column in contexts.items()
    )


def _lines(columns: Iterable[str]) -> str:
    return ",\n".join(f"  {column}" for column in columns)
