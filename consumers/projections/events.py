"""The table `events`: every event of every type, whole."""

from collections.abc import Iterator

from consumers import columns
from consumers.projections import head
from consumers.values import Row
from ingest.contract.envelope import Envelope
from ingest.contract.tables import EVENTS, EVENTS_COLUMNS

_FROM_METADATA = tuple(name for name, kind in EVENTS_COLUMNS.items() if kind == "TEXT")


def event_rows(envelope: Envelope) -> Iterator[Row]:
    """One row, always."""
    metadata = envelope.metadata
    values = {name: columns.fit_or_null(metadata.get(name), "TEXT") for name in _FROM_METADATA}
    yield Row(
        table=EVENTS,
        columns=EVENTS_COLUMNS,
        values=values
        | head.head(envelope)
        | {"metadata": columns.as_json(metadata), "body": columns.as_json(envelope.body)},
        repeats_keep_time=head.repeats_keep_time(envelope),
    )
