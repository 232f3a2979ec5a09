"""Record to envelope, or Poison."""

from consumers.errors import Poison
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
