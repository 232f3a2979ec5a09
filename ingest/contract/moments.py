"""Moments as records have them: RFC 3339 text."""

import re
from datetime import UTC, datetime
from functools import lru_cache

_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def rfc3339(unix_s: float) -> str:
    """A moment in Unix seconds as RFC 3339 text in UTC with milliseconds."""
    second, millisecond = divmod(int(unix_s * 1000), 1000)
    return f"{_second(second)}.{millisecond:03d}Z"


def moment(text: str) -> datetime:
    """The moment of an RFC 3339 text, in UTC, cut to microseconds. Raises ValueError."""
    if not _RFC_3339.fullmatch(text):
        raise ValueError("not RFC 3339")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:  # a year before the first or after the last, in UTC
        raise ValueError(str(error)) from error


@lru_cache(maxsize=16)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat()[:-6]
