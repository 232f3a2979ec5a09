"""Until retention removes what is not written."""

import math

import pytest
from structlog.testing import capture_logs

from consumers.sources.loss import WARN_BELOW, WARN_EVERY_S, LossWatch, Unwritten

RETENTION_S = 1_000.0
NOW_S = 50_000.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def unwritten(age_s: float, retention_s: float = RETENTION_S, where: str = "topic/0") -> Unwritten:
    return Unwritten(where=where, appended_s=NOW_S - age_s, retention_s=retention_s)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> LossWatch:
    return LossWatch(clock)


def test_nothing_is_lost_where_nothing_waits(watch: LossWatch) -> None:
    assert watch.seconds == math.inf
    watch.look([unwritten(10)])
    watch.look([])
    assert watch.seconds == math.inf


def test_it_is_what_the_first_to_be_lost_has_left(watch: LossWatch, clock: Clock) -> None:
    watch.look([unwritten(400), unwritten(300), unwritten(700, 10 * RETENTION_S)])
    assert watch.seconds == 600
    clock.now_s += 100
    assert watch.seconds == 500
    clock.now_s += RETENTION_S
    assert watch.seconds == 0


def test_what_is_kept_for_ever_is_not_lost(watch: LossWatch) -> None:
    watch.look([unwritten(10**9, math.inf)])
    assert watch.seconds == math.inf


def test_a_retention_that_nobody_tells_is_no_answer_but_hides_no_other(watch: LossWatch) -> None:
    watch.look([unwritten(10, math.nan)])
    assert math.isnan(watch.seconds)
    watch.look([unwritten(10, math.nan), unwritten(300)])
    assert watch.seconds == 700


def test_little_time_left_is_warned_of_once_in_a_while(watch: LossWatch, clock: Clock) -> None:
    enough_s = RETENTION_S * (1 - WARN_BELOW)
    with capture_logs() as logs:
        watch.look([unwritten(enough_s - 1)])
        assert logs == []
        for _ in range(3):
            watch.look([unwritten(enough_s + 1, where="topic/4"), unwritten(0)])
        clock.now_s += WARN_EVERY_S
        watch.look([unwritten(enough_s + 1, where="topic/4")])
    assert [line["log_level"] for line in logs] == ["warning", "warning"]
    assert (logs[0]["where"], logs[0]["seconds_left"]) == ("topic/4", 199)
