"""The format of a spool's file, and how a file of the first version is brought up to it.

In version 1 a token was a record of the topic `deferred`, and no index told topics apart.
"""

import sqlite3

from ingest.contract.eventlog import logfile
from ingest.contract.eventlog.logfile import FileFormat
from ingest.spool.files.rows import (
    RECORD_COLUMNS,
    TOKEN_COLUMNS,
    Held,
    HeldToken,
    held_of,
    insertions,
)
from ingest.values import SignedRequest

_OLD_TOPIC = "deferred"
_MORE_COLUMNS = ",\n  source text not null,\n  size_bytes integer"
_TOKENS = """
create table token (
  id integer primary key autoincrement,
  received_at real not null,
  crc32 integer not null,
  source text not null,
  traceparent text,
  token blob not null
) strict
"""
# what counting needs is in it too, so that counting reads no record
_INDEX = "create index record_by_topic on record (topic, id, source, size_bytes)"
_DAMAGED_RECORDS = (
    f"create table damaged_record as select id, {RECORD_COLUMNS} from record where false"  # noqa: S608
)
_DAMAGED_TOKENS = f"create table damaged_token as select id, {TOKEN_COLUMNS} from token where false"  # noqa: S608


def old_token(held: Held) -> HeldToken | None:
    """The token that version 1 kept as this record; None if it is a record."""
    if held.stored.topic != _OLD_TOPIC:
        return None
    headers = dict(held.stored.headers)
    traceparent = headers.get("traceparent")
    request = SignedRequest(
        token=held.stored.value,
        source=held.source,
        received_at=float(headers.get("received_at", held.stored.timestamp_ms / 1000)),
        traceparent=None if traceparent is None else traceparent.decode(),
    )
    return HeldToken(id=held.stored.offset, request=request, damaged=held.stored.damaged)


def _upgrade(connection: sqlite3.Connection) -> None:
    """From version 1. Sizes of old records stay unknown: to write them would rewrite the file."""
    connection.execute("alter table record add column size_bytes integer")
    connection.execute(_TOKENS)
    connection.execute(_INDEX)
    connection.execute(_DAMAGED_TOKENS)
    if connection.execute("select 1 from sqlite_schema where name = 'damaged'").fetchone():
        connection.execute("alter table damaged rename to damaged_record")
    else:
        connection.execute(_DAMAGED_RECORDS)
    ids = connection.execute("select id from record where topic = ?", (_OLD_TOPIC,)).fetchall()
    for id_ in ids:
        row = connection.execute(
            f"select id, {RECORD_COLUMNS} from record where id = ?",  # noqa: S608 - our own names
            id_,
        ).fetchone()
        token = old_token(held_of(row))
        # a damaged one stays where it is: whoever reads records counts it and moves it
        if token is not None and not token.damaged:
            connection.execute(*insertions([token.request])[0])
            connection.execute("delete from record where id = ?", id_)


SPOOL = FileFormat(
    name="spool",
    application_id=0x466F7370,  # "Fosp"
    version=2,
    tables=(
        logfile.RECORD_TABLE.format(more=_MORE_COLUMNS),
        _TOKENS,
        _INDEX,
        _DAMAGED_RECORDS,
        _DAMAGED_TOKENS,
    ),
    upgrade=_upgrade,
)
