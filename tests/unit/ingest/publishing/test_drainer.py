"""Emptying the spool: nothing is forgotten before the log has it, no record stops the others."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path

import orjson
import pytest

from ingest.contract.quarantine import quarantine_record
from ingest.contract.record import Record
from ingest.contract.topics import quarantine_topic
from ingest.errors import (
    NotDurable,
    Overloaded,
    PartitionUnavailable,
    RecordTooLarge,
    TopicRefused,
)
from ingest.publishing import drainer as draining_module
from ingest.publishing.circuit_breaker import CircuitBreaker
from ingest.publishing.drainer import Drainer
from ingest.publishing.router import Router
from ingest.spool import spool as spool_module
from ingest.spool.files.rows import Held
from ingest.spool.files.store import SpoolFile
from tests.unit.ingest.publishing.fakes import (
    BALANCED,
    OTHER_TOPIC,
    PREFIX,
    TOPIC,
    MemoryLog,
    SpoolBench,
    imbalance,
    open_spool,
    record,
    token,
    until,
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining_module, "_PAUSE_S", 0.002)
    monkeypatch.setattr(spool_module, "_TEND_EVERY_S", 0.01)


def _router() -> Router:
    return Router(lambda: CircuitBreaker(first_pause_s=0.005, longest_pause_s=0.01))


@contextlib.asynccontextmanager
async def _draining(
    bench: SpoolBench, log: MemoryLog, router: Router | None = None
) -> AsyncIterator[Router]:
    router = router or _router()
    drainer = Drainer(bench.spool, log, router, ledger=bench.ledger, prefix=PREFIX)
    running = asyncio.create_task(drainer.run())
    try:
        yield router
    finally:
        await drainer.stop()
        log.may_finish.set()
        await _cancelled(running)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _take(bench: SpoolBench, *numbers: int, topic: str = TOPIC) -> None:
    await asyncio.gather(*(bench.take(record(n, topic=topic)) for n in numbers))


def _raise(error: Exception, *topics: str) -> Callable[[Record], None]:
    """Fails records of these topics, or all."""

    def fail(record: Record) -> None:
        if not topics or record.topic in topics:
            raise error

    return fail


async def _holds(bench: SpoolBench, *numbers: int) -> bool:
    """Whether these records are in the spool, and no others."""
    return await bench.numbers() == list(numbers)


def _is_empty(bench: SpoolBench) -> Callable[[], bool]:
    return lambda: not bench.spool.has_records


async def test_everything_goes_to_the_log_oldest_first_and_then_is_forgotten(place: Path) -> None:
    log = MemoryLog()
    async with open_spool(place) as bench:
        await _take(bench, *range(700))
        async with _draining(bench, log):
            await until(_is_empty(bench))
        assert log.numbers() == list(range(700))
        assert log.records[0] == record(0)
        assert await bench.numbers() == []
        assert bench.ledger.settled == {("live-events", "published", ""): 700}
        assert imbalance(bench.ledger) == BALANCED


async def test_what_comes_while_it_rests_is_drained_too(place: Path) -> None:
    log = MemoryLog()
    async with open_spool(place) as bench, _draining(bench, log):
        for n in range(3):
            await _take(bench, n)
            await until(_is_empty(bench))
        assert log.numbers() == [0, 1, 2]


async def test_record_is_in_the_spool_until_the_log_has_it(place: Path) -> None:
    log = MemoryLog()
    log.may_finish.clear()
    async with open_spool(place) as bench:
        await _take(bench, 0)
        async with _draining(bench, log):
            await until(lambda: bool(log.asked))
            assert (await bench.numbers(), bench.ledger.held["spool", "live-events"]) == ([0], 1)
            log.may_finish.set()
            await until(_is_empty(bench))
            assert log.numbers() == [0]


async def test_tokens_are_left_alone(place: Path) -> None:
    log = MemoryLog()
    async with open_spool(place) as bench:
        await bench.take(token(7))
        await _take(bench, 0)
        async with _draining(bench, log):
            await until(_is_empty(bench))
        assert log.numbers() == [0]
        assert await bench.numbers() == [7]


@pytest.mark.parametrize("failure", [NotDurable("silence"), Overloaded("queue")])
async def test_failure_of_the_log_loses_nothing_and_is_outlived(
    place: Path, failure: Exception
) -> None:
    log = MemoryLog()
    log.failure = _raise(failure)
    async with open_spool(place) as bench:
        await _take(bench, *range(50))
        async with _draining(bench, log):
            await until(lambda: len(log.asked) > 3)
            assert await bench.numbers() == list(range(50))
            log.failure = lambda record: None
            await until(_is_empty(bench))
        assert sorted(log.numbers()) == list(range(50))
        assert imbalance(bench.ledger) == BALANCED


async def test_log_that_is_down_is_asked_for_one_record_at_a_time(place: Path) -> None:
    log = MemoryLog()
    async with open_spool(place) as bench:
        await _take(bench, *range(300))
        log.failure = _raise(NotDurable("silence"))
        async with _draining(bench, log):
            await until(lambda: len(log.asked) > 5)
        assert log.most_under_way == 1
        assert {int(asked.key) for asked in log.asked} == {0}


async def test_log_that_came_back_is_not_overrun(place: Path) -> None:
    log, at_once = MemoryLog(), list[int]()
    log.failure = lambda record: at_once.append(log.under_way + len(log.records))
    async with open_spool(place) as bench:
        await _take(bench, *range(1_500))
        async with _draining(bench, log):
            await until(_is_empty(bench))
        # each chunk is twice the one before it, until there are only so many left
        assert sorted(set(at_once)) == [1, 3, 7, 15, 31, 63, 127, 255, 511, 1_023, 1_500]


@pytest.mark.parametrize("error", [TopicRefused("denied"), PartitionUnavailable("no leader")])
async def test_topic_that_is_down_holds_up_its_own_records_only(
    place: Path, error: Exception
) -> None:
    log = MemoryLog()
    log.failure = _raise(error, TOPIC)
    async with open_spool(place) as bench:
        for n in range(100):
            await bench.take(record(n, topic=(TOPIC, OTHER_TOPIC)[n % 2]))
        async with _draining(bench, log) as router:
            await until(lambda: len(log.records) == 50)
            assert router.unavailable_topics == {TOPIC}
            assert log.numbers() == list(range(1, 100, 2))
            log.failure = lambda record: None
            await until(_is_empty(bench))
            assert router.unavailable == frozenset()
        assert sorted(log.numbers()) == list(range(100))
        assert imbalance(bench.ledger) == BALANCED


async def test_partition_that_is_down_holds_up_its_own_records_only(place: Path) -> None:
    log = MemoryLog(partitions=3)

    def judge(record: Record) -> None:
        if int(record.key) % 3 == 0:
            raise PartitionUnavailable("not enough replicas")

    log.failure = judge
    async with open_spool(place) as bench:
        await _take(bench, *range(300))
        async with _draining(bench, log):
            await until(lambda: len(log.records) == 200)
            # and what comes for the others while it is down
            await _take(bench, 301, 302)
            await until(lambda: _holds(bench, *range(0, 300, 3)))
            assert len(log.records) == 202
            log.failure = lambda record: None
            await until(_is_empty(bench))
        assert sorted(log.numbers()) == [*range(300), 301, 302]
        assert bench.ledger.settled == {("live-events", "published", ""): 302}
        assert imbalance(bench.ledger) == BALANCED


async def test_a_link_that_carries_little_at_once_is_found_to_be_back(place: Path) -> None:
    """All probes at once would be as much as what closed the partitions' circuits."""
    log = MemoryLog()
    log.failure = _raise(PartitionUnavailable("the broker does not answer"))
    async with open_spool(place) as bench:
        for n in range(200):
            await bench.take(record(n, topic=f"p.live-events.type-{n}.v1"))
        async with _draining(bench, log) as router:
            await until(lambda: len(router.unavailable) == 200)

            together = 0

            def judge(record: Record) -> None:
                nonlocal together
                together = max(together, log.under_way)
                too_many = together > 4
                if log.under_way == 1:  # the last of those that went together
                    together = 0
                if too_many:
                    raise PartitionUnavailable("no answer within the budget")

            log.failure = judge
            await until(_is_empty(bench))
        assert sorted(log.numbers()) == list(range(200))
        assert imbalance(bench.ledger) == BALANCED


