"""How much may be taken over time: a burst at once, then so much a second."""

import time
from collections.abc import Callable


class TokenBucket:
    """Full at first; holds at most `burst`, and fills by `per_s`. `clock` gives seconds."""

    def __init__(
        self, *, burst: float, per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._left = burst
        self._at_s = clock()

    def take(self, amount: float = 1) -> bool:
        """Whether there is so much; if so, it is taken."""
        now_s = self._clock()
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if amount > self._left:
            return False
        self._left -= amount
        return True

    def take_regardless(self, amount: float) -> None:
        """Takes it even where there is less; what lacks comes in before any other has some."""
        if not self.take(amount):
            self._left -= amount
