"""Claims to Envelope, pure and total: `canvas`, `caliper` and `notices`, by format.

`values` is how JSON is coerced, `metadata` what all formats share, `identity` the event id.
"""

from collections.abc import Callable, Mapping

from ingest.contract.envelope import Envelope
from ingest.normalising import caliper, canvas, notices
from ingest.values import Claims, Format

_BY_FORMAT: Mapping[Format, Callable[[Claims], Envelope]] = {
    "canvas": canvas.normalise,
    "caliper": caliper.normalise,
    "pns": notices.normalise,
}


def normalise(claims: Claims) -> Envelope:
    """The envelope of verified claims whose form was checked."""
    return _BY_FORMAT[claims.format](claims)
