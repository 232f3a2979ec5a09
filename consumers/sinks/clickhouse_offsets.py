"""How far each worker's tables are complete, and whether a worker is running.

ClickHouse has no transactions over tables and no locks. So offsets are only ever added: of those of
a partition the greatest counts. An operator who replaces them begins a new `era`, and whatever is
written in an older one, by a worker that was stopped for long and woke up, counts no more.
"""

# ruff: noqa: S608  (the only names put into SQL are our own)

import asyncio
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from consumers.errors import SinkBusy, WorkerRunning
from consumers.sinks.clickhouse_client import Column, Server
from consumers.sinks.clickhouse_tables import FLUSHED
from consumers.sinks.own_tables import offset_rows
from consumers.values import NextOffsets, Partition

RUNNING_TABLE = "forebay_running"
BEAT_EVERY_S = 10.0
GONE_AFTER_S = 45
"""A worker that has not been heard of for so long does not run; by the server's clock."""

_NO_PARTITION = Partition("", -1)
"""Stands for the beginning of an era, which may have no offset."""

_TYPES = {
    "worker": "String",
    "source_id": "String",
    "era": "UInt32",
    "topic": "String",
    "partition": "Int64",
    "next_offset": "Int64",
}


@dataclass(slots=True)
class _Stored:
    era: int = 0
    offsets: dict[Partition, int] = field(default_factory=dict)


class Offsets:
    """One worker's, in `OFFSETS_TABLE`. Every method raises SinkBusy."""

    def __init__(self, server: Server, path: str, worker: str) -> None:
        self._server = server
        self._path = path
        self._worker = worker
        self._eras: dict[str, int] = {}

    async def create(self) -> None:
        """Makes the table if it is missing."""
        columns = ", ".join(f"{name} {sql_type}" for name, sql_type in _TYPES.items())
        await self._server.run(
            f"create table if not exists {self._path} ({columns})"
            " engine = ReplacingMergeTree(next_offset)"
            f" order by (worker, source_id, era, topic, partition) settings {FLUSHED}"
        )

    async def all(self) -> Mapping[str, NextOffsets]:
        """By source id."""
        return {source: each.offsets for source, each in (await self._stored()).items()}

    async def of(self, source_id: str) -> NextOffsets:
        """One source's; what is written from now on belongs to their era."""
        stored = (await self._stored()).get(source_id, _Stored())
        self._eras[source_id] = stored.era
        return stored.offsets

    async def write(self, source_id: str, offsets: NextOffsets) -> None:
        """Adds them."""
        if source_id not in self._eras:
            await self.of(source_id)
        await self._insert(source_id, offsets, era=self._eras[source_id])

    async def replace(self, source_id: str, offsets: NextOffsets) -> None:
        """Begins an era with them."""
        stored = (await self._stored()).get(source_id, _Stored())
        await self._insert(source_id, {_NO_PARTITION: 0, **offsets}, era=stored.era + 1)

    async def _insert(self, source_id: str, offsets: NextOffsets, *, era: int) -> None:
        rows = [{**row, "era": era} for row in offset_rows(self._worker, source_id, offsets)]
        if rows:
            columns = {n: Column(kind, [row[n] for row in rows]) for n, kind in _TYPES.items()}
            await self._server.insert(self._path, columns)

    async def _stored(self) -> dict[str, _Stored]:
        """By source id, each with its last era."""
        found: dict[str, _Stored] = {}
        for source_id, era, topic, number, offset in await self._server.rows(
            f"select source_id, era, topic, partition, max(next_offset) from {self._path}"
            " where worker = %(worker)s group by all order by all",
            worker=self._worker,
        ):
            stored = found.setdefault(source_id, _Stored(era))
            if era != stored.era:
                stored = found[source_id] = _Stored(era)
            if (partition := Partition(topic, number)) != _NO_PARTITION:
                stored.offsets[partition] = offset
        return found


class Running:
    """Says that a sink of this worker is open, again and again, in `RUNNING_TABLE`."""

    def __init__(self, server: Server, path: str, worker: str) -> None:
        self._server = server
        self._path = path
        self._worker = worker
        self._sink = uuid.uuid4().hex

    async def create(self) -> None:
        """Makes the table if it is missing. Raises SinkBusy."""
        await self._server.run(
            f"create table if not exists {self._path} (worker String, sink String,"
            " is_open Bool, seen_at DateTime64(3) default now64(3))"
            " engine = ReplacingMergeTree(seen_at) order by (worker, sink)"
            " ttl toDateTime(seen_at) + interval 1 day"
        )

    async def say(self, *, is_open: bool) -> None:
        """Says it once. Raises SinkBusy."""
        await self._server.run(
            f"insert into {self._path} (worker, sink, is_open)"
            " values (%(worker)s, %(sink)s, %(is_open)s)",
            worker=self._worker,
            sink=self._sink,
            is_open=is_open,
        )

    async def keep_saying(self) -> None:
        """Says it until it is cancelled; while the server is away there is nobody to tell."""
        while True:
            await asyncio.sleep(BEAT_EVERY_S)
            with suppress(SinkBusy):
                await self.say(is_open=True)

    async def refuse_if_open(self) -> None:
        """Raises WorkerRunning while a sink of this worker is open, or SinkBusy."""
        found = await self._server.rows(
            f"select sink from {self._path} final where worker = %(worker)s and is_open"
            f" and seen_at > now64(3) - interval {GONE_AFTER_S} second limit 1",
            worker=self._worker,
        )
        if found:
            raise WorkerRunning(
                f"the worker {self._worker!r} is running: stop it first; after one that was killed"
                f" wait for {GONE_AFTER_S} s"
            )
