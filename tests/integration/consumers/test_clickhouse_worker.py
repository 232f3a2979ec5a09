"""A worker between the embedded log and ClickHouse, both of which are killed."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from tests.clickhouse.engine import Engine
from tests.clickhouse.fixture import Database
from tests.integration.consumers.program import TIMEOUT_S, Program
from tests.unit.consumers.builders import EVENT_TYPES, PREFIX, event_id, event_record

EVENTS = 600


@pytest.fixture
async def store(clickhouse_engine: Engine) -> AsyncIterator[Database]:
    async with AsyncExitStack() as sinks:
        store = Database(clickhouse_engine.url, f"lake_{uuid.uuid4().hex[:12]}", sinks)
        yield store
    await store.drop()


async def wait_for_events(store: Database, count: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    found: list[Mapping[str, Any]] = []
    while not found or found[0]["n"] != count:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
        try:
            found = list(await store.query(f"select count() as n from {store.schema}.events"))
        except ClickHouseError:  # it is not there yet, or away
            found = []


async def test_every_event_is_there_once_whatever_was_killed(
    clickhouse_engine: Engine, store: Database, tmp_path: Path
) -> None:
    url = tmp_path / "store-url"
    url.touch(0o600)
    url.write_text(clickhouse_engine.url)
    program = Program(
        tmp_path,
        {
            "FOREBAY_STORE__URL_FILE": str(url),
            "FOREBAY_STORE__SCHEMA": store.schema,
            "FOREBAY_TOPICS__PREFIX": PREFIX,
            "FOREBAY_WORKER__MAX_BATCH_ROWS": "150",
        },
    )
    (tmp_path / "data").mkdir()
    log = EventLog.open(tmp_path / "data" / FILE_NAME, max_bytes=2**40)
    log.append([event_record(n) for n in range(200)])
    killed = program.start()
    try:
        await wait_for_events(store, 200)
        clickhouse_engine.trap("forebay_offsets` (`worker`", do="die before")
        log.append([event_record(n) for n in range(200, 400)])
        clickhouse_engine.wait_for_death()
        clickhouse_engine.start()
        await wait_for_events(store, 400)
    finally:
        killed.kill()
        killed.wait()
    log.append([event_record(n) for n in range(350, EVENTS)])
    with program.running():
        await wait_for_events(store, EVENTS)
    log.close()
    rows = [each["event_id"] for name in EVENT_TYPES for each in await store.rows(name)]
    assert sorted(rows) == sorted(event_id(n) for n in range(EVENTS))
    assert "p@ss" not in program.log()
    assert "p%40ss" not in program.log()
