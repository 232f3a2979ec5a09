"""What happens often is said seldom: once in a while of each thing, with how often it was."""

import time
from collections.abc import Callable, Hashable


class Seldom:
    """Says of each thing once in `every_s` seconds that it is due.

    It knows `most` things; when there are more, the one that came first is forgotten.
    """

    def __init__(
        self,
        *,
        every_s: float,
        most: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_s = every_s
        self._most = most
        self._clock = clock
        self._last: dict[Hashable, tuple[float, int]] = {}  # when it was due, and how often since

    def due(self, thing: Hashable) -> int:
        """How often it has happened since it was due last, this time included; 0 if it is not."""
        now_s = self._clock()
        at_s, since = self._last.get(thing, (float("-inf"), 0))
        is_due = now_s - at_s >= self._every_s
        if thing not in self._last and len(self._last) >= self._most:
            del self._last[next(iter(self._last))]
        self._last[thing] = (now_s, 0) if is_due else (at_s, since + 1)
        return since + 1 if is_due else 0

    def not_said(self, thing: Hashable) -> None:
        """It was due, and could not be said after all: it is due the next time."""
        self._last.pop(thing, None)
