"""The breaker: every state, every report, and the clock in our hand."""

from collections.abc import Callable

import pytest

from ingest.publishing.circuit_breaker import CircuitBreaker

_FIRST_S, _LONGEST_S = 0.5, 3.0


def _closed() -> CircuitBreaker:
    return CircuitBreaker(first_pause_s=_FIRST_S, longest_pause_s=_LONGEST_S)


def _open() -> CircuitBreaker:
    """Since 10 s on the test's clock."""
    breaker = _closed()
    breaker.failed(10.0)
    return breaker


def _probing() -> CircuitBreaker:
    """Half-open, its one probe under way."""
    breaker = _open()
    assert breaker.admits(10.5)
    return breaker


def test_closed_admits_any_number() -> None:
    breaker = _closed()
    assert breaker.state(0) == "closed"
    assert all(breaker.admits(0) for _ in range(100))


def test_first_failure_opens_for_the_first_pause() -> None:
    breaker = _open()
    assert breaker.state(10.0) == breaker.state(10.49) == "open"
    assert not breaker.admits(10.49)
    assert breaker.state(10.5) == "half-open"


def test_failures_of_those_who_asked_before_it_opened_count_once() -> None:
    breaker = _open()
    for _ in range(50):
        breaker.failed(10.4)
    assert breaker.state(10.5) == "half-open"


def test_success_of_one_who_asked_before_it_opened_proves_nothing() -> None:
    breaker = _open()
    breaker.succeeded(10.4)
    assert breaker.state(10.4) == "open"


def test_half_open_admits_one_probe() -> None:
    breaker = _open()
    assert [breaker.admits(10.5) for _ in range(5)] == [True, False, False, False, False]


def test_probe_that_succeeds_closes() -> None:
    breaker = _probing()
    breaker.succeeded(10.6)
    assert breaker.state(10.6) == "closed"
    assert all(breaker.admits(10.6) for _ in range(3))


def test_probe_that_fails_opens_for_twice_as_long() -> None:
    breaker = _probing()
    breaker.failed(10.6)
    assert breaker.state(11.59) == "open"
    assert breaker.state(11.61) == "half-open"
    assert [breaker.admits(11.61) for _ in range(2)] == [True, False]


def test_probe_that_gives_up_leaves_its_place_to_another() -> None:
    breaker = _probing()
    breaker.gave_up()
    assert breaker.state(10.6) == "half-open"
    assert [breaker.admits(10.6) for _ in range(2)] == [True, False]


def test_pause_grows_to_the_longest_and_no_further() -> None:
    breaker = _closed()
    pauses, now_s = [], 0.0
    breaker.failed(now_s)
    for _ in range(6):
        pauses.append(_pause(breaker, now_s))
        now_s += pauses[-1]
        assert breaker.admits(now_s)
        breaker.failed(now_s)
    assert pauses == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_success_makes_the_next_pause_the_first_again() -> None:
    breaker = _probing()
    breaker.failed(10.5)
    assert breaker.admits(11.5)
    breaker.succeeded(11.5)
    breaker.failed(12.0)
    assert _pause(breaker, 12.0) == _FIRST_S


@pytest.mark.parametrize("make", [_closed, _open, _probing])
def test_giving_up_changes_no_state(make: Callable[[], CircuitBreaker]) -> None:
    breaker, untouched = make(), make()
    breaker.gave_up()
    for at_s in (10.0, 10.49, 10.5, 99.0):
        assert breaker.state(at_s) == untouched.state(at_s)


def _pause(breaker: CircuitBreaker, since_s: float) -> float:
    """How long from then until it is half-open, to the nearest half second."""
    steps = next(n for n in range(1, 100) if breaker.state(since_s + n / 2) == "half-open")
    return steps / 2
