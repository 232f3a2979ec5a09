"""Envelope to rows, pure: no clock, no store, no logger.

`head` has the columns that most tables begin with; `events`, `typed` and `course_copies` each know
one kind of table. Every projection takes any envelope and gives no, one or more rows for it.
"""

from collections.abc import Iterable

from consumers.projections.course_copies import course_copy_rows
from consumers.projections.events import event_rows
from consumers.projections.typed import TypedTables
from consumers.values import Projection, Row
from ingest.contract.catalogue import Catalogue
from ingest.contract.envelope import Envelope


def all_tables(catalogue: Catalogue) -> Projection:
    """The projection that fills every table."""
    typed_rows = TypedTables(catalogue).rows

    def rows(envelope: Envelope) -> Iterable[Row]:
        yield from event_rows(envelope)
        yield from typed_rows(envelope)
        yield from course_copy_rows(envelope)

    return rows
