"""The router: one partition's failure is its own."""

from collections.abc import Callable

import pytest
import structlog

from ingest.contract.record import Record
from ingest.errors import (
    NotDurable,
    Overloaded,
    PartitionUnavailable,
    RecordTooLarge,
    TopicRefused,
)
from ingest.publishing.circuit_breaker import CircuitBreaker
from ingest.publishing.log import Partition
from ingest.publishing.router import Router
from tests.unit.ingest.publishing.fakes import OTHER_TOPIC, TOPIC, MemoryLog, record

PAUSE_S = 1.0


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class _Bench:
    def __init__(self) -> None:
        self.clock = _Clock()
        self.log = MemoryLog(partitions=3)
        self.router = Router(
            lambda: CircuitBreaker(first_pause_s=PAUSE_S, longest_pause_s=2 * PAUSE_S),
            clock=self.clock,
        )

    async def publish(self, n: int, *, topic: str = TOPIC, may_probe: bool = True) -> bool:
        return await self.router.publish(self.log, record(n, topic=topic), may_probe=may_probe)

    def fail(self, error: Exception, *keys: int, topic: str = TOPIC) -> None:
        def judge(record: Record) -> None:
            if record.topic == topic and int(record.key) % 3 in keys:
                raise error

        self.log.failure = judge


@pytest.fixture
def bench() -> _Bench:
    return _Bench()


def _raise(error: Exception) -> Callable[[Record], None]:
    def fail(record: Record) -> None:
        raise error

    return fail


async def test_one_sick_partition_costs_no_other_a_record(bench: _Bench) -> None:
    bench.fail(PartitionUnavailable("no leader"), 0)
    published = [await bench.publish(n) for n in range(150)]
    assert published == [n % 3 != 0 for n in range(150)]
    assert all([await bench.publish(n, topic=OTHER_TOPIC) for n in range(150)])
    assert bench.router.unavailable == {Partition(TOPIC, 0)}
    assert [int(r.key) for r in bench.log.asked if int(r.key) % 3 == 0 and r.topic == TOPIC] == [0]


@pytest.mark.parametrize("error", [PartitionUnavailable("no leader"), TopicRefused("denied")])
async def test_open_partition_is_not_asked_until_its_pause_is_over(
    bench: _Bench, error: Exception
) -> None:
    bench.fail(error, 0)
    await bench.publish(0)
    bench.log.failure = lambda record: None
    assert not await bench.publish(0)
    assert bench.router.is_open(Partition(TOPIC, 0))
    bench.clock.now_s += PAUSE_S
    assert not bench.router.is_open(Partition(TOPIC, 0))
    assert not await bench.publish(0, may_probe=False)
    assert await bench.publish(0)
    assert bench.router.is_closed(Partition(TOPIC, 0))
    assert bench.router.recoveries == 1


async def test_any_record_of_the_partition_can_be_its_probe(bench: _Bench) -> None:
    bench.fail(PartitionUnavailable("no leader"), 0)
    await bench.publish(0)
    bench.clock.now_s += PAUSE_S
    bench.log.failure = lambda record: None
    assert await bench.publish(3)
    assert await bench.publish(0)


async def test_probe_that_fails_doubles_the_pause_up_to_its_cap(bench: _Bench) -> None:
    bench.fail(PartitionUnavailable("no leader"), 0)
    await bench.publish(0)
    for pause_s in (PAUSE_S, 2 * PAUSE_S, 2 * PAUSE_S):
        bench.clock.now_s += pause_s - 0.01
        assert bench.router.is_open(Partition(TOPIC, 0))
        bench.clock.now_s += 0.01
        assert not bench.router.is_open(Partition(TOPIC, 0))
        assert not await bench.publish(0)


@pytest.mark.parametrize("error", [Overloaded("full"), NotDurable("kafka does not answer")])
async def test_what_concerns_the_whole_log_opens_no_partition(
    bench: _Bench, error: Exception
) -> None:
    bench.log.failure = _raise(error)
    assert not await bench.publish(0)
    assert bench.router.unavailable == frozenset()
    bench.log.failure = lambda record: None
    assert await bench.publish(0)


@pytest.mark.parametrize("error", [RecordTooLarge(), RuntimeError("unforeseen")])
async def test_probe_that_proves_nothing_leaves_its_place(bench: _Bench, error: Exception) -> None:
    bench.fail(PartitionUnavailable("no leader"), 0)
    await bench.publish(0)
    bench.clock.now_s += PAUSE_S
    bench.fail(error, 0)
    with pytest.raises(type(error)):
        await bench.publish(0)
    bench.log.failure = lambda record: None
    assert await bench.publish(0)


async def test_topic_that_was_unknown_leaves_nothing_behind(bench: _Bench) -> None:
    bench.fail(TopicRefused("no such topic"), 0, 1, 2)
    bench.log.partition_of = lambda record: Partition(record.topic, -1)  # type: ignore[method-assign]
    await bench.publish(0)
    assert bench.router.unavailable_topics == {TOPIC}
    del bench.log.partition_of
    bench.fail(PartitionUnavailable("no leader"), 1)
    await bench.publish(1)
    bench.clock.now_s += PAUSE_S
    bench.log.failure = lambda record: None
    assert await bench.publish(1)
    assert bench.router.unavailable == frozenset()


async def test_each_change_is_logged_once_with_all_that_it_concerns(bench: _Bench) -> None:
    bench.fail(PartitionUnavailable("no leader"), 0, 1)
    with structlog.testing.capture_logs() as lines:
        for n in range(6):
            await bench.publish(n)
        bench.router.report()
        bench.router.report()
        bench.clock.now_s += PAUSE_S
        bench.log.failure = lambda record: None
        await bench.publish(0)
        bench.router.report()
    assert [(line["log_level"], line["count"]) for line in lines] == [("error", 2), ("info", 1)]
    assert lines[0]["partitions"] == [f"{TOPIC}/0", f"{TOPIC}/1"]
    assert lines[0]["cause"] == "no leader"
