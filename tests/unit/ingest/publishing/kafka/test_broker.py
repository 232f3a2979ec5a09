"""One broker: what goes together, what does not wait for what, and what becomes of each record."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import cast

import pytest
from aiokafka.record.memory_records import MemoryRecords

from ingest.contract.record import Record
from ingest.errors import Overloaded, PartitionUnavailable, RecordTooLarge, TopicRefused
from ingest.publishing.kafka import broker as module
from ingest.publishing.kafka.batch import Pending
from ingest.publishing.kafka.broker import Broker
from ingest.publishing.kafka.cluster import Connection
from ingest.publishing.log import Partition

BUDGET_S = 4.0
Answer = dict[Partition, str | None]


class _Request:
    """A request that the broker got; `answer` it, or `fail` it."""

    def __init__(self, batches: Mapping[Partition, bytes], line: "_Connection") -> None:
        self.keys = {partition: _keys(batch) for partition, batch in batches.items()}
        self.line = line
        self.answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def answer(self, **errors: str) -> None:
        """Says yes of each batch but those whose topic is named."""
        self.answered.set_result({p: errors.get(p.topic) for p in self.keys})

    def fail(self) -> None:
        self.answered.set_exception(ConnectionResetError())


class _Connection:
    is_open = True

    def __init__(self, requests: "asyncio.Queue[_Request]") -> None:
        self._requests = requests
        self._under_way: set[_Request] = set()

    async def produce(
        self, batches: Mapping[Partition, bytes], *, broker_timeout_s: float
    ) -> Answer:
        request = _Request(batches, self)
        self._under_way.add(request)
        await self._requests.put(request)
        return await request.answered

    def close(self) -> None:
        self.is_open = False
        for request in self._under_way:
            if not request.answered.done():
                request.fail()


class _Bench:
    """A broker whose other side is the test."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[_Request] = asyncio.Queue()
        self.failures = 0
        self.refuses = False
        self.broker = Broker("broker 1", self._connect, budget_s=BUDGET_S, on_failure=self._failed)

    async def _connect(self) -> Connection:
        if self.refuses:
            raise ConnectionRefusedError
        return cast(Connection, _Connection(self.requests))

    def _failed(self) -> None:
        self.failures += 1

    def offer(
        self,
        key: int,
        topic: str = "a",
        *,
        number: int = 0,
        size_bytes: int = 1,
        urgent: bool = True,
        probing: bool = False,
    ) -> Pending:
        record = Record(topic=topic, key=b"%d" % key, value=b"x" * size_bytes)
        pending = Pending(
            record,
            Partition(topic, number),
            began_s=asyncio.get_running_loop().time(),
            urgent=urgent,
        )
        self.broker.offer(pending, probing=probing)
        return pending

    async def request(self) -> _Request:
        async with asyncio.timeout(5):
            return await self.requests.get()


def _keys(batch: bytes) -> list[int]:
    records = MemoryRecords(batch)
    found = records.next_batch()
    assert found is not None
    return [int(record.key) for record in found]


@pytest.fixture
async def bench() -> AsyncIterator[_Bench]:
    bench = _Bench()
    yield bench
    await bench.broker.close()


async def _ended(*records: Pending) -> list[BaseException | None]:
    done = await asyncio.gather(*(each.done for each in records), return_exceptions=True)
    return [each if isinstance(each, BaseException) else None for each in done]


async def test_what_comes_in_one_turn_goes_in_one_request(bench: _Bench) -> None:
    records = [bench.offer(n, "ab"[n % 2]) for n in range(6)]
    request = await bench.request()
    assert request.keys == {Partition("a", 0): [0, 2, 4], Partition("b", 0): [1, 3, 5]}
    request.answer()
    assert await _ended(*records) == [None] * 6


