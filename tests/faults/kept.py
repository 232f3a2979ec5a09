"""What topics and tables hold, read past our own programs as far as that can be."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.integration.ingest.site import read_log
from tests.support import tables

READ_TIMEOUT_S = 60.0

Place = tuple[str, int]
"""A topic and a partition of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One record of a topic. `event_id` is empty where the record names none."""

    place: Place
    offset: int
    event_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """All topics of a site at one moment."""

    prefix: str
    records: Sequence[Kept]

    @property
    def trusted(self) -> list[Kept]:
        """Records that subscribers get."""
        pattern = re.compile(rf"{re.escape(self.prefix)}\.(live-events|pns)\.")
        return [record for record in self.records if pattern.match(record.place[0])]

    @property
    def quarantined(self) -> frozenset[str]:
        """Keys of the quarantine topic: event ids, or hashes of tokens that nobody can read."""
        topic = f"{self.prefix}.quarantine.v1"
        return frozenset(record.key for record in self.records if record.place[0] == topic)

    @property
    def ends(self) -> Mapping[Place, int]:
        """For each place that subscribers read, the offset after its last record."""
        ends: dict[Place, int] = {}
        for record in self.trusted:
            ends[record.place] = max(ends.get(record.place, 0), record.offset + 1)
        return ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """All tables of a store at one moment: event ids by table, with their repeats."""

    event_ids: Mapping[str, Counter[str]]

    @property
    def events(self) -> Counter[str]:
        """Of the table that has every type."""
        return self.event_ids.get("events", Counter())

    @property
    def duplicate_rows(self) -> int:
        """Rows beyond the first of an event, over all tables."""
        return sum(ids.total() - len(ids) for ids in self.event_ids.values())


async def read_topics(servers: str, prefix: str) -> Topics:
    """Every record of the site's topics, by a consumer without a group."""
    places = await _places(servers, prefix)
    async with (
        asyncio.timeout(READ_TIMEOUT_S),
        AIOKafkaConsumer(
            bootstrap_servers=servers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            # a broker waits for more where a partition has been read to its end
            fetch_max_wait_ms=10,
        ) as consumer,
    ):
        # of a topic that it is not assigned to, it asks for the metadata alone, a tenth of a second
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        rest = {place: end for place, end in ends.items() if end}
        records = [record async for record in _records_until(consumer, rest)]
    return Topics(prefix=prefix, records=records)


async def _places(servers: str, prefix: str) -> list[TopicPartition]:
    async with admin_client(servers) as admin:
        names = [name for name in await admin.list_topics() if name.startswith(f"{prefix}.")]
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await admin.describe_topics(names)
            for partition in topic["partitions"]
        ]


async def _records_until(consumer: Any, ends: Mapping[TopicPartition, int]) -> AsyncIterator[Kept]:
    rest = dict(ends)
    while rest:
        fetched = await consumer.getmany(*rest, timeout_ms=1_000)
        for place, records in fetched.items():
            for record in records:
                yield _kept(record, (place.topic, place.partition))
            if records[-1].offset + 1 >= rest[place]:
                del rest[place]


def read_embedded(directory: Path, prefix: str) -> Topics:
    """Every record of the embedded event log under `directory`."""
    return Topics(
        prefix=prefix,
        records=[_kept(record, (record.topic, record.partition)) for record in read_log(directory)],
    )


def _kept(record: Any, place: Place) -> Kept:
    event_id = dict(record.headers).get("ce_id", b"")
    key = (record.key or b"").decode(errors="replace")
    return Kept(place=place, offset=record.offset, event_id=event_id.decode(), key=key)


def read_tables(store: Path) -> Tables:
    """Every event id of every table of a DuckDB file. Waits while the worker has it open."""
    names = _query(
        store,
        "select table_name from information_schema.columns where table_schema = 'canvas'"
        " and column_name = 'event_id' and table_name in (select table_name from duckdb_tables())",
    )
    ids: dict[str, Counter[str]] = {name: Counter() for (name,) in names}
    each = (f"select '{name}', event_id from canvas.\"{name}\"" for name in ids)
    for name, event_id in _query(store, " union all ".join(each)) if ids else ():
        ids[name][event_id] += 1
    return Tables(event_ids=ids)


def read_offsets(store: Path, *, worker: str) -> dict[Place, int]:
    """How far the worker's tables are complete."""
    columns = "topic, partition, next_offset"
    sql = f"select {columns} from canvas.forebay_offsets where worker = '{worker}'"
    return {(topic, number): offset for topic, number, offset in _query(store, sql)}


def _query(store: Path, sql: str) -> list[tuple[Any, ...]]:
    try:
        return tables.query(store, sql)
    except duckdb.CatalogException:  # the worker has made no table yet
        return []


async def delete_topics(servers: str, prefix: str) -> None:
    """Takes the site's topics away, so that the next one's broker is not busy with them."""
    async with admin_client(servers) as admin:
        names = [name for name in await admin.list_topics() if name.startswith(f"{prefix}.")]
        await admin.delete_topics(names)


@contextlib.asynccontextmanager
async def admin_client(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """One that is connected, past all proxies."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
