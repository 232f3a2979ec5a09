"""What an outage of Kafka costs: filling the spool, emptying it, and memory with much in it."""

import asyncio
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

from ingest.contract.record import Record
from ingest.contract.topics import ingest_topics
from ingest.spool.files.rows import NewRecord
from ingest.spool.files.store import FILE_NAME, SpoolFile
from tests.bench import load
from tests.emulator.canvas import Canvas
from tests.kafka.broker import Cluster
from tests.support import processes

TOKENS = 2_000
RECORD_BYTES = 1_500
_MEMORY_EVERY_S = 0.1
_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One outage: rates in events a second, memory in megabytes."""

    arrived_per_s: float
    arrived_p99_ms: float
    drained_per_s: float
    drained_beside_load_per_s: float
    load_beside_drain_per_s: float
    load_beside_drain_p99_ms: float
    peak_rss_mb: float


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="Length of each outage.")
@click.option("--connections", default=64, show_default=True)
@click.option("--spooled-mb", default=1_000, show_default=True, help="Spool found at start.")
def main(seconds: float, connections: int, spooled_mb: int) -> None:
    """Measure the receiver while Kafka is down and after it has come back."""
    with tempfile.TemporaryDirectory() as directory:
        outage = asyncio.run(_measure(Path(directory), seconds, connections))
        peak_mb, drained_per_s = asyncio.run(_with_much_spooled(Path(directory), spooled_mb))
    click.echo(
        f"{connections} connections by {load.generator()}, outages of {seconds:g} s;"
        f" {psutil.cpu_count()} cores\n"
        f"into the spool: {outage.arrived_per_s:,.0f} events/s,"
        f" p99 {outage.arrived_p99_ms:.1f} ms\n"
        f"out of it: {outage.drained_per_s:,.0f} events/s,"
        f" {outage.drained_per_s / outage.arrived_per_s:.1f} times the arrival\n"
        f"out of it beside full load: {outage.drained_beside_load_per_s:,.0f} events/s, while"
        f" {outage.load_beside_drain_per_s:,.0f} events/s arrived,"
        f" p99 {outage.load_beside_drain_p99_ms:.1f} ms\n"
        f"peak RSS {outage.peak_rss_mb:.0f} MB; with {spooled_mb} MB found in the spool"
        f" {peak_mb:.0f} MB, drained at {drained_per_s:,.0f} events/s"
    )


async def _measure(directory: Path, seconds: float, connections: int) -> Outage:
    async with Canvas() as canvas:
        signing = asyncio.to_thread(canvas.sign_events, TOKENS, name="submission_created")
        tokens = [event.token.decode() for event in await signing]
        return await asyncio.to_thread(_outage, canvas, directory, tokens, seconds, connections)


def _outage(
    canvas: Canvas, directory: Path, tokens: list[str], seconds: float, connections: int
) -> Outage:
    with _site(canvas, directory / "outage") as (cluster, program, port):

        def offer(for_s: float) -> load.Answers:
            file = directory / "tokens"
            return load.offer(port, tokens, connections=connections, seconds=for_s, file=file)

        offer(2.0)
        with _memory(program.pid) as peak:
            cluster.brokers[0].kill()
            offer(3.0)  # the first of these pay the budget
            arrived = offer(seconds)
            cluster.brokers[0].start()
            drained_per_s = _drained(program)
            cluster.brokers[0].kill()
            offer(seconds)
            cluster.brokers[0].start()
            _wait_until_falling(program)
            left, began = _waiting(program), time.monotonic()
            beside = offer(min(seconds, 5.0))
            beside_per_s = max(0.0, (left - _waiting(program)) / (time.monotonic() - began))
            _drained(program)
    return Outage(
        arrived_per_s=arrived.requests / arrived.seconds,
        arrived_p99_ms=arrived.p99_ms,
        drained_per_s=drained_per_s,
        drained_beside_load_per_s=beside_per_s,
        load_beside_drain_per_s=beside.requests / beside.seconds,
        load_beside_drain_p99_ms=beside.p99_ms,
        peak_rss_mb=peak[0],
    )


async def _with_much_spooled(directory: Path, spooled_mb: int) -> tuple[float, float]:
    """Peak memory and drain rate of a receiver that finds so much at its start."""
    async with Canvas() as canvas:
        return await asyncio.to_thread(_much_spooled, canvas, directory / "much", spooled_mb)


def _much_spooled(canvas: Canvas, directory: Path, spooled_mb: int) -> tuple[float, float]:
    _fill(directory / "data" / "spool" / FILE_NAME, spooled_mb)
    with _site(canvas, directory) as (_, program, _port), _memory(program.pid) as peak:
        drained_per_s = _drained(program)
    return peak[0], drained_per_s


def _fill(path: Path, megabytes: int) -> None:
    """A spool of so many megabytes of records for all topics in turn."""
    path.parent.mkdir(parents=True)
    file = SpoolFile.open(path)
    topics = [name for name in ingest_topics("canvas") if ".live-events." in name]
    value = b'{"metadata":{},"body":{"filler":"' + b"x" * RECORD_BYTES + b'"}}'
    for start in range(0, megabytes * 1_000_000 // RECORD_BYTES, _BATCH):
        items = [
            NewRecord(
                record=Record(topic=topics[number % len(topics)], key=b"%d" % number, value=value),
                source="live-events",
            )
            for number in range(start, start + _BATCH)
        ]
        file.append(items, max_bytes=1 << 62)
    file.close()


@contextmanager
def _site(canvas: Canvas, directory: Path) -> Iterator[tuple[Cluster, processes.Program, int]]:
    with Cluster(directory=directory / "kafka-data") as cluster:
        settings = {"FOREBAY_KAFKA__BOOTSTRAP_SERVERS": cluster.bootstrap_servers}
        processes.make_topics(settings)
        port = processes.free_port()
        program = processes.receiver(
            directory,
            port=port,
            tenants_toml=canvas.tenants_toml(),
            settings={**canvas.receiver_environment(), **settings},
            command=processes.FORGETFUL,
        )
        with program:
            yield cluster, program, port


def _waiting(program: processes.Program) -> int:
    found = re.search(r"^forebay_spool_records\{.*\} (\S+)$", program.get("/metrics"), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def _wait_until_falling(program: processes.Program) -> None:
    before = _waiting(program)
    while _waiting(program) >= before - 100 and before:
        time.sleep(0.05)


def _drained(program: processes.Program) -> float:
    """Waits until the spool is empty; the rate from when it began to fall."""
    _wait_until_falling(program)
    left, began = _waiting(program), time.monotonic()
    while _waiting(program):
        time.sleep(0.05)
    return left / (time.monotonic() - began)


@contextmanager
def _memory(pid: int) -> Iterator[list[float]]:
    """The first item is the largest resident memory of the process so far, in megabytes."""
    peak, process, ended = [0.0], psutil.Process(pid), threading.Event()

    def watch() -> None:
        while not ended.wait(_MEMORY_EVERY_S):
            peak[0] = max(peak[0], process.memory_info().rss / 1e6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


if __name__ == "__main__":
    main()
