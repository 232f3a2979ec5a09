"""Builds every object once, runs the worker, and closes in reverse."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from consumers.dead_letter import DeadLetters, EmbeddedDeadLetters, KafkaDeadLetters
from consumers.metrics import Metrics
from consumers.projections import all_tables
from consumers.retry import retried
from consumers.settings import Settings
from consumers.sinks.base import Sink
from consumers.sinks.duckdb import DuckDBSink
from consumers.sources.base import Source
from consumers.sources.embedded import EmbeddedSource
from consumers.sources.kafka import KafkaSource
from consumers.values import NextOffsets
from consumers.worker import SINK_RETRY, Limits, Worker
from ingest.contract.catalogue import catalogue
from ingest.contract.eventlog.eventlog import FILE_NAME
from ingest.contract.tables import (
    COURSE_COPIES,
    COURSE_COPIES_COLUMNS,
    EVENTS,
    EVENTS_COLUMNS,
)
from ingest.contract.topics import event_topic_pattern
from ingest.shared.admin_listener import Check, admin_app, bound_socket, listening

DRAIN_S = 20.0
"""How long a worker that was told to stop may take to write what it holds."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Runs a worker until SIGTERM or SIGINT.

    Raises SettingsError or StartupError before any work, and later what ended the worker.
    """
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    async with (
        _admin_socket(settings) as admin_socket,
        _sink(settings) as sink,
        _dead_letters(settings) as dead_letters,
        _source(settings, sink) as source,
    ):
        metrics = Metrics(settings.worker.name)
        worker = Worker(
            source=source,
            sink=sink,
            dead_letters=dead_letters,
            project=all_tables(catalogue()),
            metrics=metrics,
            limits=Limits(
                flush_interval_s=settings.worker.flush_interval_s,
                max_rows=settings.worker.max_batch_rows,
            ),
        )
        async with listening(_admin_app(worker, metrics), admin_socket):
            await _work(worker, stopping)
    log.info("stopped")


async def _work(worker: Worker, stopping: asyncio.Event) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(worker.run(stopping))
            told = tasks.create_task(stopping.wait())
            await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await _drained(worker, work)
            told.cancel()
    except BaseExceptionGroup as group:
        # there is one task that can fail
        raise group.exceptions[0] from None


async def _drained(worker: Worker, work: "asyncio.Task[None]") -> None:
    log.info("stopping")
    await asyncio.wait({work}, timeout=DRAIN_S if worker.is_reading else 0)
    if not work.done():
        if worker.is_reading:
            log.warning("stopped before all was written; what is missing comes again")
        work.cancel()


@asynccontextmanager
async def _sink(settings: Settings) -> AsyncIterator[Sink]:
    sink = DuckDBSink(
        settings.store.duckdb_path(),
        schema=settings.store.schema,
        worker=settings.worker.name,
        first_tables={
            EVENTS: EVENTS_COLUMNS,
            COURSE_COPIES: COURSE_COPIES_COLUMNS,
        },
    )
    try:
        yield sink
    finally:
        await sink.close()


@asynccontextmanager
async def _dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    prefix, worker = settings.topics.prefix, settings.worker.name
    letters: DeadLetters
    if settings.kafka.bootstrap_servers:
        letters = KafkaDeadLetters(settings.kafka.client_options(), prefix=prefix, worker=worker)
    else:
        letters = EmbeddedDeadLetters(settings.data_dir, prefix=prefix, worker=worker)
    try:
        yield letters
    finally:
        await letters.close()


@asynccontextmanager
async def _source(settings: Settings, sink: Sink) -> AsyncIterator[Source]:
    async def stored_offsets(source_id: str) -> NextOffsets:
        return await retried(lambda: sink.stored_offsets(source_id), SINK_RETRY)

    pattern = event_topic_pattern(settings.topics.prefix)
    source: Source
    if settings.kafka.bootstrap_servers:
        source = KafkaSource(
            settings.kafka.client_options(),
            worker=settings.worker.name,
            topic_pattern=pattern,
            stored_offsets=stored_offsets,
        )
    else:
        source = EmbeddedSource(
            settings.data_dir / FILE_NAME, topic_pattern=pattern, stored_offsets=stored_offsets
        )
    try:
        yield source
    finally:
        await source.close()


@asynccontextmanager
async def _admin_socket(settings: Settings) -> AsyncIterator[socket.socket]:
    """The admin listener's port, taken before anything else is done."""
    with bound_socket(settings.worker.admin_host, settings.worker.admin_port) as taken:
        yield taken


def _admin_app(worker: Worker, metrics: Metrics) -> web.Application:
    async def checks() -> Sequence[Check]:
        reading, free = worker.is_reading, worker.sink_is_free
        return [
            Check(name="log", ok=reading, detail="is read" if reading else "is waited for"),
            Check(name="store", ok=free, detail="can be written" if free else "is in use"),
        ]

    return admin_app(program="forebay-consumers", registry=metrics.registry, checks=checks)
