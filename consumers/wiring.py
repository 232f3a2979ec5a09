"""Builds source, sink and dead letters from settings; each closes at the end of its block."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypedDict

from consumers.choice import only_tables, topic_pattern
from consumers.dead_letters.dead_letter import DeadLetters
from consumers.dead_letters.embedded import EmbeddedDeadLetters
from consumers.dead_letters.kafka import KafkaDeadLetters
from consumers.errors import StartupError
from consumers.projections import all_tables
from consumers.projections.dialects import DUCKDB
from consumers.projections.view_sql import view_queries
from consumers.retry import SINK_RETRY, retried
from consumers.settings import Settings, StoreKind
from consumers.sinks.base import Sink, Store
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
    ColumnType,
)
from ingest.contract.topics import dead_letter_topic
from ingest.contract.views import base_tables

_EXTRAS: Mapping[StoreKind, str] = {
    "duckdb": "consumers",
    "postgresql": "consumers,postgres",
    "clickhouse": "consumers,clickhouse",
}
"""What is to be installed for each store."""


class _OfEverySink(TypedDict):
    schema: str
    worker: str
    first_tables: Mapping[str, Mapping[str, ColumnType]]


@asynccontextmanager
async def open_sink(settings: Settings) -> AsyncIterator[Store]:
    """The store of the settings, not opened yet. Raises StartupError if packages are missing."""
    try:
        sink = _sink(settings)
    except ModuleNotFoundError as error:
        extras = _EXTRAS[settings.store.kind]
        raise StartupError(
            f"FOREBAY_STORE__URL names a store that needs the package {error.name}, which is not"
            f" installed: pip install 'forebay[{extras}]'"
        ) from error
    try:
        yield sink
    finally:
        await sink.close()


def _sink(settings: Settings) -> Store:
    """Imports no other store's packages: they need not be there, and cost memory."""
    options: _OfEverySink = {
        "schema": settings.store.schema,
        "worker": settings.worker.name,
        "first_tables": {EVENTS: EVENTS_COLUMNS, COURSE_COPIES: COURSE_COPIES_COLUMNS},
    }
    match settings.store.kind:
        case "duckdb":
            from consumers.sinks.duckdb import DuckDBSink

            options["first_tables"] = {EVENTS: EVENTS_COLUMNS, **base_tables()}
            return DuckDBSink(
                settings.store.duckdb_path(),
                **options,
                views=view_queries(DUCKDB, settings.store.schema),
            )
        case "postgresql":
            from consumers.sinks.postgres import PostgresSink

            return PostgresSink(settings.store.url.get_secret_value(), **options)
        case "clickhouse":
            from consumers.sinks.clickhouse import ClickHouseSink
            from consumers.sinks.clickhouse_url import Address

            return ClickHouseSink(Address.of(settings.store.url.get_secret_value()), **options)
        case kind:
            raise StartupError(f"this release has no sink for {kind}")


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
