"""Looking into a DuckDB file that a worker is writing: open for a moment, and try again if busy."""

import time
from pathlib import Path
from typing import Any

import duckdb

_TIMEOUT_S = 20.0
_LOCKED = "Could not set lock"


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows of one query. Waits while the worker has the file open."""
    return headed_query(path, sql)[1]


def headed_query(path: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The names of the columns too; otherwise as `query`."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            with duckdb.connect(str(path), read_only=True) as connection:
                answer = connection.execute(sql)
                heads = [column[0] for column in answer.description or ()]
                return heads, answer.fetchall()
        except duckdb.IOException as error:
            if _LOCKED not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def event_ids(path: Path, table: str = "events") -> list[str]:
    """The event ids of a table, with repeats if it has any."""
    return [row[0] for row in query(path, f"select event_id from canvas.{table}")]


def wait_for_events(path: Path, count: int, *, timeout_s: float = 30.0) -> None:
    """Blocks until the events table has so many rows. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    found = 0
    while time.monotonic() < deadline:
        if path.exists():
            found = query(path, "select count(*) from canvas.events")[0][0]
        if found >= count:
            return
        time.sleep(0.1)
    raise TimeoutError(f"{found} of {count} events are in the table after {timeout_s:.0f} s")
