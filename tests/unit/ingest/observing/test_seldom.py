"""What is said once in a while, and how often it was meanwhile."""

from ingest.observing.seldom import Seldom


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_each_thing_is_due_once_in_a_while_with_how_often_it_was() -> None:
    clock = _Clock()
    seldom = Seldom(every_s=60, clock=clock)
    assert [seldom.due(thing) for thing in ("a", "a", "b", "a")] == [1, 0, 1, 0]
    clock.now_s += 60
    assert [seldom.due(thing) for thing in ("a", "a", "b")] == [3, 0, 1]


def test_what_could_not_be_said_is_due_again() -> None:
    seldom = Seldom(every_s=60, clock=_Clock())
    assert seldom.due("a")
    seldom.not_said("a")
    assert seldom.due("a")


def test_things_without_end_are_forgotten() -> None:
    seldom = Seldom(every_s=60, most=10, clock=_Clock())
    for thing in range(1_000):
        assert seldom.due(thing)
    assert len(seldom._last) == 10
