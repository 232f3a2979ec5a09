"""The one value that travels: flat metadata, and the body of its type."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from msgspec import Struct

Source = Literal["live-events", "pns"]
SOURCES: tuple[Source, ...] = get_args(Source)


class Envelope(Struct, frozen=True):
    """One verified and normalised event.

    `metadata` is flat and named alike for all sources; what is unknown is absent. `body` holds the
    type's own fields. Both hold JSON values only: ids as text, times as RFC 3339 in UTC.
    """

    metadata: Mapping[str, Any]
    body: Mapping[str, Any]

    @property
    def event_id(self) -> str:
        """64 lower-case hex digits, the same for every repeat of one event."""
        return str(self.metadata["event_id"])

    @property
    def event_type(self) -> str:
        """The name as Canvas writes it: `submission_created`, `LtiContextCopyNotice`."""
        return str(self.metadata["event_type"])

    @property
    def source(self) -> Source:
        """The way in, which also names the family of topics."""
        source: Source = self.metadata["source"]
        return source
