"""The router: what one topic refuses, and what the log as a whole does not answer."""

import pytest

from ingest.publishing.circuit_breaker import CircuitBreaker
from ingest.publishing.router import Router

_PARKED_S = 10.0


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def router(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> Router:
    monkeypatch.setattr("ingest.publishing.router._TRY_PARKED_EVERY_S", _PARKED_S)
    return Router(CircuitBreaker(first_pause_s=1.0, longest_pause_s=4.0), clock=clock)


def test_all_is_admitted_while_all_is_well(router: Router) -> None:
    assert router.admits("a", may_probe=False)
    assert router.admits("b", may_probe=True)
    assert (router.state, router.parked, router.waiting()) == ("closed", frozenset(), frozenset())


def test_refusal_parks_its_topic_alone(router: Router) -> None:
    router.refused("a", "no such topic")
    assert router.parked == router.waiting() == {"a"}
    assert router.state == "closed"
    assert not router.admits("a", may_probe=True)
    assert router.admits("b", may_probe=True)


def test_parked_topic_is_tried_again_by_one_at_a_time(router: Router, clock: _Clock) -> None:
    router.refused("a", "no such topic")
    clock.now_s += _PARKED_S - 0.1
    assert not router.admits("a", may_probe=True)
    clock.now_s += 0.2
    assert router.waiting() == frozenset()
    assert [router.admits("a", may_probe=True) for _ in range(3)] == [True, False, False]
    assert router.parked == {"a"}


def test_parked_topic_that_takes_a_record_is_parked_no_more(router: Router, clock: _Clock) -> None:
    router.refused("a", "denied")
    router.refused("b", "denied")
    clock.now_s += _PARKED_S
    assert router.admits("a", may_probe=True)
    router.delivered("a")
    assert router.parked == {"b"}
    assert router.admits("a", may_probe=False)


def test_topic_that_refuses_again_waits_again(router: Router, clock: _Clock) -> None:
    router.refused("a", "denied")
    clock.now_s += _PARKED_S
    assert router.admits("a", may_probe=True)
    router.refused("a", "denied")
    clock.now_s += _PARKED_S - 0.1
    assert not router.admits("a", may_probe=True)


def test_failure_concerns_every_topic(router: Router, clock: _Clock) -> None:
    router.failed()
    assert not any(router.admits(topic, may_probe=True) for topic in "ab")
    states = [router.state]
    clock.now_s += 1.0
    assert [*states, router.state] == ["open", "half-open"]


def test_probe_is_only_for_those_who_may(router: Router, clock: _Clock) -> None:
    router.failed()
    clock.now_s += 1.0
    assert not router.admits("a", may_probe=False)
    assert [router.admits("a", may_probe=True) for _ in range(2)] == [True, False]
    router.delivered("a")
    assert router.admits("a", may_probe=False)


def test_refusal_of_the_probe_proves_that_the_log_works(router: Router, clock: _Clock) -> None:
    router.failed()
    clock.now_s += 1.0
    assert router.admits("a", may_probe=True)
    router.refused("a", "denied")
    assert router.state == "closed"
    assert router.admits("b", may_probe=False)
    assert not router.admits("a", may_probe=True)


def test_probe_that_gives_up_is_followed_by_another(router: Router, clock: _Clock) -> None:
    router.failed()
    clock.now_s += 1.0
    assert router.admits("a", may_probe=True)
    router.gave_up()
    assert router.admits("b", may_probe=True)


def test_parked_topic_does_not_use_up_the_probe(router: Router, clock: _Clock) -> None:
    router.refused("a", "denied")
    router.failed()
    clock.now_s += 1.0
    assert not router.admits("a", may_probe=True)
    assert router.admits("b", may_probe=True)
