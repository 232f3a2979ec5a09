"""The requests that are under way at one broker, and which partitions wait for which of them.

A broker answers the requests of one connection in their order, and each only once its slowest
partition is done. So each request has a line of its own.
"""

import math
from collections.abc import Iterable

from ingest.publishing.kafka.cluster import Connection
from ingest.publishing.log import Partition

OVERTAKE_AFTER_S = 0.1
_MAX_UNDER_WAY = 3


class Line:
    """A place for one request, and its connection. `partitions` wait for its answer.

    A request hangs that has no answer while a later one has: the broker waits for one of its
    partitions, and nobody says for which.
    """

    __slots__ = ("began_s", "connection", "hangs", "is_free", "partitions")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.is_free = True
        self.hangs = False
        self.began_s = 0.0
        self.partitions: set[Partition] = set()


class Lines:
    """The lines to one broker. `probes` is that of probes, which nobody else waits for."""

    def __init__(self) -> None:
        self._lines = [Line() for _ in range(_MAX_UNDER_WAY)]
        self.probes = Line()

    @property
    def are_free(self) -> bool:
        """Whether nothing is under way but probes."""
        return all(line.is_free for line in self._lines)

    def free(self) -> Line | None:
        """A line for the next request."""
        return next((line for line in self._lines if line.is_free), None)

    def begin(self, line: Line, partitions: Iterable[Partition], *, now_s: float) -> None:
        """A request begins."""
        line.is_free, line.hangs = False, False
        line.began_s = now_s
        line.partitions = set(partitions)

    def end(self, line: Line, *, answered: bool, now_s: float) -> None:
        """A request has ended; an answer clears its partitions, whoever holds them up."""
        for other in self._under_way() if answered else ():
            other.partitions -= line.partitions
            is_older = other.began_s < min(line.began_s, now_s - OVERTAKE_AFTER_S)
            if is_older and len(other.partitions) > 1:
                other.hangs = True
        line.is_free = True
        line.partitions = set()

    def until_next_s(self, now_s: float) -> float:
        """Seconds until a request may begin beside those that are under way."""
        began_s = [line.began_s for line in self._under_way() if not line.hangs]
        return max(began_s) + OVERTAKE_AFTER_S - now_s if began_s else 0.0

    def busy(self) -> set[Partition]:
        """Partitions whose next batch has to wait, so that their records keep their order."""
        return self.probes.partitions.union(
            *(line.partitions for line in self._under_way() if not line.hangs)
        )

    def held_up(self) -> set[Partition]:
        """Partitions that a hanging request holds up, though but one of them may be slow.

        They may go each by itself, out of order, while that leaves a line for the others.
        """
        return set().union(*(line.partitions for line in self._under_way() if line.hangs))

    @property
    def have_room_for_a_try(self) -> bool:
        """Whether two lines are free."""
        return sum(line.is_free for line in self._lines) > 1

    def since_s(self, partition: Partition) -> float:
        """When the oldest request began that the partition waits for."""
        waiting = (line.began_s for line in self._lines if partition in line.partitions)
        return min(waiting, default=math.inf)

    def disconnect(self) -> None:
        """Closes every connection: what is under way on them fails too."""
        for line in (*self._lines, self.probes):
            if line.connection is not None:
                line.connection.close()
                line.connection = None

    def _under_way(self) -> list[Line]:
        return [line for line in self._lines if not line.is_free]