async def test_what_comes_meanwhile_goes_in_the_next_request(bench: _Bench) -> None:
    first = bench.offer(0)
    request = await bench.request()
    later = [bench.offer(n) for n in range(1, 4)]
    request.answer()
    await _ended(first)
    request = await bench.request()
    assert request.keys == {Partition("a", 0): [1, 2, 3]}
    request.answer()
    assert await _ended(*later) == [None] * 3


async def test_each_batch_has_the_fate_that_the_broker_says_of_it(bench: _Bench) -> None:
    records = [bench.offer(n, topic) for n, topic in enumerate("abc")]
    (await bench.request()).answer(b="NotEnoughReplicasError", c="TopicAuthorizationFailedError")
    fates = await _ended(*records)
    assert [type(fate) for fate in fates] == [type(None), PartitionUnavailable, TopicRefused]
    assert str(fates[1]) == "b/0: NotEnoughReplicasError"
    assert bench.broker.answers
    assert bench.failures == 2


async def test_batch_that_the_broker_says_nothing_of_is_not_durable(bench: _Bench) -> None:
    record = bench.offer(0)
    (await bench.request()).answered.set_result({})
    assert [type(fate) for fate in await _ended(record)] == [PartitionUnavailable]


async def test_request_that_hangs_is_overtaken_by_other_partitions(bench: _Bench) -> None:
    bench.offer(0, "sick")
    hanging = await bench.request()
    others = [bench.offer(1, "well"), bench.offer(2, "sick")]
    overtaking = await bench.request()
    assert overtaking.keys == {Partition("well", 0): [1]}
    assert overtaking.line is not hanging.line
    overtaking.answer()
    assert await _ended(others[0]) == [None]
    hanging.answer()
    assert (await bench.request()).keys == {Partition("sick", 0): [2]}


async def test_partitions_beside_one_that_hangs_go_on_each_by_itself(bench: _Bench) -> None:
    together = [bench.offer(0, "sick"), bench.offer(1, "well"), bench.offer(2, "fine")]
    hanging = await bench.request()
    bench.offer(3, "other")
    (await bench.request()).answer()
    for n, topic in enumerate(("well", "fine", "sick"), start=4):
        bench.offer(n, topic)
    for n, topic in ((4, "well"), (5, "fine")):
        request = await bench.request()
        assert request.keys == {Partition(topic, 0): [n]}
        request.answer()
    assert (await bench.request()).keys == {Partition("sick", 0): [6]}
    # two of three lines are held now, by the one partition: the third is for all others
    for n, topic in enumerate(("sick", "well", "fine", "other"), start=7):
        bench.offer(n, topic)
    request = await bench.request()
    assert request.keys == {
        Partition(t, 0): [n] for n, t in ((8, "well"), (9, "fine"), (10, "other"))
    }
    hanging.answer(sick="RequestTimedOutError")
    assert [type(fate) for fate in await _ended(*together)] == [
        PartitionUnavailable,
        type(None),
        type(None),
    ]


async def test_held_up_partitions_take_turns_with_all_others(bench: _Bench) -> None:
    for n in range(5):
        bench.offer(n, f"held-{n}")
    await bench.request()
    bench.offer(5, "other")
    (await bench.request()).answer()
    for n in range(5):
        bench.offer(n, f"held-{n}")
    seen = []
    for n in range(4):
        bench.offer(n, "other")
        request = await bench.request()
        seen.append([partition.topic for partition in request.keys])
        request.answer()
    assert seen == [["held-0"], ["other"], ["held-1"], ["other"]]


async def test_nothing_hangs_where_every_answer_is_late(bench: _Bench) -> None:
    for topic in "ab":
        bench.offer(0, topic)
    first = await bench.request()
    for topic in "cd":
        bench.offer(1, topic)
    second = await bench.request()
    first.answer()
    for topic in "ce":
        bench.offer(2, topic)
    assert (await bench.request()).keys == {Partition("e", 0): [2]}
    second.answer()
    assert (await bench.request()).keys == {Partition("c", 0): [2]}


