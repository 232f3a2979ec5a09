"""How far the clocks are apart: by the middle of what was signed lately, and by nothing absurd."""

from typing import Any

import pytest

from ingest.observing.clock_skew import ClockSkew
from tests.support.builders import LIVE_EVENTS_ISSUER, NOW_S, live_event, live_event_claims


def _skew(*iats: Any) -> float | None:
    skew = ClockSkew()
    for iat in iats:
        skew.saw(live_event(live_event_claims(iat=iat)))
    return skew.by_issuer().get(LIVE_EVENTS_ISSUER)


def test_skew_is_the_middle_of_what_came_lately() -> None:
    assert _skew(*(NOW_S - age_s for age_s in (1, 2, 3, 600, 3_600))) == 3
    assert _skew(*[NOW_S - 2] * 500, *[NOW_S + 90] * 64) == -90


def test_few_tokens_say_nothing() -> None:
    assert _skew(*[NOW_S + 600] * 4) is None


@pytest.mark.parametrize(
    "iat", [None, "soon", [], float("nan"), float("inf"), 0, -5, 10**400, 1e300]
)
def test_time_that_is_none_says_nothing(iat: Any) -> None:
    assert _skew(*[iat] * 70) is None
    assert _skew(*[NOW_S] * 5, *[iat] * 70) == 0
