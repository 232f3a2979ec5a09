"""So many events a second."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Lets `per_second` events through each second, on a schedule fixed at the start.

    Who is late does not wait, so that the average holds; 0 lets everyone through at once.
    """

    def __init__(self, per_second: float) -> None:
        self._gap_s = 1 / per_second if per_second > 0 else 0.0
        self._next_s: float | None = None

    async def turn(self) -> None:
        """Wait until the next event may go."""
        now_s = time.monotonic()
        due_s = now_s if self._next_s is None else self._next_s
        self._next_s = due_s + self._gap_s
        if self._gap_s and due_s > now_s:
            await asyncio.sleep(due_s - now_s)

    def spend(self, events: int) -> None:
        """The last turn was used for so many more events than one; negative: for fewer."""
        if self._next_s is not None:
            self._next_s += events * self._gap_s