async def test_answered_probe_says_nothing_of_a_request_that_has_just_begun(bench: _Bench) -> None:
    for topic in "ab":
        bench.offer(0, topic)
    request = await bench.request()
    probe = bench.offer(1, "sick", probing=True)
    (await bench.request()).answer()
    await _ended(probe)
    for topic in "ac":
        bench.offer(2, topic)
    assert (await bench.request()).keys == {Partition("c", 0): [2]}
    request.answer()


async def test_probe_goes_by_itself_and_nobody_waits_for_it(bench: _Bench) -> None:
    bench.offer(0, "sick", probing=True)
    bench.offer(1, "well")
    probe, other = await bench.request(), await bench.request()
    assert [list(probe.keys), list(other.keys)] == [[Partition("sick", 0)], [Partition("well", 0)]]
    bench.offer(2, "well")
    other.answer()
    assert (await bench.request()).keys == {Partition("well", 0): [2]}


async def test_urgent_records_go_before_those_that_can_wait(bench: _Bench) -> None:
    bench.offer(0)
    request = await bench.request()
    bench.offer(1, urgent=False)
    bench.offer(2)
    request.answer()
    request = await bench.request()
    assert request.keys == {Partition("a", 0): [2]}
    request.answer()
    assert (await bench.request()).keys == {Partition("a", 0): [1]}


async def test_record_whose_caller_went_elsewhere_is_not_sent(bench: _Bench) -> None:
    bench.offer(0)
    request = await bench.request()
    late, cancelled, last = (bench.offer(n) for n in (1, 2, 3))
    late.end(Overloaded("late"))
    cancelled.done.cancel()
    request.answer()
    # who only stopped listening may have counted on it
    assert (await bench.request()).keys == {Partition("a", 0): [2, 3]}
    assert not last.done.done()


async def test_slow_answers_narrow_the_window_and_quick_ones_widen_it(bench: _Bench) -> None:
    loop = asyncio.get_running_loop()
    slow = Pending(
        Record(topic="a", key=b"0", value=b""),
        Partition("a", 0),
        began_s=loop.time() - BUDGET_S / 2,
        urgent=True,
    )
    bench.broker.offer(slow, probing=False)
    (await bench.request()).answer()
    await _ended(slow)
    narrow = [bench.offer(n) for n in range(module._MIN_WINDOW)]
    with pytest.raises(Overloaded):
        bench.offer(99)
    bench.offer(100, urgent=False)
    (await bench.request()).answer()
    await _ended(*narrow)
    for n in range(module._MIN_WINDOW + 10):
        bench.offer(n)


async def test_nothing_piles_up_before_a_broker_that_answers_nothing(bench: _Bench) -> None:
    waiting = [bench.offer(n) for n in range(module._SLOW_WINDOW)]
    request = await bench.request()
    bench.broker._heard_s -= 1.1 * BUDGET_S * module._SLOW_AFTER_SHARE
    with pytest.raises(Overloaded):
        bench.offer(999)
    request.answer()
    await _ended(*waiting)
    # a pause that is over has no after-effect
    for n in range(2 * module._SLOW_WINDOW):
        bench.offer(n)


async def test_a_partition_that_hangs_narrows_nothing_while_others_are_answered(
    bench: _Bench,
) -> None:
    bench.offer(0, "hangs")
    await bench.request()
    answered = bench.offer(1, "a")
    overtaking = await bench.request()
    bench.broker._heard_s -= 1.1 * BUDGET_S * module._SLOW_AFTER_SHARE
    overtaking.answer()
    await _ended(answered)
    for n in range(2 * module._SLOW_WINDOW):
        bench.offer(n, "a")


