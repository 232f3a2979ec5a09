"""pytest fixtures: a ClickHouse server for the session, and databases that no other test uses."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver import AsyncClient

from consumers.sinks.clickhouse import ClickHouseSink
from consumers.sinks.clickhouse_url import Address
from ingest.contract.tables import ColumnType
from tests.clickhouse.engine import Engine, EngineUnavailable

OWN_SERVER = "TEST_CLICKHOUSE_URL"
FIRST_TABLES: Mapping[str, Mapping[str, ColumnType]] = {
    "events": {"event_id": "TEXT", "event_time": "TIMESTAMPTZ"}
}


class Database:
    """One database of a server, and the sinks that write it."""

    def __init__(self, url: str, schema: str, sinks: AsyncExitStack) -> None:
        self.address = Address.of(url)
        self.schema = schema
        self._sinks = sinks
        self._reader: AsyncClient | None = None

    async def sink(self, worker: str = "tables") -> ClickHouseSink:
        sink = self.unopened(worker)
        await sink.open()
        return sink

    def unopened(self, worker: str = "tables") -> ClickHouseSink:
        sink = ClickHouseSink(
            self.address, schema=self.schema, worker=worker, first_tables=FIRST_TABLES
        )
        self._sinks.push_async_callback(sink.close)
        return sink

    async def close_all(self) -> None:
        await self._sinks.aclose()

    async def rows(self, table: str) -> Sequence[Mapping[str, Any]]:
        return await self.query(f"select * from {self.schema}.{table} order by event_id")

    async def query(self, sql: str) -> Sequence[Mapping[str, Any]]:
        """What a reader finds, who is no worker."""
        if self._reader is None:
            self._reader = await clickhouse_connect.get_async_client(
                host=self.address.host,
                port=self.address.port,
                username=self.address.user,
                password=self.address.password,
                tz_mode="schema",
                autogenerate_session_id=False,
            )
        if sql.startswith("select"):
            return list((await self._reader.query(sql)).named_results())
        await self._reader.command(sql)
        return []

    async def drop(self) -> None:
        """Leaves nothing of it."""
        await self.query(f"drop database if exists {self.schema}")
        if self._reader is not None:
            await self._reader.close()


@pytest.fixture(scope="session")
def clickhouse_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine in a process of its own. Where it cannot be had, a skip; a failure if CI=true."""
    engine = Engine(tmp_path_factory.mktemp("clickhouse"))
    try:
        engine.start()
    except EngineUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no ClickHouse: {error}", pytrace=False)
        pytest.skip(f"no ClickHouse: {error}")
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def clickhouse_url(request: pytest.FixtureRequest) -> str:
    """Of the server that `TEST_CLICKHOUSE_URL` names, or of the engine."""
    own = os.environ.get(OWN_SERVER)
    return own or str(request.getfixturevalue("clickhouse_engine").url)


@pytest.fixture
async def clickhouse(clickhouse_url: str) -> AsyncIterator[Database]:
    """A database that is not there yet, dropped at the end."""
    async with AsyncExitStack() as sinks:
        database = Database(clickhouse_url, f"lake_{uuid.uuid4().hex[:12]}", sinks)
        yield database
    await database.drop()
