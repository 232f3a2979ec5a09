"""Builds source, sink and dead letters from settings; each closes at the end of its block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from consumers.choice import only_tables, topic_pattern
from consumers.dead_letters.dead_letter import DeadLetters
from consumers.dead_letters.embedded import EmbeddedDeadLetters
from consumers.dead_letters.kafka import KafkaDeadLetters
from consumers.projections import all_tables
from consumers.retry import SINK_RETRY, retried
from consumers.settings import Settings
from consumers.sinks.base import Sink
from consumers.sinks.duckdb import DuckDBSink
from consumers.sources.base import LogBounds, WatchedSource
from consumers.sources.embedded import EmbeddedSource, embedded_bounds
from consumers.sources.kafka import KafkaSource
from consumers.sources.kafka_bounds import kafka_bounds
from consumers.values import NextOffsets, Projection
from ingest.contract.catalogue import catalogue
from ingest.contract.eventlog.eventlog import FILE_NAME
from ingest.contract.tables import (
    COURSE_COPIES,
    COURSE_COPIES_COLUMNS,
    EVENTS,
    EVENTS_COLUMNS,
)
from ingest.contract.topics import dead_letter_topic


@asynccontextmanager
async def open_sink(settings: Settings) -> AsyncIterator[DuckDBSink]:
    """The store of the settings, not opened yet."""
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
async def open_dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    """The worker's dead letters, not opened yet."""
    worker = settings.worker.name
    letters: DeadLetters
    if settings.kafka.bootstrap_servers:
        topic = dead_letter_topic(settings.topics.prefix, worker)
        letters = KafkaDeadLetters(settings.kafka.client_options(), topic=topic)
    else:
        letters = EmbeddedDeadLetters(settings.data_dir, worker=worker)
    try:
        yield letters
    finally:
        await letters.close()


@asynccontextmanager
async def open_source(settings: Settings, sink: Sink) -> AsyncIterator[WatchedSource]:
    """The log of the settings, not opened yet; it will begin where the sink's tables end."""

    async def stored_offsets(source_id: str) -> NextOffsets:
        return await retried(lambda: sink.stored_offsets(source_id), SINK_RETRY)

    pattern = topic_pattern(settings.topics.prefix, settings.worker.types)
    source: WatchedSource
    if settings.kafka.bootstrap_servers:
        source = KafkaSource(
            settings.kafka.client_options(),
            worker=settings.worker.name,
            topic_pattern=pattern,
            stored_offsets=stored_offsets,
        )
    else:
        source = EmbeddedSource(
            settings.data_dir / FILE_NAME,
            topic_pattern=pattern,
            stored_offsets=stored_offsets,
            retention_s=settings.eventlog.retention_hours * 3600,
        )
    try:
        yield source
    finally:
        await source.close()


def projection(settings: Settings) -> Projection:
    """Envelope to the rows of the tables that the worker fills."""
    return only_tables(all_tables(catalogue()), settings.worker.tables)


async def log_bounds(settings: Settings) -> LogBounds:
    """What the log of the settings holds now. Raises TopicError or LogFileError."""
    if settings.kafka.bootstrap_servers:
        pattern = topic_pattern(settings.topics.prefix, settings.worker.types)
        return await kafka_bounds(settings.kafka.client_options(), pattern)
    return embedded_bounds(settings.data_dir / FILE_NAME)
