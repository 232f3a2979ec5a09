"""Which events were made durable lately, so that a repeat costs no second record.

To answer a repeat from memory is honest: an id comes in here only after its event was in the log
or in the spool by the rules of any 2xx, and neither forgets before the next owner has it. The
tables would drop the repeat anyway. A repeat that comes while the first is still under way is
published like the first, for nobody knows yet whether that will be durable.
"""

from collections import deque

MAX_IDS = 131_072
"""How many are known at a time, the latest ones: some 25 MB."""


class RecentIds:
    """Ids and what became of them, in memory, for the event loop's thread only."""

    def __init__(self, max_ids: int = MAX_IDS) -> None:
        self._known: dict[str, str] = {}
        # a dict alone finds its oldest key ever more slowly as keys are removed in front of it
        self._order: deque[str] = deque()
        self._max_ids = max_ids

    def outcome_of(self, id_: str) -> str | None:
        """What became of the event; None where it is not known."""
        return self._known.get(id_)

    def add(self, id_: str, outcome: str) -> None:
        """The event is durable."""
        if id_ in self._known:
            return
        if len(self._order) >= self._max_ids:
            del self._known[self._order.popleft()]
        self._known[id_] = outcome
        self._order.append(id_)
