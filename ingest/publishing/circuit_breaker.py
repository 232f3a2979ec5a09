"""When to stop asking what does not answer: closed, open, half-open. The caller has the clock.

Source: M. Nygard, Release It!, the circuit breaker pattern.
"""

from typing import Literal

State = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """Opens at the first failure, for `first_pause_s`; each failed probe doubles the pause.

    Times are seconds on any monotonic clock, always the same one.
    """

    __slots__ = ("_first_pause_s", "_longest_pause_s", "_open_until", "_pause_s", "_probing")

    def __init__(self, *, first_pause_s: float = 0.5, longest_pause_s: float = 3.0) -> None:
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._pause_s = first_pause_s
        self._open_until: float | None = None
        self._probing = False

    def state(self, now_s: float) -> State:
        """What it is now."""
        if self._open_until is None:
            return "closed"
        return "open" if now_s < self._open_until else "half-open"

    def admits(self, now_s: float) -> bool:
        """Whether one may ask now. In half-open it is the probe, of which there is one at a time.

        Whoever was admitted reports `succeeded`, `failed` or `gave_up`.
        """
        state = self.state(now_s)
        if state == "closed":
            return True
        if state == "open" or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self, now_s: float) -> None:
        """An answer came. One that was asked for before the breaker opened proves nothing now."""
        if self.state(now_s) != "open":
            self._open_until, self._pause_s, self._probing = None, self._first_pause_s, False

    def failed(self, now_s: float) -> None:
        """No answer came. All who had asked before it opened count once."""
        state = self.state(now_s)
        if state == "open":
            return
        if state == "half-open":
            self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
        self._open_until, self._probing = now_s + self._pause_s, False

    def gave_up(self) -> None:
        """Who was admitted did not ask after all."""
        self._probing = False
