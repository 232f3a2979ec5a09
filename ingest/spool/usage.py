"""What the spool holds and how fast it fills, in memory, so that no decision asks the disk."""

import math
import time
from collections import Counter, deque
from collections.abc import Collection

from ingest.contract.envelope import SOURCES, Source
from ingest.spool.files.rows import Contents
from ingest.values import EventState

_RATE_OVER_S = 60


class SpoolUsage:
    """Records by topic and source, and tokens by source, with their bytes."""

    def __init__(self, contents: Contents) -> None:
        self._records: Counter[tuple[str, Source]] = Counter()
        self._bytes: Counter[str] = Counter()
        self._tokens: Counter[Source] = Counter()
        self.records = 0
        """Records that wait for Kafka."""
        self.tokens = 0
        """Tokens that wait for keys."""
        self.token_bytes = 0
        for found in contents.records:
            self.add_records(found.topic, found.source, found.records, found.size_bytes)
        for tokens in contents.tokens:
            self.add_tokens(tokens.source, tokens.tokens, tokens.size_bytes)

    def add_records(self, topic: str, source: Source, count: int, size_bytes: int) -> None:
        """Counts records in, or out if the numbers are negative."""
        self.records += count
        self._records[topic, source] += count
        self._bytes[topic] += size_bytes
        if not self._records[topic, source]:
            del self._records[topic, source]
            if not any((topic, other) in self._records for other in SOURCES):
                del self._bytes[topic]

    def add_tokens(self, source: Source, count: int, size_bytes: int) -> None:
        """Counts tokens in, or out if the numbers are negative."""
        self.tokens += count
        self._tokens[source] += count
        self.token_bytes += size_bytes

    def topics(self) -> Collection[str]:
        """Topics of which records wait."""
        return self._bytes.keys()

    def bytes_of(self, topics: Collection[str]) -> int:
        """Bytes that these topics' records take."""
        return sum(self._bytes[topic] for topic in topics if topic in self._bytes)

    def by_state(self) -> Counter[tuple[EventState, Source]]:
        """How many events there are, as the ledger has them."""
        events: Counter[tuple[EventState, Source]] = Counter()
        for (_, source), records in self._records.items():
            events["spool", source] += records
        for source, tokens in self._tokens.items():
            events["deferred", source] += tokens
        return events


class Growth:
    """How fast the used bytes grow, over the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=_RATE_OVER_S)

    def saw(self, used_bytes: int) -> None:
        """Notes the bytes used now."""
        self._seen.append((time.monotonic(), used_bytes))

    def seconds_to(self, room_bytes: int) -> float:
        """When so much room will be gone at this rate: 0 where none is left, infinite while nothing
        grows into what is left."""
        if room_bytes <= 0:
            return 0.0
        if len(self._seen) < 2:
            return math.inf
        (began_s, began_bytes), (now_s, now_bytes) = self._seen[0], self._seen[-1]
        rate = (now_bytes - began_bytes) / max(now_s - began_s, 1e-9)
        return room_bytes / rate if rate > 0 else math.inf
