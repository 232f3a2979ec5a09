"""Claims to Envelope, pure and total: `canvas` and `notices`, by format.

`values` is how JSON is coerced, `metadata` what all formats share, `identity` the event id.
"""

from ingest.contract.envelope import Envelope
from ingest.errors import Unusable
from ingest.handover import Claims
from ingest.normalising import canvas, notices


def normalise(claims: Claims) -> Envelope:
    """The envelope of verified claims. Raises Unusable for a format that we cannot read yet."""
    if claims.format == "canvas":
        return canvas.normalise(claims)
    if claims.format == "pns":
        return notices.normalise(claims)
    raise Unusable("unsupported_format", claims)
