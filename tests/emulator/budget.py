"""Canvas's budget with a subscription: so many lost events a day, then it is switched off."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tests.emulator.deliveries import Delivery

Kind = Literal["timeout", "error"]

LIMITS: Final[Mapping[Kind, int]] = {"timeout": 9_500, "error": 28_000}
"""Events per day whose tries are exhausted (Canvas documentation: Live Events set-up)."""

WINDOW_S: Final = 24 * 60 * 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetReport:
    """What was spent: `used` in the last 24 h, `exhausted` in all, both in events.

    The ratios are to the limits; `peak_ratio` is of the worst 24 h. `deactivated_at_s` is when
    Canvas would have switched the subscription off, None if it would not have.
    """

    used: Mapping[Kind, int]
    used_ratio: Mapping[Kind, float]
    peak_ratio: Mapping[Kind, float]
    exhausted: Mapping[Kind, int]
    deactivated_at_s: float | None

    @property
    def deactivated(self) -> bool:
        """Whether Canvas would have switched the subscription off."""
        return self.deactivated_at_s is not None


class Budget:
    """Counts Live Events whose tries are exhausted, over a rolling `window_s`.

    A `timeout` is a last try without any answer, an `error` one with a status other than 2xx. A
    connection that is refused or cut counts as a timeout: Canvas does not say, and this is the
    reading that costs the receiver three times as much. So what stands by this count stands by
    either. Notices belong to no subscription, so they cost nothing. Sending goes on when the
    budget is spent, so that one run shows the whole loss.
    """

    def __init__(self, *, limits: Mapping[Kind, int] = LIMITS, window_s: float = WINDOW_S) -> None:
        self._limits = limits
        self._window_s = window_s
        self._spent_at_s: dict[Kind, deque[float]] = {"timeout": deque(), "error": deque()}
        self._peaks: dict[Kind, int] = {"timeout": 0, "error": 0}
        self._exhausted: dict[Kind, int] = {"timeout": 0, "error": 0}
        self._deactivated_at_s: float | None = None

    def add(self, delivery: Delivery) -> None:
        """Count a delivery, if it is the last failed try at a Live Event of Canvas's."""
        if delivery.lane != "live-events" or delivery.role == "forgery":
            return
        if not delivery.final or delivery.answered_2xx:
            return
        kind: Kind = "timeout" if delivery.status is None else "error"
        self._spend(kind, delivery.sent_at_s + delivery.elapsed_s)

    def _spend(self, kind: Kind, at_s: float) -> None:
        spent = self._spent_at_s[kind]
        spent.append(at_s)
        while spent[0] <= at_s - self._window_s:
            spent.popleft()
        self._exhausted[kind] += 1
        self._peaks[kind] = max(self._peaks[kind], len(spent))
        if len(spent) >= self._limits[kind] and self._deactivated_at_s is None:
            self._deactivated_at_s = at_s

    def report(self, now_s: float) -> BudgetReport:
        """What is spent as of `now_s`, in seconds since 1970."""
        since_s = now_s - self._window_s
        used = {
            kind: sum(at_s > since_s for at_s in spent) for kind, spent in self._spent_at_s.items()
        }
        return BudgetReport(
            used=used,
            used_ratio=self._ratios(used),
            peak_ratio=self._ratios(self._peaks),
            exhausted=dict(self._exhausted),
            deactivated_at_s=self._deactivated_at_s,
        )

    def _ratios(self, counts: Mapping[Kind, int]) -> dict[Kind, float]:
        return {kind: round(count / self._limits[kind], 4) for kind, count in counts.items()}
