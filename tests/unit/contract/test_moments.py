"""Moments as records have them: what is written is read back, and what is none is refused."""

from datetime import UTC, datetime

import pytest

from ingest.contract.moments import moment, rfc3339


@pytest.mark.parametrize(
    ("unix_s", "expected"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_790_000_000.25, "2026-09-21T14:13:20.250Z"),
        (1_790_000_000, "2026-09-21T14:13:20.000Z"),
    ],
)
def test_moment_is_written_in_utc(unix_s: float, expected: str) -> None:
    assert rfc3339(unix_s) == expected
    assert moment(expected).timestamp() == unix_s


@pytest.mark.parametrize(
    "text",
    [
        "2026-09-21T14:13:20.250Z",
        "2026-09-21 14:13:20.25z",
        "2026-09-21t14:13:20.250000000+00:00",
        "2026-09-21T08:13:20.250-06:00",
    ],
)
def test_one_moment_may_be_written_in_many_ways(text: str) -> None:
    assert moment(text) == datetime(2026, 9, 21, 14, 13, 20, 250_000, UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1790000000",
        "2026-09-21",
        "2026-09-21T14:13:20",
        "2026-02-30T14:13:20Z",
        "2026-W39-1T14:13:20Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-09-21T14:13:20Z\n",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment(text)
