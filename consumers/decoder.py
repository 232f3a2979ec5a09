"""Record to rows, or Poison."""

from collections.abc import Sequence

from consumers.errors import Poison
from consumers.values import Projection, Row
from ingest.contract.codec import Undecodable, decode
from ingest.contract.envelope import Envelope
from ingest.contract.record import StoredRecord


def read_envelope(record: StoredRecord) -> Envelope:
    """The envelope that the record holds. Raises Poison."""
    if record.damaged:
        raise Poison("damaged")
    try:
        return decode(record)
    except Undecodable as error:
        raise Poison("not_an_envelope") from error


def read_rows(record: StoredRecord, project: Projection) -> Sequence[Row]:
    """All rows of the record's event. Raises Poison, also where a projection raises."""
    envelope = read_envelope(record)
    try:
        return tuple(project(envelope))
    except Exception as error:  # whatever it is, it would be the same next time
        raise Poison("projection_failed") from error
