"""The table `events`: every event of every type, whole."""

from collections.abc import Iterator
from typing import Any

from consumers import columns
from consumers.projections import head
from consumers.values import Row
from ingest.contract.envelope import Envelope
from ingest.contract.tables import EVENTS, EVENTS_COLUMNS

_FROM_METADATA = tuple(name for name, kind in EVENTS_COLUMNS.items() if kind == "TEXT")


def event_rows(envelope: Envelope) -> Iterator[Row]:
    """One row, always."""
    metadata = envelope.metadata
    values: dict[str, Any] = {
        name: columns.text_or_null(metadata.get(name)) for name in _FROM_METADATA
    }
    values |= head.head(envelope)
    values["metadata"] = columns.as_json(metadata)
    values["body"] = columns.as_json(envelope.body)
    yield Row(
        table=EVENTS,
        columns=EVENTS_COLUMNS,
        values=values,
        repeats_keep_time=head.repeats_keep_time(envelope, values["event_time"]),
    )
