"""The trip, with everything around it in memory."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import pytest

from consumers.dead_letters.dead_letter import dead_letter_record
from consumers.errors import TooManyPoisons
from consumers.metrics import Metrics
from consumers.projections import all_tables
from consumers.sinks.base import Sink
from consumers.sinks.memory import MemorySink, MemoryStore
from consumers.values import Projection, Row
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
    BusySink,
    Crash,
    Fuse,
    FusedDeadLetters,
    FusedSink,
    FusedSource,
    MemoryDeadLetters,
    MemorySource,
)

PROJECT = all_tables(catalogue())
LETTER_RECORD = partial(dead_letter_record, prefix=PREFIX, worker="tables")
EVERY_POLL = Limits(flush_interval_s=0.0)


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
        await bench.work(limits=Limits(flush_interval_s=60, max_poisons=8))
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
            limits=Limits(flush_interval_s=60, max_poisons=8),
            project=_failing_after_the_first_row_of(*range(9)),
        )
    assert bench.store.offsets == {}


async def test_unreadable_records_among_others_stop_nothing(bench: Bench) -> None:
    for n in range(30):
        bench.append(unreadable_record(n) if n % 3 else event_record(n))
    await bench.work(limits=Limits(flush_interval_s=60, max_poisons=3))
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
    await bench.work(limits=Limits(flush_interval_s=60, max_rows=10))
    assert bench.value("forebay_batches_written_total") == 4


async def test_what_is_held_is_written_when_told_to_stop(bench: Bench) -> None:
    bench.append(event_record(0))
    await bench.work(limits=Limits(flush_interval_s=60))
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


async def _nothing() -> None:
    pass


async def _work_with_busy_sink(
    bench: Bench,
    *,
    times: int,
    rebalance: bool = False,
    meanwhile: Callable[[], Awaitable[None]] = _nothing,
    age_s: float = 0.0,
) -> None:
    memory: Sink = MemorySink(bench.store, worker="tables")
    stopping = asyncio.Event()
    source = MemorySource(bench.log, stored_offsets=memory.stored_offsets, on_idle=stopping.set)
    worker = Worker(
        source=source,
        sink=BusySink(memory, times, source.rebalance if rebalance else meanwhile),
        dead_letters=MemoryDeadLetters(),
        dead_letter_record=LETTER_RECORD,
        project=PROJECT,
        metrics=bench.metrics,
        limits=EVERY_POLL if rebalance else Limits(flush_interval_s=60),
        unix_s=lambda: bench.log[0].timestamp_ms / 1000 + age_s,
    )
    await worker.run(stopping)
