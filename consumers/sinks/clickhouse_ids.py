"""Which events a ClickHouse database may have rows of: one table of hashes of their ids, by month.

Only rows of such events are looked for in the tables themselves. So what a batch asks is one query
of eight bytes for each event of its months, where every table of its own would be one query and
65 bytes.
"""

# ruff: noqa: S608  (the only names put into SQL are our own)

from collections.abc import Mapping
from hashlib import blake2b

from consumers.batch import Batch
from consumers.sinks.clickhouse_client import MAX_LISTED, Column, Server
from consumers.sinks.clickhouse_tables import FLUSHED
from consumers.sinks.clickhouse_types import ANY_MONTH, month_of
from consumers.sinks.own_tables import event_id

IDS_TABLE = "forebay_ids"

Events = Mapping[str, int]
"""Ids of events, and the month that all of an event's rows are in."""


class Ids:
    """Written before the rows, so that no table has a row of an event that is unknown here."""

    def __init__(self, server: Server, path: str) -> None:
        self._server = server
        self._path = path

    async def create(self) -> None:
        """Makes the table if it is missing. Raises SinkBusy."""
        await self._server.run(
            f"create table if not exists {self._path} (month UInt32, id UInt64)"
            f" engine = ReplacingMergeTree order by id partition by month settings {FLUSHED}"
        )

    async def known(self, events: Events) -> frozenset[str]:
        """Those of these events that tables may have rows of. Raises SinkBusy."""
        by_hash = {_hash(event): event for event in events}
        months = ", ".join(str(month) for month in sorted({ANY_MONTH, *events.values()}))
        hashes, known = sorted(by_hash), set[str]()
        for first in range(0, len(hashes), MAX_LISTED):
            listed = ", ".join(map(str, hashes[first : first + MAX_LISTED]))
            found = await self._server.rows(
                f"select distinct id from {self._path}"
                f" where month in ({months}) and id in ({listed})"
            )
            known |= {by_hash[id_] for (id_,) in found}
        return frozenset(known)

    async def add(self, events: Events) -> None:
        """From now on these are known. Raises SinkBusy."""
        await self._server.insert(
            self._path,
            {
                "month": Column("UInt32", list(events.values())),
                "id": Column("UInt64", [_hash(event) for event in events]),
            },
        )


def events_of(batch: Batch) -> Events:
    """The events that a batch has rows of."""
    return {event_id(row): month_of(row) for rows in batch.tables.values() for row in rows}


def _hash(event: str) -> int:
    return int.from_bytes(blake2b(event.encode(), digest_size=8).digest())
