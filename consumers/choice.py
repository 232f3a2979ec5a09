"""What of the log a worker writes: the types that it reads, and the tables that it fills.

Both are lists of names with commas between them, in which `*` stands for any text.
"""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from consumers.values import Projection, Row
from ingest.contract.catalogue import catalogue
from ingest.contract.envelope import SOURCES, Envelope, Source
from ingest.contract.tables import COURSE_COPIES, EVENTS, caliper_table
from ingest.contract.topics import UNRECOGNISED, event_topic_pattern, type_topic

EVERYTHING = "*"

_VERSION = re.compile(r"\.v[0-9]+$")


def types_named(text: str) -> str:
    """The list of types again, if each of its names is that of one. Raises ValueError.

    They are as Canvas writes them; `unrecognised` stands for all that the catalogue lacks.
    """
    _matching(text, {name for _, name in _types()}, "event type")
    return text


def tables_named(text: str) -> str:
    """The list of tables again, if each of its names is that of one. Raises ValueError."""
    _matching(text, set(_tables()), "table of events")
    return text


def topic_pattern(prefix: str, types: str) -> str:
    """A regular expression for the topics of these types, in any version."""
    if types == EVERYTHING:
        return event_topic_pattern(prefix)
    names = _matching(types, {name for _, name in _types()}, "event type")
    topics = (type_topic(prefix, source, name) for source, name in _types() if name in names)
    texts = (re.escape(_VERSION.sub("", topic)) for topic in topics)
    return rf"^({'|'.join(texts)})\.v[0-9]+$"


def only_tables(project: Projection, tables: str) -> Projection:
    """The projection without the rows of other tables."""
    if tables == EVERYTHING:
        return project
    wanted = _matching(tables, set(_tables()), "table of events")

    def rows(envelope: Envelope) -> Iterable[Row]:
        return [row for row in project(envelope) if row.table in wanted]

    return rows


def _types() -> Iterator[tuple[Source, str]]:
    yield from ((entry.source, entry.name) for entry in catalogue())
    yield from ((source, UNRECOGNISED) for source in SOURCES)


def _tables() -> Iterator[str]:
    yield from (EVENTS, COURSE_COPIES)
    for entry in catalogue():
        yield entry.table
        if entry.caliper:
            yield caliper_table(entry)


def _matching(text: str, names: set[str], what: str) -> frozenset[str]:
    """The names that are meant. Raises ValueError where one of the list's stands for none."""
    found: set[str] = set()
    for wanted in (part.strip() for part in text.split(",")):
        matching = {name for name in names if fnmatchcase(name, wanted)}
        if not matching:
            raise ValueError(f"there is no {what} {wanted!r}")
        found |= matching
    return frozenset(found)
