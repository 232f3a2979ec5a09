"""How long until a log's retention removes what is not written yet, and a warning before that."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

WARN_BELOW = 0.2
"""The share of the retention that is left when somebody should know."""

WARN_EVERY_S = 600.0

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwritten:
    """The oldest record of a partition that is not written, and how long its log keeps records.

    `retention_s` is infinite where records are kept for ever, and NaN where nobody tells.
    """

    where: str
    appended_s: float
    retention_s: float

    @property
    def lost_at_s(self) -> float:
        """When it may be removed, in Unix seconds."""
        return self.appended_s + self.retention_s


class LossWatch:
    """Remembers which record is the first to be lost."""

    def __init__(self, unix_s: Callable[[], float] = time.time) -> None:
        self._unix_s = unix_s
        self._lost_at_s = math.inf
        self._warned_at_s = -math.inf

    @property
    def seconds(self) -> float:
        """Until then; infinite where nothing waits that can be lost, NaN where nobody can tell."""
        # max() would take a NaN for less than nothing
        left_s = self._lost_at_s - self._unix_s()
        return 0.0 if left_s < 0 else left_s

    def look(self, unwritten: Iterable[Unwritten]) -> None:
        """These are all that waits; warns of the first to be lost, if that is soon."""
        waiting = list(unwritten)
        known = [each for each in waiting if not math.isnan(each.retention_s)]
        first = min(known, key=lambda each: each.lost_at_s, default=None)
        if first is None:
            self._lost_at_s = math.nan if waiting else math.inf
            return
        self._lost_at_s = first.lost_at_s
        if self.seconds < WARN_BELOW * first.retention_s:
            self._warn(first)

    def _warn(self, first: Unwritten) -> None:
        now_s = self._unix_s()
        if now_s - self._warned_at_s >= WARN_EVERY_S:
            self._warned_at_s = now_s
            log.warning(
                "the log will remove records before they are written: see what keeps the store"
                " busy, or raise the retention",
                where=first.where,
                seconds_left=round(self.seconds),
                retention_s=round(first.retention_s),
            )