async def test_recovery_of_one_topic_reads_no_other_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real, asked = MemoryLog(), SpoolFile.read_topics, list[tuple[str, int]]()
    down = {f"p.live-events.down-{n}.v1" for n in range(3)}

    def judge(record: Record) -> None:
        if record.topic in down:
            raise PartitionUnavailable("no leader")

    def read_topics(
        file: SpoolFile, topics: Collection[str], *, after: int, limit: int, max_bytes: int
    ) -> list[Held]:
        asked.extend((topic, limit) for topic in topics)
        return real(file, topics, after=after, limit=limit, max_bytes=max_bytes)

    log.failure = judge
    monkeypatch.setattr(SpoolFile, "read_topics", read_topics)
    async with open_spool(place) as bench:
        for topic in sorted(down):
            await _take(bench, *range(100), topic=topic)
        async with _draining(bench, log) as router:
            await until(lambda: router.unavailable_topics == down)
            back = min(down)
            down.remove(back)
            asked.clear()
            await until(lambda: len(log.records) == 100)
            await until(lambda: router.unavailable_topics == down)
            # the others are asked for their probes alone
            assert {limit for topic, limit in asked if topic in down} <= {1}
            assert {record.topic for record in log.records} == {back}
            down.clear()
            await until(_is_empty(bench))
        assert len(log.records) == 300
        assert imbalance(bench.ledger) == BALANCED