async def test_few_queue_behind_a_partition_that_hangs(bench: _Bench) -> None:
    bench.offer(0, "hangs")
    request = await bench.request()
    bench.offer(1, "a")
    (await bench.request()).answer()
    for n in range(2, module._SLOW_WINDOW + 1):
        bench.offer(n, "hangs")
    bench.broker._lines._lines[0].began_s -= 1.1 * BUDGET_S * module._SLOW_AFTER_SHARE
    with pytest.raises(Overloaded):
        bench.offer(997, "hangs")
    bench.offer(998, "hangs", urgent=False)
    bench.offer(999, "a")
    assert (await bench.request()).keys == {Partition("a", 0): [999]}
    request.answer()
    assert len((await bench.request()).keys[Partition("hangs", 0)]) == module._SLOW_WINDOW - 1


async def test_what_comes_out_of_the_spool_takes_no_place_from_requests(bench: _Bench) -> None:
    bench.broker._window = module._MIN_WINDOW
    for n in range(2 * module._MIN_WINDOW):
        bench.offer(n, urgent=False)
    for n in range(module._MIN_WINDOW):
        bench.offer(n)
    with pytest.raises(Overloaded):
        bench.offer(99)


async def test_queue_is_bounded_in_records_and_bytes(
    bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 3)
    monkeypatch.setattr(module, "MAX_BYTES", 1_000)
    with pytest.raises(Overloaded):
        bench.offer(0, size_bytes=1_000)
    records = [bench.offer(n, urgent=False) for n in range(3)]
    with pytest.raises(Overloaded):
        bench.offer(3, urgent=False)
    (await bench.request()).answer()
    await _ended(*records)
    bench.offer(3, urgent=False)


async def test_batches_are_bounded_in_bytes_and_keep_their_order(bench: _Bench) -> None:
    records = [bench.offer(n, size_bytes=100_000) for n in range(5)]
    sent: list[int] = []
    for _ in range(3):
        request = await bench.request()
        (keys,) = request.keys.values()
        assert len(keys) <= 2
        sent += keys
        request.answer()
    assert sent == [0, 1, 2, 3, 4]
    assert await _ended(*records) == [None] * 5


async def test_record_too_large_fails_alone(bench: _Bench) -> None:
    records = [bench.offer(n) for n in range(3)]
    (await bench.request()).answer(a="MessageSizeTooLargeError")
    for error in (None, "MessageSizeTooLargeError", None):
        request = await bench.request()
        request.answer(**({"a": error} if error else {}))
    fates = [type(fate) for fate in await _ended(*records)]
    assert fates == [type(None), RecordTooLarge, type(None)]


async def test_broker_that_falls_silent_gives_everything_back_at_once(bench: _Bench) -> None:
    first = bench.offer(0)
    request = await bench.request()
    waiting = bench.offer(1)
    request.fail()
    fates = await _ended(first, waiting)
    assert [type(fate) for fate in fates] == [PartitionUnavailable] * 2
    assert not request.line.is_open
    with pytest.raises(PartitionUnavailable):
        bench.offer(2)


async def test_broker_that_fell_silent_is_asked_again_and_used_once_it_answers(
    bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = asyncio.get_running_loop().time()
    monkeypatch.setattr(bench.broker, "_clock", lambda: now_s)
    bench.refuses = True
    await _ended(bench.offer(0))
    await bench.broker.check()  # too early: its pause is not over
    now_s += 10
    await bench.broker.check()
    assert [bench.broker.answers] == [False]
    bench.refuses = False
    now_s += 10
    await bench.broker.check()
    assert bench.broker.answers
    record = bench.offer(1)
    (await bench.request()).answer()
    assert await _ended(record) == [None]


async def test_close_ends_what_is_under_way_and_what_waits(bench: _Bench) -> None:
    first = bench.offer(0)
    await bench.request()
    waiting = bench.offer(1)
    await bench.broker.close()
    assert [type(f) for f in await _ended(first, waiting)] == [PartitionUnavailable] * 2


async def test_finish_waits_for_what_was_taken(bench: _Bench) -> None:
    bench.offer(0)
    finished: list[bool] = []
    finishing = asyncio.create_task(bench.broker.finish(5))
    finishing.add_done_callback(lambda _: finished.append(True))
    request = await bench.request()
    assert not finished
    request.answer()
    await finishing
