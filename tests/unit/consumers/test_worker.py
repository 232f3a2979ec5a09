"""The trip, with everything around it in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from consumers.batch_size import BatchSize
from consumers.dead_letters.dead_letter import dead_letter_record
from consumers.errors import OffsetOutOfRange, TooManyPoisons
from consumers.metrics import Metrics
from consumers.projections import all_tables
from consumers.retry import SINK_RETRY
from consumers.sinks.base import Sink
from consumers.sinks.memory import MemorySink, MemoryStore
from consumers.sources.base import Source
from consumers.values import Partition, Polled, Projection, Row
from consumers.worker import Limits, Worker
from ingest.contract.catalogue import catalogue
from ingest.contract.envelope import Envelope
from ingest.contract.record import Record, StoredRecord
from tests.unit.consumers.builders import (
    PREFIX,
    event_id,
    event_record,
    stored_as,
    unreadable_record,
)
from tests.unit.consumers.fakes import (
    READ_LIMIT,
    BusySink,
    Crash,
    Fuse,
    FusedDeadLetters,
    FusedSink,
    FusedSource,
    GatedSink,
    MemoryDeadLetters,
    MemorySource,
)

PROJECT = all_tables(catalogue())
LETTER_RECORD = partial(dead_letter_record, prefix=PREFIX, worker="tables")
EVERY_POLL = Limits(size=BatchSize(flush_interval_s=0.0))
SELDOM = Limits(size=BatchSize(flush_interval_s=60))
A_POLL_FILLS_IT = Limits(size=BatchSize(flush_interval_s=60, max_rows=2 * READ_LIMIT))
"""Every event has two rows."""


@dataclass
class Bench:
    """A log, a store and dead letters, which outlive every worker."""

    log: list[StoredRecord] = field(default_factory=list)
    store: MemoryStore = field(default_factory=MemoryStore)
    letters: FusedDeadLetters = field(default_factory=FusedDeadLetters)
    metrics: Metrics = field(default_factory=lambda: Metrics("tables"))
    sources: list[MemorySource] = field(default_factory=list)

    def append(self, *records: Record, damaged: bool = False) -> None:
        for record in records:
            self.log.append(stored_as(record, len(self.log), damaged=damaged))

    async def work(
        self,
        fuse: Fuse | None = None,
        limits: Limits = EVERY_POLL,
        project: Projection = PROJECT,
    ) -> MemorySource:
        """Runs a new worker until it has read everything, or the fuse blows."""
        fuse = fuse or Fuse()
        sink = MemorySink(self.store, worker="tables")
        stopping = asyncio.Event()
        source = MemorySource(self.log, stored_offsets=sink.stored_offsets, on_idle=stopping.set)
        self.sources.append(source)
        self.letters.fuse = fuse
        worker = Worker(
            source=FusedSource(source, fuse),
            sink=FusedSink(sink, fuse),
            dead_letters=self.letters,
            dead_letter_record=LETTER_RECORD,
            project=project,
            metrics=self.metrics,
            limits=limits,
        )
        await worker.run(stopping)
        return source

    def event_ids(self) -> list[str]:
        return sorted(self.store.tables.get("events", {}))

    def letter_offsets(self) -> list[int]:
        return [int(_header(kept, "forebay_source_offset")) for kept in self.letters.kept]

    def reasons(self) -> list[str]:
        return [_header(kept, "forebay_reason") for kept in self.letters.kept]

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"worker": "tables"} | labels)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def ids(*numbers: int) -> list[str]:
    return sorted(event_id(number) for number in numbers)


async def test_every_event_is_in_its_tables(bench: Bench) -> None:
    bench.append(*(event_record(n) for n in range(20)))
    await bench.work()
    assert bench.event_ids() == ids(*range(20))
    typed = [name for name in bench.store.tables if name != "events"]
    assert sum(len(bench.store.tables[name]) for name in typed) == 20


async def test_repeats_in_the_log_are_one_row(bench: Bench) -> None:
    bench.append(*(event_record(n % 4) for n in range(20)))
    await bench.work()
    assert bench.event_ids() == ids(0, 1, 2, 3)
    assert bench.value("forebay_rows_written_total", table="events") == 4


async def test_an_unreadable_record_becomes_a_dead_letter_and_others_pass(bench: Bench) -> None:
    bench.append(event_record(0), unreadable_record(1), event_record(2))
    bench.append(event_record(3), damaged=True)
    await bench.work()
    assert bench.event_ids() == ids(0, 2)
    assert bench.reasons() == ["not_an_envelope", "damaged"]
    assert bench.letter_offsets() == [1, 3]
    assert bench.value("forebay_dead_letters_total", reason="damaged") == 1


async def test_offsets_pass_over_unreadable_records(bench: Bench) -> None:
    bench.append(unreadable_record(0))
    await bench.work()
    again = await bench.work()
    assert again.lag_records == 0
    assert bench.letter_offsets() == [0]


async def test_many_unreadable_records_in_a_row_stop_the_worker(bench: Bench) -> None:
    bench.append(event_record(0), *(unreadable_record(n) for n in range(1, 9)))
    with pytest.raises(TooManyPoisons, match=r"8 records.*@8"):
        await bench.work(limits=replace(SELDOM, max_poisons=8))
    assert bench.letters.kept == []
    assert bench.store.offsets == {}


async def test_a_projection_that_fails_makes_a_dead_letter_and_no_row_at_all(bench: Bench) -> None:
    bench.append(*(event_record(n) for n in range(3)))
    await bench.work(project=_failing_after_the_first_row_of(1))
    assert bench.event_ids() == ids(0, 2)
    assert (bench.reasons(), bench.letter_offsets()) == (["projection_failed"], [1])
    assert bench.value("forebay_dead_letters_total", reason="projection_failed") == 1


async def test_many_failing_projections_in_a_row_stop_the_worker(bench: Bench) -> None:
    bench.append(*(event_record(n) for n in range(9)))
    with pytest.raises(TooManyPoisons, match="projection_failed"):
        await bench.work(
            limits=replace(SELDOM, max_poisons=8),
            project=_failing_after_the_first_row_of(*range(9)),
        )
    assert bench.store.offsets == {}


async def test_unreadable_records_among_others_stop_nothing(bench: Bench) -> None:
    for n in range(30):
        bench.append(unreadable_record(n) if n % 3 else event_record(n))
    await bench.work(limits=replace(SELDOM, max_poisons=3))
    assert len(bench.letters.kept) == 20


async def test_the_log_is_told_only_after_the_tables() -> None:
    told = 0
    for blows_at in range(1, 12):
        bench = Bench()
        bench.append(*(event_record(n) for n in range(12)))
        with contextlib.suppress(Crash):
            await bench.work(Fuse(blows_at=blows_at))
        committed = bench.sources[-1].committed
        stored = bench.store.offsets.get(("tables", "memory"), {})
        assert all(stored.get(where, 0) >= offset for where, offset in committed.items())
        told += len(committed)
    assert told > 0


async def test_dead_letters_are_durable_before_offsets_pass_them(bench: Bench) -> None:
    bench.append(unreadable_record(0))
    with pytest.raises(Crash):
        await bench.work(Fuse(blows_at=1))
    assert bench.store.offsets == {}
    await bench.work()
    assert bench.letter_offsets() == [0]


async def test_a_crash_at_any_point_loses_nothing_and_doubles_nothing() -> None:
    crashes = 0
    while True:
        bench, fuse = _mixed_bench(), Fuse(blows_at=crashes + 1)
        try:
            await bench.work(fuse)
        except Crash:
            crashes += 1
        else:
            break
        await bench.work()
        assert bench.event_ids() == ids(*range(40))
        assert set(bench.letter_offsets()) == _unreadable_offsets(bench)
    assert crashes > 40, "the sweep has passed the points it is meant to break"


async def test_a_worker_that_crashes_again_and_again_gets_on() -> None:
    bench = _mixed_bench()
    for _ in range(200):
        try:
            # a batch passes at most eight points, so each life writes at least one
            await bench.work(Fuse(blows_at=9))
        except Crash:
            continue
        break
    assert bench.event_ids() == ids(*range(40))


async def test_a_busy_sink_gets_the_same_batch_again(bench: Bench) -> None:
    bench.append(*(event_record(n) for n in range(3)))
    await _work_with_busy_sink(bench, times=2)
    assert bench.event_ids() == ids(0, 1, 2)
    assert bench.value("forebay_sink_busy_total") == 2
    assert bench.value("forebay_batches_written_total") == 1


async def test_a_batch_of_an_older_epoch_is_dropped_and_its_records_come_again(
    bench: Bench,
) -> None:
    bench.append(*(event_record(n) for n in range(3)))
    await _work_with_busy_sink(bench, times=1, rebalance=True)
    assert bench.event_ids() == ids(0, 1, 2)
    assert bench.value("forebay_batches_dropped_total") == 1
    assert bench.value("forebay_records_read_total") == 6


async def test_a_full_batch_is_written_before_its_time(bench: Bench) -> None:
    bench.append(*(event_record(n) for n in range(20)))
    await bench.work(limits=A_POLL_FILLS_IT)
    assert bench.value("forebay_batches_written_total") == 4


async def test_what_is_held_is_written_when_told_to_stop(bench: Bench) -> None:
    bench.append(event_record(0))
    await bench.work(limits=SELDOM)
    assert bench.event_ids() == ids(0)


async def test_lag_counts_what_waits_and_tells_its_age(bench: Bench) -> None:
    bench.append(*(event_record(n) for n in range(7)))
    seen: list[tuple[float | None, float | None]] = []

    async def look() -> None:
        seen.append(
            (
                bench.value("forebay_consumer_lag_records"),
                bench.value("forebay_consumer_lag_seconds"),
            )
        )

    await _work_with_busy_sink(bench, times=1, meanwhile=look, age_s=90.0)
    assert seen == [(7, 90.0)]
    await look()
    assert seen[-1] == (0, 0)


async def test_reading_goes_on_while_a_batch_is_written_and_pauses_when_the_next_is_full(
    bench: Bench,
) -> None:
    bench.append(*(event_record(n) for n in range(4 * READ_LIMIT)))
    async with _gated(bench, limits=A_POLL_FILLS_IT) as site:
        await site.until_read(2 * READ_LIMIT)
        await _turns()
        assert bench.value("forebay_records_read_total") == 2 * READ_LIMIT
        assert bench.value("forebay_consumer_lag_records") == 4 * READ_LIMIT
        site.sink.gate.set()
    assert bench.event_ids() == ids(*range(4 * READ_LIMIT))
    assert site.sink.most_under_way == 1
    assert bench.value("forebay_batches_written_total") == 4


async def test_what_is_being_written_and_what_is_being_filled_are_both_drained(
    bench: Bench,
) -> None:
    bench.append(*(event_record(n) for n in range(READ_LIMIT + 2)))
    async with _gated(bench, limits=A_POLL_FILLS_IT) as site:
        await site.until_read(READ_LIMIT + 2)
        site.stopping.set()
        await _turns()
        assert bench.event_ids() == []
        site.sink.gate.set()
    assert bench.event_ids() == ids(*range(READ_LIMIT + 2))


async def test_a_store_that_is_away_for_long_gets_every_record_once_afterwards(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_pause = replace(SINK_RETRY, pause_s=0.0, longest_pause_s=0.0)
    monkeypatch.setattr("consumers.worker.SINK_RETRY", no_pause)
    bench.append(*(event_record(n) for n in range(20 * READ_LIMIT)))
    held = set[float | None]()

    async def look() -> None:
        held.add(bench.value("forebay_records_read_total"))

    await _work_with_busy_sink(bench, times=1_000, meanwhile=look, limits=A_POLL_FILLS_IT)
    assert held <= {READ_LIMIT, 2 * READ_LIMIT}, "no more is held than two batches"
    assert bench.event_ids() == ids(*range(20 * READ_LIMIT))


async def test_after_a_rebalance_nothing_that_was_read_before_is_committed_or_begun_to_be_written(
    bench: Bench,
) -> None:
    bench.append(*(event_record(n) for n in range(3 * READ_LIMIT)))
    async with _gated(bench, limits=A_POLL_FILLS_IT) as site:
        await site.until_read(2 * READ_LIMIT)
        await site.source.rebalance()
        site.sink.gate.set()
    assert [batch.epoch for batch in site.sink.begun] == [1, 2, 2, 2]
    assert bench.value("forebay_batches_dropped_total") == 1
    assert bench.event_ids() == ids(*range(3 * READ_LIMIT))
    assert site.source.commits == 3, "what is of the epoch that is over is not committed"


async def test_a_worker_that_wakes_up_after_another_did_its_work_changes_nothing(
    bench: Bench,
) -> None:
    bench.append(*(event_record(n) for n in range(READ_LIMIT)))
    async with _gated(bench, limits=A_POLL_FILLS_IT) as asleep:
        await asleep.until_read(READ_LIMIT)
        bench.append(*(event_record(n) for n in range(READ_LIMIT, 2 * READ_LIMIT)))
        await bench.work()
        written, offsets = bench.event_ids(), dict(bench.store.offsets["tables", "memory"])
        asleep.stopping.set()
        asleep.sink.gate.set()
    assert asleep.sink.begun, "it did write"
    assert bench.event_ids() == written == ids(*range(2 * READ_LIMIT))
    assert bench.store.offsets["tables", "memory"] == offsets


async def test_what_was_read_is_written_before_records_that_are_gone_stop_the_worker(
    bench: Bench,
) -> None:
    bench.append(*(event_record(n) for n in range(2 * READ_LIMIT)))
    sink = MemorySink(bench.store, worker="tables")
    source = _TrimmedSource(bench.log, stored_offsets=sink.stored_offsets)
    with pytest.raises(OffsetOutOfRange, match="offsets reset --to earliest"):
        await _worker(bench, source, sink, SELDOM).run(asyncio.Event())
    assert bench.event_ids() == ids(*range(2 * READ_LIMIT))


def _failing_after_the_first_row_of(*numbers: int) -> Projection:
    failing = {event_id(number) for number in numbers}

    def rows(envelope: Envelope) -> Iterable[Row]:
        for row in PROJECT(envelope):
            yield row
            if envelope.event_id in failing:
                raise RuntimeError("a fault of ours")

    return rows


def _header(kept: StoredRecord, name: str) -> str:
    return dict(kept.headers)[name].decode()


def _mixed_bench() -> Bench:
    bench = Bench()
    for n in range(60):
        bench.append(event_record(n % 40))
        if n % 13 == 5:
            bench.append(unreadable_record(n))
    return bench


def _unreadable_offsets(bench: Bench) -> set[int]:
    return {record.offset for record in bench.log if record.value.startswith(b"not")}


class _TrimmedSource(MemorySource):
    """Of its log the records behind those that are there were removed."""

    async def poll(self, *, timeout_s: float) -> Polled:
        polled = await super().poll(timeout_s=timeout_s)
        if not polled.records:
            raise OffsetOutOfRange(Partition("memory", 0), stored=10, first=20, next_=30)
        return polled


@dataclass
class _Gated:
    """A worker at work whose sink lets nothing through before its gate is opened."""

    source: MemorySource
    sink: GatedSink
    bench: Bench
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_read(self, records: int) -> None:
        async with asyncio.timeout(10):
            while (self.bench.value("forebay_records_read_total") or 0) < records:
                await _turns()


@contextlib.asynccontextmanager
async def _gated(bench: Bench, *, limits: Limits) -> AsyncIterator[_Gated]:
    """Ends once it has read everything, or was told to stop."""
    stopping = asyncio.Event()
    memory = MemorySink(bench.store, worker="tables")
    source = MemorySource(bench.log, stored_offsets=memory.stored_offsets, on_idle=stopping.set)
    site = _Gated(source=source, sink=GatedSink(memory), bench=bench, stopping=stopping)
    working = asyncio.create_task(_worker(bench, source, site.sink, limits).run(stopping))
    try:
        yield site
        await working
    finally:
        working.cancel()


def _worker(
    bench: Bench, source: Source, sink: Sink, limits: Limits, *, age_s: float = 0.0
) -> Worker:
    return Worker(
        source=source,
        sink=sink,
        dead_letters=MemoryDeadLetters(),
        dead_letter_record=LETTER_RECORD,
        project=PROJECT,
        metrics=bench.metrics,
        limits=limits,
        unix_s=lambda: bench.log[0].timestamp_ms / 1000 + age_s,
    )


async def _turns() -> None:
    """Lets whoever could go on do so."""
    for _ in range(100):
        await asyncio.sleep(0)


async def _nothing() -> None:
    pass


async def _work_with_busy_sink(
    bench: Bench,
    *,
    times: int,
    rebalance: bool = False,
    meanwhile: Callable[[], Awaitable[None]] = _nothing,
    age_s: float = 0.0,
    limits: Limits = SELDOM,
) -> None:
    memory: Sink = MemorySink(bench.store, worker="tables")
    stopping = asyncio.Event()
    source = MemorySource(bench.log, stored_offsets=memory.stored_offsets, on_idle=stopping.set)
    sink = BusySink(memory, times, source.rebalance if rebalance else meanwhile)
    limits = EVERY_POLL if rebalance else limits
    await _worker(bench, source, sink, limits, age_s=age_s).run(stopping)
