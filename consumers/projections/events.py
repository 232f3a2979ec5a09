"""The table `events`: every event of every type, whole."""

from collections.abc import Iterator, Mapping

from consumers import columns
from consumers.handover import ColumnType, Row
from consumers.projections import head
from ingest.contract.envelope import Envelope

TABLE = "events"
COLUMNS: Mapping[str, ColumnType] = {
    "event_id": "TEXT",
    "event_type": "TEXT",
    "event_time": "TIMESTAMPTZ",
    "received_at": "TIMESTAMPTZ",
    "source": "TEXT",
    "format": "TEXT",
    "tenant": "TEXT",
    "producer": "TEXT",
    "root_account_uuid": "TEXT",
    "subscription_id": "TEXT",
    "user_id": "TEXT",
    "context_type": "TEXT",
    "context_id": "TEXT",
    "metadata": "JSON",
    "body": "JSON",
}
_FROM_METADATA = tuple(name for name, kind in COLUMNS.items() if kind == "TEXT")


def event_rows(envelope: Envelope) -> Iterator[Row]:
    """One row, always."""
    metadata = envelope.metadata
    values = {name: columns.fit_or_null(metadata.get(name), "TEXT") for name in _FROM_METADATA}
    yield Row(
        table=TABLE,
        columns=COLUMNS,
        values=values
        | head.head(envelope)
        | {"metadata": columns.as_json(metadata), "body": columns.as_json(envelope.body)},
        repeats_keep_time=head.repeats_keep_time(envelope),
    )
