"""Publisher: an answer only once the log or the spool has the record."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from ingest.contract.record import Record
from ingest.errors import (
    NoRoom,
    NotDurable,
    Overloaded,
    PartitionUnavailable,
    RecordTooLarge,
    TopicRefused,
    Unavailable,
)
from ingest.publishing.circuit_breaker import CircuitBreaker
from ingest.publishing.publisher import Landed, Publisher
from ingest.publishing.router import Router
from tests.unit.ingest.publishing.fakes import (
    LIMITS,
    OTHER_TOPIC,
    MemoryLog,
    SpoolBench,
    open_spool,
    record,
)


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class _Bench:
    """A publisher with everything around it."""

    def __init__(self, spool: SpoolBench) -> None:
        self.log = MemoryLog()
        self.clock = _Clock()
        self.router = Router(
            lambda: CircuitBreaker(first_pause_s=1.0, longest_pause_s=1.0), clock=self.clock
        )
        self.spool = spool
        self.publisher = Publisher(self.log, spool.spool, self.router)

    async def publish(self, record: Record) -> Landed:
        return await self.publisher.publish(record, source="live-events")

    async def fail_once(self) -> None:
        """Opens the circuit of the topic's partition, with nothing in the spool."""
        self.log.failure = _raise(PartitionUnavailable("no leader"))
        await self.router.publish(self.log, record(), may_probe=False)
        self.log.failure = lambda record: None


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[_Bench]:
    async with AsyncExitStack() as stack:
        yield _Bench(await stack.enter_async_context(open_spool(tmp_path / "spool")))


def _raise(error: Exception) -> Callable[[Record], None]:
    def fail(record: Record) -> None:
        raise error

    return fail


async def test_answer_waits_for_the_log() -> None:
    log = MemoryLog()
    log.may_finish.clear()
    publishing = asyncio.create_task(Publisher(log).publish(record(), source="pns"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log.asked == [record()]
    assert not publishing.done()
    log.may_finish.set()
    assert await publishing == "log"


@pytest.mark.parametrize(
    "failure", [NotDurable("disk"), Overloaded("queue"), RecordTooLarge(), TopicRefused()]
)
async def test_without_a_spool_failure_of_the_log_is_the_answer(failure: Exception) -> None:
    log = MemoryLog()
    log.failure = _raise(failure)
    with pytest.raises(type(failure)):
        await Publisher(log).publish(record(), source="live-events")


async def test_log_that_takes_records_needs_no_spool(bench: _Bench) -> None:
    assert await bench.publish(record(0)) == "log"
    assert bench.log.numbers() == [0]
    assert await bench.spool.numbers() == []


@pytest.mark.parametrize(
    "failure",
    [NotDurable("silence"), Overloaded("queue"), TopicRefused(), PartitionUnavailable("leader")],
)
async def test_what_the_log_does_not_take_is_spooled_before_the_answer(
    bench: _Bench, failure: Exception
) -> None:
    bench.log.failure = _raise(failure)
    assert await bench.publish(record(0)) == "spool"
    assert await bench.spool.numbers() == [0]


async def test_no_answer_when_neither_takes_it(tmp_path: Path) -> None:
    async with open_spool(tmp_path / "spool", replace(LIMITS, max_bytes=1)) as spool:
        bench = _Bench(spool)
        bench.log.failure = _raise(NotDurable("silence"))
        with pytest.raises(NoRoom):
            await bench.publish(record(0))


async def test_sick_topic_goes_to_the_spool_unasked_and_others_do_not(bench: _Bench) -> None:
    sick = PartitionUnavailable("no leader")
    bench.log.failure = lambda r: _raise(sick)(r) if r.topic != OTHER_TOPIC else None
    assert [await bench.publish(record(n)) for n in range(3)] == ["spool"] * 3
    assert len(bench.log.asked) == 1
    landed = [await bench.publish(record(n, topic=OTHER_TOPIC)) for n in range(149)]
    assert landed == ["log"] * 149


async def test_while_records_of_a_topic_wait_no_request_is_the_probe(bench: _Bench) -> None:
    bench.log.failure = _raise(PartitionUnavailable("no leader"))
    await bench.publish(record(0))
    bench.clock.now_s += 2.0
    bench.log.failure = lambda record: None
    assert await bench.publish(record(1)) == "spool"
    assert len(bench.log.asked) == 1


async def test_request_is_the_probe_when_nothing_waits(bench: _Bench) -> None:
    await bench.fail_once()
    bench.clock.now_s += 2.0
    assert await bench.publish(record(0)) == "log"
    assert await bench.publish(record(1)) == "log"


async def test_one_probe_at_a_time(bench: _Bench) -> None:
    await bench.fail_once()
    bench.clock.now_s += 2.0
    bench.log.may_finish.clear()
    probe = asyncio.create_task(bench.publish(record(0)))
    await asyncio.sleep(0)
    assert await bench.publish(record(1)) == "spool"
    bench.log.may_finish.set()
    assert await probe == "log"


async def test_probe_whose_request_is_cancelled_leaves_its_place(bench: _Bench) -> None:
    await bench.fail_once()
    bench.clock.now_s += 2.0
    bench.log.may_finish.clear()
    leaving = asyncio.create_task(bench.publish(record(0)))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    bench.log.may_finish.set()
    assert await bench.publish(record(1)) == "log"


async def test_sick_topics_share_half_of_the_spool_and_no_more(tmp_path: Path) -> None:
    async with open_spool(tmp_path / "spool", replace(LIMITS, max_bytes=1 << 20)) as spool:
        bench = _Bench(spool)
        sick = PartitionUnavailable("no leader")
        bench.log.failure = lambda r: _raise(sick)(r) if r.topic != OTHER_TOPIC else None
        await bench.publish(record(0, size_bytes=400_000))
        with pytest.raises(NoRoom):
            await bench.publish(record(1, size_bytes=200_000))
        bench.log.failure = _raise(Overloaded("queue"))
        assert await bench.publish(record(2, topic=OTHER_TOPIC, size_bytes=100_000)) == "spool"


async def test_record_too_large_is_not_spooled(bench: _Bench) -> None:
    bench.log.failure = _raise(RecordTooLarge())
    with pytest.raises(RecordTooLarge):
        await bench.publish(record(0))
    assert await bench.spool.numbers() == []


async def test_overloaded_spool_says_so(bench: _Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.spool.spool._MAX_WAITING", 0)
    bench.log.failure = _raise(NotDurable("silence"))
    with pytest.raises(Unavailable, match="too many"):
        await bench.publish(record(0))
