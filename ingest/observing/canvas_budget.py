"""How near Canvas is to giving up on us: a rolling day of what it counts. Pure but for its counts.

Source: Canvas documentation, Live Events set-up: a subscription is deactivated at about 9,500
timeouts or 28,000 other errors in 24 hours; only events whose four tries all failed count.
"""

from collections.abc import Mapping
from typing import Literal, get_args

Kind = Literal["timeout", "error"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_ALLOWED: Mapping[Kind, int] = {"timeout": 9_500, "error": 28_000}
_TRIES = 4
_BUCKET_S = 600
_BUCKETS = 24 * 3600 // _BUCKET_S


class CanvasBudget:
    """Counts answers that Canvas takes for failures. Times are Unix seconds."""

    def __init__(self) -> None:
        self._buckets: dict[Kind, dict[int, int]] = {kind: {} for kind in KINDS}

    def spend(self, kind: Kind, now_s: float) -> None:
        """Counts one answer that was not 2xx, or one that came too late."""
        buckets, bucket = self._buckets[kind], int(now_s // _BUCKET_S)
        buckets[bucket] = buckets.get(bucket, 0) + 1
        if len(buckets) > 2 * _BUCKETS:
            self._buckets[kind] = _of_a_day(buckets, bucket)

    def used_ratio(self, kind: Kind, now_s: float) -> float:
        """The share of a day's allowance that is used: an estimate, for tries are all we see."""
        day = _of_a_day(self._buckets[kind], int(now_s // _BUCKET_S))
        return sum(day.values()) / _TRIES / _ALLOWED[kind]

    def dump(self) -> dict[str, dict[int, int]]:
        """The counts by kind and bucket, for `load`."""
        return {kind: dict(buckets) for kind, buckets in self._buckets.items()}

    def load(self, dumped: Mapping[str, Mapping[int, int]]) -> None:
        """Adds what an earlier process had dumped."""
        for kind in KINDS:
            buckets = self._buckets[kind]
            for bucket, count in dumped.get(kind, {}).items():
                buckets[bucket] = buckets.get(bucket, 0) + count


def _of_a_day(buckets: Mapping[int, int], now: int) -> dict[int, int]:
    return {bucket: count for bucket, count in buckets.items() if now - _BUCKETS < bucket <= now}
