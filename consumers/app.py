"""Builds every object once, runs the worker, and closes in reverse."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog
from aiohttp import web

from consumers.batch_size import BatchSize
from consumers.dead_letters.dead_letter import dead_letter_record
from consumers.metrics import END_OF_LOG, Metrics
from consumers.settings import Settings
from consumers.sinks.one_at_a_time import OneAtATime
from consumers.wiring import open_dead_letters, open_sink, open_source, projection
from consumers.worker import Limits, Worker
from ingest.shared.admin_listener import Check, admin_app, bound_socket, listening
from ingest.shared.background import Background

DRAIN_S = 20.0
"""How long a worker that was told to stop may take to write what it holds."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Runs a worker until SIGTERM or SIGINT.

    Raises SettingsError, StartupError or KafkaRefused before any work, and later what ended the
    worker.
    """
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    async with (
        _admin_socket(settings) as admin_socket,
        open_sink(settings) as store,
        open_dead_letters(settings) as dead_letters,
        open_source(settings, sink := OneAtATime(store)) as source,
    ):
        metrics = Metrics(settings.worker.name)
        metrics.watch_loss(lambda: source.seconds_to_loss)
        worker = Worker(
            source=source,
            sink=sink,
            dead_letters=dead_letters,
            dead_letter_record=partial(
                dead_letter_record, prefix=settings.topics.prefix, worker=settings.worker.name
            ),
            project=projection(settings),
            metrics=metrics,
            limits=Limits(size=_batch_size(settings)),
        )
        async with (
            listening(_admin_app(settings, worker, metrics), admin_socket),
            Background(restarted=metrics.background_restarted) as background,
        ):
            background.start(END_OF_LOG, source.watch_end)
            await _work(worker, stopping)
    log.info("stopped")


def _batch_size(settings: Settings) -> BatchSize:
    return BatchSize(
        flush_interval_s=settings.worker.flush_interval_s,
        max_rows=settings.worker.max_batch_rows,
        max_bytes=settings.worker.max_batch_bytes,
    )


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
async def _admin_socket(settings: Settings) -> AsyncIterator[socket.socket]:
    """The admin listener's port, taken before anything else is done."""
    with bound_socket(settings.worker.admin_host, settings.worker.admin_port) as taken:
        yield taken


def _admin_app(settings: Settings, worker: Worker, metrics: Metrics) -> web.Application:
    async def checks() -> Sequence[Check]:
        reading, free = worker.is_reading, worker.sink_is_free
        return [
            Check(name="log", ok=reading, detail="is read" if reading else "is waited for"),
            Check(name="store", ok=free, detail="can be written" if free else "is in use"),
        ]

    return admin_app(
        program="forebay-consumers",
        registry=metrics.registry,
        checks=checks,
        hosts=(settings.worker.admin_host, *settings.worker.admin_allowed_hosts),
    )