async def test_probe_that_hangs_holds_up_nobody(place: Path) -> None:
    log, hangs = MemoryLog(partitions=2), asyncio.Event()
    real = log.append

    async def append(record: Record, *, urgent: bool = True, probing: bool = False) -> None:
        if probing:
            hangs.set()
            await asyncio.Event().wait()
        await real(record)

    log.append = append  # type: ignore[method-assign]
    log.failure = lambda r: _raise(PartitionUnavailable(""))(r) if int(r.key) % 2 else None
    async with open_spool(place) as bench:
        await _take(bench, 1, 2)
        running = asyncio.create_task(
            Drainer(bench.spool, log, _router(), ledger=bench.ledger, prefix=PREFIX).run()
        )
        await hangs.wait()
        await _take(bench, 4)
        await until(lambda: log.numbers() == [2, 4])
        await _cancelled(running)


async def test_record_under_way_is_no_probe_and_is_counted_once(place: Path) -> None:
    log, silent, router = MemoryLog(), MemoryLog(), _router()
    log.may_finish.clear()
    silent.failure = _raise(PartitionUnavailable(""))
    async with open_spool(place) as bench:
        await _take(bench, 1)
        async with _draining(bench, log, router):
            await until(lambda: log.asked == [record(1)])
            # while the record is under way, a request finds both partitions down
            for topic in (TOPIC, OTHER_TOPIC):
                await router.publish(silent, record(topic=topic), may_probe=True)
            await _take(bench, 2, topic=OTHER_TOPIC)
            await until(lambda: record(2, topic=OTHER_TOPIC) in log.asked)
            assert log.asked.count(record(1)) == 1
            log.may_finish.set()
            await until(_is_empty(bench))
        assert imbalance(bench.ledger) == BALANCED
        assert bench.ledger.settled == {("live-events", "published", ""): 2}


async def test_topic_that_is_down_is_asked_seldom(place: Path) -> None:
    log = MemoryLog()
    log.failure = _raise(TopicRefused("denied"), TOPIC)
    router = Router(lambda: CircuitBreaker(first_pause_s=3_600))
    async with open_spool(place) as bench:
        await _take(bench, *range(300))
        async with _draining(bench, log, router):
            await _take(bench, 300, topic=OTHER_TOPIC)
            await until(lambda: len(log.records) == 1)
        assert len([asked for asked in log.asked if asked.topic == TOPIC]) == 1


async def test_record_that_quarantine_refuses_too_is_tried_seldom_and_holds_up_nobody(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining_module, "_UNPUBLISHABLE_AGAIN_AFTER_S", (0.02, 0.05))
    log = MemoryLog()

    def judge(record: Record) -> None:
        if record.topic == quarantine_topic(PREFIX) or int(record.key) == 0:
            raise RecordTooLarge

    log.failure = judge
    async with open_spool(place) as bench:
        await _take(bench, *range(50))
        async with _draining(bench, log):
            await until(lambda: _holds(bench, 0))
            assert sorted(log.numbers()) == list(range(1, 50))
            log.failure = _raise(RecordTooLarge(), TOPIC)
            await until(_is_empty(bench))
        assert bench.ledger.settled["live-events", "quarantined", "too_large_for_topic"] == 1
        assert imbalance(bench.ledger) == BALANCED


async def test_record_too_large_goes_to_quarantine_and_the_others_flow(place: Path) -> None:
    log = MemoryLog()

    def judge(record: Record) -> None:
        if record.topic != quarantine_topic(PREFIX) and int(record.key) == 1:
            raise RecordTooLarge

    log.failure = judge
    async with open_spool(place) as bench:
        await _take(bench, *range(3))
        async with _draining(bench, log):
            await until(_is_empty(bench))
        published = [each for each in log.records if each.topic == TOPIC]
        (aside,) = [each for each in log.records if each.topic != TOPIC]
        assert [int(each.key) for each in published] == [0, 2]
        value = orjson.loads(aside.value)
        assert value["metadata"]["reason"] == "too_large_for_topic"
        assert value["metadata"]["tenant"] == "north-campus"
        assert value["record"]["value"] == record(1).value.decode()
        assert (aside.topic, aside.key) == (quarantine_topic(PREFIX), b"id-1")
        assert imbalance(bench.ledger) == BALANCED


