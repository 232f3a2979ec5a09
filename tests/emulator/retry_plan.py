"""What is done about a delivery that failed: when it is tried again, and with which bytes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Self

MAX_WAITING: Final = 1_000_000

_GROWTH: Final = (1.0, 3.0, 9.0)
_JITTER: Final = 0.25
# with four timeouts of 15 s, the last try is then over 10 to 20 minutes after the first began
_WAITS_TOGETHER_S: Final = (600.0, 1140.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPlan:
    """What is done after an answer that is not 2xx, or none at all.

    One further attempt follows each of `delays_s`. With `together_s` these are only proportions:
    they are jittered, and stretched to a sum drawn from that range, again for each event but the
    same for the same `seed`. `resign` signs the same claims again for every retry, `resign_share`
    for some; otherwise the same bytes go out again. Any status is retried alike, as Canvas
    documents it. No notice is ever retried. While `max_waiting` retries wait, no new events go out.
    """

    delays_s: tuple[float, ...] = ()
    resign: bool = False
    resign_share: float = 0.0
    together_s: tuple[float, float] | None = None
    seed: int = 1
    max_waiting: int = MAX_WAITING

    @classmethod
    def canvas(cls, *, time_scale: float = 1.0, resign_share: float = 0.0, seed: int = 1) -> Self:
        """Canvas's own: three retries, exponential with jitter, over 10 to 20 minutes.

        `time_scale` shortens the waits, 0.01 to about ten seconds; the timeout is not part of it.
        Source: Canvas documentation, Live Events set-up. It gives neither the factor nor the
        jitter, which are ours; nor does it say whether a retry is signed again.
        """
        shortest_s, longest_s = _WAITS_TOGETHER_S
        return cls(
            delays_s=_GROWTH,
            together_s=(shortest_s * time_scale, longest_s * time_scale),
            resign_share=resign_share,
            seed=seed,
        )

    @property
    def tries(self) -> int:
        """How often an event is sent at most."""
        return len(self.delays_s) + 1

    def waits_s(self, serial: int) -> tuple[float, ...]:
        """The waits before each retry of the event that went out as number `serial`."""
        if self.together_s is None:
            return self.delays_s
        rng = random.Random(f"{self.seed}/{serial}")
        shares = [share * rng.uniform(1 - _JITTER, 1 + _JITTER) for share in self.delays_s]
        stretch = rng.uniform(*self.together_s) / sum(shares)
        return tuple(share * stretch for share in shares)

    def resigns(self, serial: int, attempt: int) -> bool:
        """Whether this attempt, counted from 1, at that event is signed again."""
        if attempt == 1 or self.resign:
            return self.resign and attempt > 1
        return random.Random(f"{self.seed}/{serial}/{attempt}").random() < self.resign_share


NO_RETRIES: Final = RetryPlan()
