"""The spool's file: records that wait for Kafka, and tokens that wait for keys. One owner."""

import heapq
import itertools
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from ingest.contract.envelope import Source
from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import LogFull, Usage
from ingest.spool.files.format import SPOOL
from ingest.spool.files.rows import (
    RECORD_COLUMNS,
    TOKEN_COLUMNS,
    Contents,
    Held,
    HeldToken,
    Item,
    TokenCount,
    TopicCount,
    held_of,
    held_token_of,
    insertions,
    size_of,
    source_of,
)

FILE_NAME = "spool.sqlite3"

# nobody else writes; who only looks must not hold up a write for longer
_BUSY_TIMEOUT_MS = 50
_ONE_RECORD = f"select id, {RECORD_COLUMNS} from record where id = ?"  # noqa: S608 - our own names

_SIZE = "coalesce(size_bytes, length(key) + length(value))"  # version 1 kept none
_LIVE_EVENTS: Source = "live-events"
_PNS: Source = "pns"

Table = Literal["record", "token"]
HeldItem = TypeVar("HeldItem", Held, HeldToken)


class SpoolFile:
    """Blocking; for one thread at a time. Every change is on the disk when its call returns.

    Whatever the disk refuses is raised as sqlite3.Error, and changes nothing.
    """

    def __init__(self, connection: sqlite3.Connection, *, path: Path) -> None:
        self._connection = connection
        self.usage = Usage(connection, path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the spool, making it if there is none. Raises LogFileError or OSError."""
        connection = logfile.open_for_writing(path, SPOOL)
        connection.execute(f"pragma busy_timeout={_BUSY_TIMEOUT_MS}")
        connection.text_factory = logfile.decode_text
        return cls(connection, path=path)

    def append(self, items: Sequence[Item], *, max_bytes: int) -> int:
        """Appends all or none, at most `logfile.APPEND_LIMIT`; returns the bytes used then.

        Raises LogFull beyond the bound.
        """
        more_bytes = sum(map(size_of, items))
        used_bytes = self.usage.used_bytes()
        if used_bytes + more_bytes > max_bytes:
            raise LogFull(f"the spool has reached its bound of {max_bytes} bytes")
        self._change(insertions(items))
        return used_bytes + more_bytes

    def read(self, *, after: int, limit: int, max_bytes: int) -> list[Held]:
        """The oldest records beyond an id, at least one if there is any."""
        statement = f"select id, {RECORD_COLUMNS} from record where id > ? order by id limit ?"  # noqa: S608
        with closing(self._connection.execute(statement, (after, limit))) as found:
            return _up_to(map(held_of, found), max_bytes)

    def read_topics(
        self, topics: Collection[str], *, after: int, limit: int, max_bytes: int
    ) -> list[Held]:
        """The same of these topics alone; records of others are not looked at."""
        # a damaged topic is no text, and can be asked for as bytes alone
        statement = (
            "select id from record where topic = cast(? as text) and id > ? order by id limit ?"
        )
        with ExitStack() as stack:  # an open read keeps the write-ahead log from shrinking
            by_topic = [
                stack.enter_context(
                    closing(self._connection.execute(statement, (_raw(topic), after, limit)))
                )
                for topic in topics
            ]
            ids = itertools.islice(heapq.merge(*by_topic), limit)
            rows = (self._connection.execute(_ONE_RECORD, id_).fetchone() for id_ in ids)
            return _up_to((held_of(row) for row in rows if row is not None), max_bytes)

    def read_tokens(self, *, after: int, limit: int, max_bytes: int) -> list[HeldToken]:
        """The oldest tokens beyond an id, at least one if there is any."""
        statement = f"select id, {TOKEN_COLUMNS} from token where id > ? order by id limit ?"  # noqa: S608
        with closing(self._connection.execute(statement, (after, limit))) as found:
            return _up_to(map(held_token_of, found), max_bytes)

    def forget(self, ids: Sequence[int]) -> int:
        """Removes records; how many of them there were."""
        return self._change([_deletion("record", ids)])

    def forget_tokens(self, ids: Sequence[int]) -> int:
        """Removes tokens; how many of them there were."""
        return self._change([_deletion("token", ids)])

    def begin_ids_after(self, id_: int) -> None:
        """Gives ids beyond this one, in a file that has given none yet."""
        for table in ("record", "token"):
            self._change([("insert into sqlite_sequence values (?, ?)", (table, id_))])

    def move_damaged(self, table: Table, ids: Sequence[int]) -> None:
        """Moves damaged rows where nobody meets them again but `spool fsck`."""
        columns = RECORD_COLUMNS if table == "record" else TOKEN_COLUMNS
        chosen = f"select id, {columns} from {table} where id in ({_marks(ids)})"  # noqa: S608
        insertion = f"insert into damaged_{table} (id, {columns}) {chosen}"
        self._change([(insertion, list(ids)), _deletion(table, ids)])

    def contents(self) -> Contents:
        """What is in it. Reads of the records their index alone."""
        return contents(self._connection)

    def last_token_id(self) -> int:
        """The id given last to a token; 0 before the first."""
        row = self._connection.execute(
            "select seq from sqlite_sequence where name = 'token'"
        ).fetchone()
        return int(row[0]) if row else 0

    def oldest_ms(self) -> int | None:
        """When the oldest record or token came in, in Unix milliseconds."""
        return oldest_ms(self._connection)

    def probe(self) -> None:
        """Commits as much as a large record takes, and removes it."""
        logfile.probe(self._connection)

    def give_back(self, pages: int) -> bool:
        """Gives a slice of freed pages back to the file system; whether there are more."""
        self._connection.executescript(f"pragma incremental_vacuum({pages})")
        if self.usage.free_pages():
            return True
        self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        return False

    def frames_in_log(self) -> int:
        """Frames of the write-ahead log that SQLite goes by; moves what it can into the file."""
        row = self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
        return max(0, int(row[1]))

    def close(self) -> None:
        """Closes the file; what is in it stays."""
        self._connection.close()

    def _change(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> int:
        """Makes the changes in one commit; how many rows the last one changed.

        On a full disk tries once more with what a checkpoint of the log frees.
        """
        try:
            return self._commit(statements)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._connection.execute("pragma wal_checkpoint(truncate)").fetchall()
            return self._commit(statements)

    def _commit(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> int:
        if len(statements) == 1:
            return self._connection.execute(*statements[0]).rowcount
        with self._connection as transaction:
            transaction.execute("begin immediate")
            for statement, values in statements:
                changed = transaction.execute(statement, values).rowcount
        return changed


def contents(connection: sqlite3.Connection) -> Contents:
    """What a spool's file holds."""
    # in the index's own order: a sorter would fetch what only a record of version 1 is asked for
    by_topic = connection.execute(
        f"select topic, count(*), sum({_SIZE}), sum(source is 'pns'),"  # noqa: S608
        f" total(case when source is 'pns' then {_SIZE} end)"
        " from record indexed by record_by_topic group by topic"
    ).fetchall()
    records = [
        TopicCount(topic=topic, source=source, records=count, size_bytes=int(size_bytes))
        for topic, both, both_bytes, pns, pns_bytes in by_topic
        for source, count, size_bytes in (
            (_LIVE_EVENTS, both - pns, both_bytes - pns_bytes),
            (_PNS, pns, pns_bytes),
        )
        if count
    ]
    by_source = connection.execute(
        "select source, count(*), sum(length(token)) from token group by source"
    ).fetchall()
    return Contents(
        records=records,
        tokens=[
            TokenCount(source=source_of(source), tokens=count, size_bytes=size_bytes)
            for source, count, size_bytes in by_source
        ],
    )


def oldest_ms(connection: sqlite3.Connection) -> int | None:
    """When the oldest record or token of a spool's file came in, in Unix milliseconds."""
    row = connection.execute(
        "select min(at_ms) from (select * from"
        " (select appended_ms as at_ms from record order by id limit 1) union all select * from"
        " (select cast(received_at * 1000 as integer) from token order by id limit 1))"
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _up_to(found: Iterable[HeldItem], max_bytes: int) -> list[HeldItem]:
    taken: list[HeldItem] = []
    size_bytes = 0
    for item in found:
        taken.append(item)
        size_bytes += item.size_bytes
        if size_bytes >= max_bytes:
            break
    return taken


def _deletion(table: Table, ids: Sequence[int]) -> tuple[str, Sequence[int]]:
    return f"delete from {table} where id in ({_marks(ids)})", ids  # noqa: S608 - our own names


def _marks(ids: Sequence[int]) -> str:
    return ", ".join("?" * len(ids))


def _raw(topic: str) -> bytes:
    return topic.encode(errors="surrogateescape")
