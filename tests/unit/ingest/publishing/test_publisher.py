"""Publisher: a receipt only once the log or the spool has the record."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from ingest.contract.record import Record
from ingest.errors import NotDurable, Overloaded, RecordTooLarge, TopicRefused, Unavailable
from ingest.publishing.circuit_breaker import CircuitBreaker
from ingest.publishing.publisher import Publisher
from ingest.publishing.router import Router
from ingest.storage.disk import NoRoom
from ingest.values import Outcome, Receipt
from tests.unit.ingest.publishing.fakes import (
    LIMITS,
    OTHER_TOPIC,
    MemoryLog,
    SpoolBench,
    open_spool,
    record,
)

_PUBLISHED = Receipt(outcome="published", event_id="e")
_SPOOLED = Receipt(outcome="spooled", event_id="e", held_in="spool")


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
            CircuitBreaker(first_pause_s=1.0, longest_pause_s=1.0), clock=self.clock
        )
        self.spool = spool
        self.publisher = Publisher(self.log, spool.spool, self.router)

    async def publish(
        self, record: Record, outcome: Outcome = "published", reason: str | None = None
    ) -> Receipt:
        return await self.publisher.publish(
            record, source="live-events", outcome=outcome, event_id="e", reason=reason
        )


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[_Bench]:
    async with AsyncExitStack() as stack:
        yield _Bench(await stack.enter_async_context(open_spool(tmp_path / "spool")))


def _raise(error: Exception) -> Callable[[Record], None]:
    def fail(record: Record) -> None:
        raise error

    return fail


async def test_receipt_waits_for_the_log() -> None:
    log = MemoryLog()
    log.may_finish.clear()
    delivering = asyncio.create_task(
        Publisher(log).publish(
            record(), source="pns", outcome="quarantined", event_id=None, reason="expired"
        )
    )
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log.asked == [record()]
    assert not delivering.done()
    log.may_finish.set()
    assert await delivering == Receipt(outcome="quarantined", event_id=None, reason="expired")


@pytest.mark.parametrize(
    "failure", [NotDurable("disk"), Overloaded("queue"), RecordTooLarge(), TopicRefused()]
)
async def test_without_a_spool_failure_of_the_log_gives_no_receipt(failure: Exception) -> None:
    log = MemoryLog()
    log.failure = _raise(failure)
    with pytest.raises(type(failure)):
        await Publisher(log).publish(
            record(), source="live-events", outcome="published", event_id="e"
        )


async def test_log_that_takes_records_needs_no_spool(bench: _Bench) -> None:
    assert await bench.publish(record(0)) == _PUBLISHED
    assert bench.log.numbers() == [0]
    assert await bench.spool.numbers() == []


@pytest.mark.parametrize("failure", [NotDurable("silence"), Overloaded("queue"), TopicRefused()])
async def test_what_the_log_does_not_take_is_spooled_before_the_receipt(
    bench: _Bench, failure: Exception
) -> None:
    bench.log.failure = _raise(failure)
    assert await bench.publish(record(0)) == _SPOOLED
    assert await bench.spool.numbers() == [0]


async def test_receipt_of_a_quarantined_event_names_its_reason_wherever_it_is(
    bench: _Bench,
) -> None:
    bench.log.failure = _raise(NotDurable("silence"))
    receipt = await bench.publish(record(0), "quarantined", "expired")
    assert receipt == Receipt(
        outcome="quarantined", event_id="e", reason="expired", held_in="spool"
    )


async def test_no_receipt_when_neither_takes_it(tmp_path: Path) -> None:
    async with open_spool(tmp_path / "spool", replace(LIMITS, max_bytes=1)) as spool:
        bench = _Bench(spool)
        bench.log.failure = _raise(NotDurable("silence"))
        with pytest.raises(NoRoom):
            await bench.publish(record(0))


async def test_silent_log_costs_one_budget_and_not_one_per_request(bench: _Bench) -> None:
    bench.log.failure = _raise(NotDurable("silence"))
    receipts = [await bench.publish(record(n)) for n in range(20)]
    assert receipts == [_SPOOLED] * 20
    assert len(bench.log.asked) == 1


async def test_overload_and_a_refused_topic_leave_the_breaker_closed(bench: _Bench) -> None:
    for failure in (Overloaded("queue"), TopicRefused("denied")):
        bench.log.failure = _raise(failure)
        await bench.publish(record(0))
        assert bench.router.state == "closed"


async def test_refused_topic_goes_to_the_spool_unasked_and_others_do_not(bench: _Bench) -> None:
    bench.log.failure = lambda r: _raise(TopicRefused())(r) if r.topic != OTHER_TOPIC else None
    assert [(await bench.publish(record(n))).outcome for n in range(3)] == ["spooled"] * 3
    assert len(bench.log.asked) == 1
    assert await bench.publish(record(3, topic=OTHER_TOPIC)) == _PUBLISHED


async def test_while_records_wait_no_request_is_the_probe(bench: _Bench) -> None:
    bench.log.failure = _raise(NotDurable("silence"))
    await bench.publish(record(0))
    bench.clock.now_s += 2.0
    bench.log.failure = lambda record: None
    assert await bench.publish(record(1)) == _SPOOLED
    assert len(bench.log.asked) == 1


async def test_request_is_the_probe_when_nothing_waits(bench: _Bench) -> None:
    bench.router.failed()
    bench.clock.now_s += 2.0
    assert await bench.publish(record(0)) == _PUBLISHED
    assert await bench.publish(record(1)) == _PUBLISHED
    assert bench.router.state == "closed"


async def test_one_probe_at_a_time(bench: _Bench) -> None:
    bench.router.failed()
    bench.clock.now_s += 2.0
    bench.log.may_finish.clear()
    probe = asyncio.create_task(bench.publish(record(0)))
    await asyncio.sleep(0)
    assert await bench.publish(record(1)) == _SPOOLED
    bench.log.may_finish.set()
    assert await probe == _PUBLISHED


@pytest.mark.parametrize("failure", [RecordTooLarge(), RuntimeError("unforeseen")])
async def test_probe_that_proves_nothing_leaves_its_place(
    bench: _Bench, failure: Exception
) -> None:
    bench.router.failed()
    bench.clock.now_s += 2.0
    bench.log.failure = _raise(failure)
    with pytest.raises(type(failure)):
        await bench.publish(record(0))
    bench.log.failure = lambda record: None
    assert await bench.publish(record(1)) == _PUBLISHED


async def test_probe_whose_request_is_cancelled_leaves_its_place(bench: _Bench) -> None:
    bench.router.failed()
    bench.clock.now_s += 2.0
    bench.log.may_finish.clear()
    leaving = asyncio.create_task(bench.publish(record(0)))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    bench.log.may_finish.set()
    assert await bench.publish(record(1)) == _PUBLISHED


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
