"""The school's clock: how times are written, and when there is much to do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

ZONE: Final = timezone(timedelta(hours=-7))
ZONE_NAME: Final = "America/Phoenix"  # one offset all year, so that no story has an hour twice

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(weeks=1)

# of a day's hours, at the school; and of a week's days, from Monday
_HOURS = (6, 3, 2, 1, 1, 2, 6, 16, 40, 62, 66, 60, 52, 62, 68, 60, 52, 44, 46, 58, 70, 64, 40, 18)
_DAYS = (1.0, 1.0, 1.0, 0.95, 0.7, 0.35, 0.75)
_FIRST_HOUR, _LAST_HOUR = 8, 21


def millis(at: datetime) -> str:
    """UTC with milliseconds: how Canvas writes `event_time`, and some times in bodies."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(at: datetime) -> str:
    """UTC in whole seconds: how most times in bodies are written."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def with_offset(at: datetime) -> str:
    """In the school's zone: how Canvas writes dates that people set."""
    return at.astimezone(ZONE).isoformat(timespec="seconds")


def midnight(at: datetime) -> datetime:
    """The beginning of this day at the school."""
    return at.astimezone(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)


def waking(at: datetime, rng: random.Random) -> datetime:
    """This time, or one of the next morning if the school sleeps."""
    there = at.astimezone(ZONE)
    if _FIRST_HOUR <= there.hour <= _LAST_HOUR:
        return at
    morning = midnight(at) + (DAY if there.hour > _LAST_HOUR else timedelta())
    return morning + timedelta(hours=_FIRST_HOUR, seconds=rng.randrange(2 * 3_600))


def spread(start: datetime, end: datetime, count: int) -> Iterator[tuple[datetime, int]]:
    """The hours from `start` to `end`, each with its part of `count` events."""
    hours = [start + HOUR * n for n in range(max(1, int((end - start) / HOUR)))]
    weights = [_busyness(hour) for hour in hours]
    whole, so_far, given = sum(weights), 0.0, 0
    for hour, weight in zip(hours, weights, strict=True):
        so_far += weight
        upto = round(count * so_far / whole)
        yield hour, upto - given
        given = upto


def _busyness(at: datetime) -> float:
    there = at.astimezone(ZONE)
    return _HOURS[there.hour] * _DAYS[there.weekday()]
