"""What is due, and when."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import datetime

Action = Callable[[], None]


class Agenda:
    """Actions in the order of their time; those of one time in the order in which they came."""

    def __init__(self) -> None:
        self._entries: list[tuple[datetime, int, Action]] = []
        self._turn = itertools.count()

    def put(self, at: datetime, action: Action) -> None:
        """Have this done at this time."""
        heapq.heappush(self._entries, (at, next(self._turn), action))

    def take(self, now: datetime) -> Action | None:
        """The next action that is due by now, if there is one."""
        if not self._entries or self._entries[0][0] > now:
            return None
        return heapq.heappop(self._entries)[2]