async def test_record_too_large_is_counted_as_quarantined(place: Path) -> None:
    log = MemoryLog()
    log.failure = _raise(RecordTooLarge(), TOPIC)
    async with open_spool(place) as bench:
        await _take(bench, 0)
        async with _draining(bench, log):
            await until(_is_empty(bench))
        assert bench.ledger.settled == {("live-events", "quarantined", "too_large_for_topic"): 1}


async def test_record_too_large_stays_while_quarantine_takes_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining_module, "_QUARANTINE_AGAIN_AFTER_S", 0.02)
    log = MemoryLog()

    def judge(record: Record) -> None:
        if record.topic == quarantine_topic(PREFIX):
            raise TopicRefused("no such topic")
        if int(record.key) == 0:
            raise RecordTooLarge

    log.failure = judge
    async with open_spool(place) as bench:
        await _take(bench, 0, 1)
        async with _draining(bench, log):
            await until(lambda: len(log.asked) > 6)
            await until(lambda: _holds(bench, 0))
            assert log.numbers() == [1]
            log.failure = _raise(RecordTooLarge(), TOPIC)
            await until(_is_empty(bench))
        assert imbalance(bench.ledger) == BALANCED


async def test_quarantined_record_that_was_spooled_is_counted_as_quarantined(place: Path) -> None:
    log = MemoryLog()
    kept = quarantine_record(PREFIX, "a.b.c", reason="expired", source="pns")
    async with open_spool(place) as bench:
        await bench.take(kept, "pns")
        async with _draining(bench, log):
            await until(_is_empty(bench))
        assert log.records == [kept]
        assert bench.ledger.settled == {("pns", "quarantined", "expired"): 1}


async def test_forgetting_that_fails_repeats_the_record_and_loses_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real, failures = MemoryLog(), SpoolFile.forget, [1, 1]

    def forget(file: SpoolFile, ids: Sequence[int]) -> int:
        if failures:
            failures.pop()
            raise sqlite3.OperationalError("disk I/O error")
        return real(file, ids)

    monkeypatch.setattr(SpoolFile, "forget", forget)
    async with open_spool(place) as bench:
        await _take(bench, 0)
        async with _draining(bench, log):
            await until(_is_empty(bench))
        assert log.numbers() == [0, 0, 0]
        assert bench.ledger.settled == {("live-events", "published", ""): 1}
        assert imbalance(bench.ledger) == BALANCED


async def test_ledger_holds_nothing_once_the_spool_is_empty(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real = MemoryLog(), SpoolFile.forget
    is_second_part = [False]

    def forget(file: SpoolFile, ids: Sequence[int]) -> int:
        if is_second_part[0] and len(ids) < 256:
            is_second_part[0] = False
            raise sqlite3.OperationalError("disk I/O error")
        is_second_part[0] |= len(ids) == 256
        return real(file, ids)

    monkeypatch.setattr(SpoolFile, "forget", forget)
    async with open_spool(place) as bench:
        for start in range(0, 1_000, 100):
            await _take(bench, *range(start, start + 100))
        async with _draining(bench, log):
            await until(_is_empty(bench))
        assert bench.ledger.held["spool", "live-events"] == 0


async def test_stop_ends_after_the_records_under_way_and_leaves_the_rest(place: Path) -> None:
    log = MemoryLog()
    log.may_finish.clear()
    async with open_spool(place) as bench:
        await _take(bench, *range(20))
        drainer = Drainer(bench.spool, log, _router(), ledger=bench.ledger, prefix=PREFIX)
        running = asyncio.create_task(drainer.run())
        await until(lambda: bool(log.asked))
        stopping = asyncio.create_task(drainer.stop())
        await bench.take(record(20))  # a commit's time later
        assert not stopping.done()
        log.may_finish.set()
        await stopping
        await _cancelled(running)
        assert log.numbers() == [0]
        assert await bench.numbers() == list(range(1, 21))
        assert bench.ledger.settled == {("live-events", "published", ""): 1}


async def test_stop_while_it_rests_is_at_once(place: Path) -> None:
    async with open_spool(place) as bench:
        drainer = Drainer(bench.spool, MemoryLog(), _router(), ledger=bench.ledger, prefix=PREFIX)
        running = asyncio.create_task(drainer.run())
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await drainer.stop()
        await _cancelled(running)


async def test_stop_does_not_wait_for_a_log_that_hangs(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining_module, "_STOP_TIMEOUT_S", 0.02)
    log = MemoryLog()
    log.may_finish.clear()
    async with open_spool(place) as bench:
        await _take(bench, 0)
        drainer = Drainer(bench.spool, log, _router(), ledger=bench.ledger, prefix=PREFIX)
        running = asyncio.create_task(drainer.run())
        await until(lambda: bool(log.asked))
        async with asyncio.timeout(1):
            await drainer.stop()
        await _cancelled(running)
        assert await bench.numbers() == [0]
    log.may_finish.set()
