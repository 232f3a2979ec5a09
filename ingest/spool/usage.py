"""What the spool holds, counted in memory so that no decision has to ask the disk."""

from collections.abc import Collection, Iterable

from ingest.contract.envelope import Source
from ingest.spool.store import DEFERRED, Holding


class Inventory:
    """Records and bytes by topic and source."""

    def __init__(self, holdings: Iterable[Holding] = ()) -> None:
        self._records: dict[tuple[str, Source], int] = {}
        self._bytes: dict[str, int] = {}
        self.records = 0
        """Records that wait for Kafka."""
        self.tokens = 0
        """Tokens that wait for keys."""
        for holding in holdings:
            self.add(holding.topic, holding.source, holding.records, holding.size_bytes)

    def add(self, topic: str, source: Source, records: int, size_bytes: int) -> None:
        """Counts records in, or out if the numbers are negative."""
        place = (topic, source)
        self._records[place] = self._records.get(place, 0) + records
        self._bytes[topic] = self._bytes.get(topic, 0) + size_bytes
        if topic == DEFERRED:
            self.tokens += records
        else:
            self.records += records
        if not self._records[place]:
            del self._records[place]
            if not any((topic, other) in self._records for other in ("live-events", "pns")):
                del self._bytes[topic]

    def bytes_of(self, topics: Collection[str]) -> int:
        """Bytes that these topics' records take."""
        return sum(self._bytes.get(topic, 0) for topic in topics)

    def topics(self) -> Collection[str]:
        """Topics of which there is something."""
        return self._bytes.keys()

    def holdings(self) -> list[Holding]:
        """What there is, by topic and source; bytes are those of the topic."""
        return [
            Holding(topic=topic, source=source, records=records, size_bytes=self._bytes[topic])
            for (topic, source), records in self._records.items()
        ]
