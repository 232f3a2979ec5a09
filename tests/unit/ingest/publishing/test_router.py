"""The route: what one topic refuses, and what the log as a whole does not answer."""

import pytest

from ingest.publishing.circuit_breaker import Breaker
from ingest.publishing.router import Route

_PARKED_S = 10.0


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def route(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> Route:
    monkeypatch.setattr("ingest.publishing.router._TRY_PARKED_EVERY_S", _PARKED_S)
    return Route(Breaker(first_pause_s=1.0, longest_pause_s=4.0), clock=clock)


def test_all_is_admitted_while_all_is_well(route: Route) -> None:
    assert route.admits("a", may_probe=False)
    assert route.admits("b", may_probe=True)
    assert (route.state, route.parked, route.waiting()) == ("closed", frozenset(), frozenset())


def test_refusal_parks_its_topic_alone(route: Route) -> None:
    route.refused("a", "no such topic")
    assert route.parked == route.waiting() == {"a"}
    assert route.state == "closed"
    assert not route.admits("a", may_probe=True)
    assert route.admits("b", may_probe=True)


def test_parked_topic_is_tried_again_by_one_at_a_time(route: Route, clock: _Clock) -> None:
    route.refused("a", "no such topic")
    clock.now_s += _PARKED_S - 0.1
    assert not route.admits("a", may_probe=True)
    clock.now_s += 0.2
    assert route.waiting() == frozenset()
    assert [route.admits("a", may_probe=True) for _ in range(3)] == [True, False, False]
    assert route.parked == {"a"}


def test_parked_topic_that_takes_a_record_is_parked_no_more(route: Route, clock: _Clock) -> None:
    route.refused("a", "denied")
    route.refused("b", "denied")
    clock.now_s += _PARKED_S
    assert route.admits("a", may_probe=True)
    route.delivered("a")
    assert route.parked == {"b"}
    assert route.admits("a", may_probe=False)


def test_topic_that_refuses_again_waits_again(route: Route, clock: _Clock) -> None:
    route.refused("a", "denied")
    clock.now_s += _PARKED_S
    assert route.admits("a", may_probe=True)
    route.refused("a", "denied")
    clock.now_s += _PARKED_S - 0.1
    assert not route.admits("a", may_probe=True)


def test_failure_concerns_every_topic(route: Route, clock: _Clock) -> None:
    route.failed()
    assert not any(route.admits(topic, may_probe=True) for topic in "ab")
    states = [route.state]
    clock.now_s += 1.0
    assert [*states, route.state] == ["open", "half-open"]


def test_probe_is_only_for_those_who_may(route: Route, clock: _Clock) -> None:
    route.failed()
    clock.now_s += 1.0
    assert not route.admits("a", may_probe=False)
    assert [route.admits("a", may_probe=True) for _ in range(2)] == [True, False]
    route.delivered("a")
    assert route.admits("a", may_probe=False)


def test_refusal_of_the_probe_proves_that_the_log_works(route: Route, clock: _Clock) -> None:
    route.failed()
    clock.now_s += 1.0
    assert route.admits("a", may_probe=True)
    route.refused("a", "denied")
    assert route.state == "closed"
    assert route.admits("b", may_probe=False)
    assert not route.admits("a", may_probe=True)


def test_probe_that_gives_up_is_followed_by_another(route: Route, clock: _Clock) -> None:
    route.failed()
    clock.now_s += 1.0
    assert route.admits("a", may_probe=True)
    route.gave_up()
    assert route.admits("b", may_probe=True)


def test_parked_topic_does_not_use_up_the_probe(route: Route, clock: _Clock) -> None:
    route.refused("a", "denied")
    route.failed()
    clock.now_s += 1.0
    assert not route.admits("a", may_probe=True)
    assert route.admits("b", may_probe=True)
