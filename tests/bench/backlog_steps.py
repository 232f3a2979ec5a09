"""What each step of a worker costs on its own, one after the other in this process."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from consumers.batch import Batch, BatchBuilder
from consumers.batch_size import BatchSize
from consumers.decoder import read_envelope
from consumers.projections import all_tables
from consumers.sinks.duckdb import DuckDBSink
from consumers.values import Partition
from ingest.contract.catalogue import catalogue
from ingest.contract.eventlog.eventlog import EventLogReader
from ingest.contract.record import StoredRecord

EVENTS = 60_000
_HERE = Partition("(all topics)", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one event, in microseconds: of processor time, all threads together, and in all."""

    cpu_us: float
    us: float


def step_costs(log_file: Path, store: Path) -> dict[str, Cost]:
    """Of `read`, `decode`, `project` and `write`, over the first events of a log."""
    clock = _Clock()
    sink = DuckDBSink(store, schema="canvas", worker="steps", first_tables={})
    sink._create({}, {})
    done = 0
    for batch, events in _batches(log_file, clock):
        with clock.running("write"):
            sink._write(batch)
        done += events
    return clock.per_event(done)


def _batches(log_file: Path, clock: "_Clock") -> Iterator[tuple[Batch, int]]:
    reader, size, position, done = EventLogReader.open(log_file), BatchSize(), 1, 0
    records: Sequence[StoredRecord] = ()
    while done < EVENTS and (records or not done):
        builder = BatchBuilder(epoch=0, max_rows=size.max_rows, max_bytes=size.max_bytes)
        while not builder.is_full:
            with clock.running("read"):
                records = reader.read(position)
            if not records:
                break
            position = records[-1].offset + 1
            _take(builder, records, clock)
        done += builder.record_count
        yield builder.freeze("steps"), builder.record_count
    reader.close()


def _take(builder: BatchBuilder, records: Sequence[StoredRecord], clock: "_Clock") -> None:
    with clock.running("decode"):
        envelopes = [read_envelope(record) for record in records]
    with clock.running("project"):
        rows = [tuple(_PROJECT(envelope)) for envelope in envelopes]
    for record, of_event in zip(records, rows, strict=True):
        builder.weigh(value_bytes=len(record.value), timestamp_ms=record.timestamp_ms)
        builder.add(of_event)
    builder.cover({_HERE: records[-1].offset + 1})


class _Clock:
    """Adds up what each step takes."""

    def __init__(self) -> None:
        self._cpu_s: dict[str, float] = defaultdict(float)
        self._s: dict[str, float] = defaultdict(float)

    @contextmanager
    def running(self, step: str) -> Iterator[None]:
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        yield
        self._s[step] += time.perf_counter() - began_s
        self._cpu_s[step] += time.process_time() - began_cpu_s

    def per_event(self, events: int) -> dict[str, Cost]:
        return {
            step: Cost(cpu_us=self._cpu_s[step] / events * 1e6, us=self._s[step] / events * 1e6)
            for step in ("read", "decode", "project", "write")
        }


_PROJECT = all_tables(catalogue())
