"""The sinks that need nothing but a directory, against the suite of all sinks."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import duckdb
import pytest

from consumers.errors import StartupError
from consumers.sinks.duckdb import DuckDBSink
from consumers.sinks.memory import MemorySink, MemoryStore
from ingest.contract.tables import ColumnType
from tests.suites.sinks import ONE, SOURCE_ID, SinkBehaviour, batch, row

FIRST_TABLES: Mapping[str, Mapping[str, ColumnType]] = {
    "events": {"event_id": "TEXT", "event_time": "TIMESTAMPTZ"}
}


class Memory:
    """The reference."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._sinks: list[MemorySink] = []

    async def sink(self, worker: str = "tables") -> MemorySink:
        sink = self.unopened(worker)
        await sink.open()
        return sink

    def unopened(self, worker: str = "tables") -> MemorySink:
        self._sinks.append(MemorySink(self._store, worker=worker))
        return self._sinks[-1]

    async def close_all(self) -> None:
        for sink in self._sinks:
            await sink.close()

    async def rows(self, table: str) -> Sequence[Mapping[str, Any]]:
        columns = self._store.columns.get(table, {})
        rows = sorted(self._store.tables.get(table, {}).items())
        return [{name: row.get(name) for name in columns} for _, row in rows]


class DuckDBFile:
    """A file, and the sinks that write it."""

    def __init__(self, path: Path, sinks: AsyncExitStack) -> None:
        self.path = path
        self._sinks = sinks

    async def sink(self, worker: str = "tables") -> DuckDBSink:
        sink = self.unopened(worker)
        await sink.open()
        return sink

    def unopened(self, worker: str = "tables") -> DuckDBSink:
        sink = DuckDBSink(self.path, schema="lake", worker=worker, first_tables=FIRST_TABLES)
        self._sinks.push_async_callback(sink.close)
        return sink

    async def close_all(self) -> None:
        await self._sinks.aclose()

    async def rows(self, table: str) -> Sequence[Mapping[str, Any]]:
        with duckdb.connect(str(self.path)) as connection:
            result = connection.execute(f'select * from lake."{table}" order by event_id')
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, values, strict=True)) for values in result.fetchall()]


class TestMemorySink(SinkBehaviour):
    @pytest.fixture
    def store(self) -> Memory:
        return Memory()


class TestDuckDBSink(SinkBehaviour):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[DuckDBFile]:
        async with AsyncExitStack() as sinks:
            yield DuckDBFile(tmp_path / "new" / "forebay.duckdb", sinks)

    async def test_first_tables_can_be_asked_before_anything_came(self, store: DuckDBFile) -> None:
        await store.sink()
        assert await store.rows("events") == []

    async def test_rows_and_offsets_are_written_together_or_not_at_all(
        self, store: DuckDBFile
    ) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1)], {ONE: 1}))
        broken = row(3, table="others", tree="{no json")
        with pytest.raises(duckdb.Error):
            await sink.write(batch([row(2), broken], {ONE: 2}))
        assert len(await store.rows("things")) == 1
        assert await sink.stored_offsets(SOURCE_ID) == {ONE: 1}

    async def test_a_table_that_was_dropped_is_made_again(self, store: DuckDBFile) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1)]))
        with duckdb.connect(str(store.path)) as connection:
            connection.execute("drop table lake.things")
        assert await sink.write(batch([row(2)])) == {"things": 1}

    async def test_a_row_without_id_in_the_table_hides_no_event(self, store: DuckDBFile) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1)]))
        with duckdb.connect(str(store.path)) as connection:
            connection.execute(
                "insert into lake.things (event_time) select event_time from lake.things"
            )
        assert await sink.write(batch([row(2), row(1)])) == {"things": 1}

    async def test_a_store_without_the_tables_of_ids_knows_its_events_all_the_same(
        self, store: DuckDBFile
    ) -> None:
        sink = await store.sink()
        timeless = row(2, keeps_time=False, event_time=None)
        await sink.write(batch([row(1), timeless, row(3, table="others")]))
        with duckdb.connect(str(store.path)) as connection:
            connection.execute("drop table lake.forebay_ids")
            connection.execute("drop table lake.forebay_ids_any_day")
        again = batch([row(1), timeless, row(3, table="others"), row(4)])
        assert await sink.write(again) == {"things": 1, "others": 0}

    async def test_a_write_that_failed_leaves_no_table_in_mind(self, store: DuckDBFile) -> None:
        sink = await store.sink()
        with pytest.raises(duckdb.Error):
            await sink.write(batch([row(1, table="others", tree="{no json")]))
        assert await sink.write(batch([row(1, table="others")])) == {"others": 1}

    async def test_a_column_that_others_dropped_is_made_again(self, store: DuckDBFile) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1, text="x")]))
        with duckdb.connect(str(store.path)) as connection:
            connection.execute('alter table lake.things drop column "text"')
        await sink.write(batch([row(2, text="y")]))
        assert [found["text"] for found in await store.rows("things")] == [None, "y"]

    async def test_columns_are_known_by_name_whatever_their_case(self, store: DuckDBFile) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1)]))
        with duckdb.connect(str(store.path)) as connection:
            connection.execute('alter table lake.things rename column "text" to "TEXT"')
        assert await sink.write(batch([row(2, text="x")])) == {"things": 1}

    async def test_the_file_is_closed_between_batches(self, store: DuckDBFile) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1)]))
        # another configuration is refused as long as this process has the file open
        duckdb.connect(str(store.path), read_only=True).close()


async def test_a_file_that_is_no_database_is_refused_at_start(tmp_path: Path) -> None:
    path = tmp_path / "forebay.duckdb"
    path.write_bytes(b"no database, but long enough to be read as one" * 99)
    sink = DuckDBSink(path, schema="lake", worker="tables", first_tables={})
    with pytest.raises(StartupError, match=r"forebay\.duckdb cannot be written"):
        await sink.open()
    await sink.close()


async def test_a_directory_that_cannot_be_made_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a directory should be")
    sink = DuckDBSink(
        tmp_path / "taken" / "forebay.duckdb", schema="lake", worker="tables", first_tables={}
    )
    with pytest.raises(StartupError, match="cannot be written"):
        await sink.open()
    await sink.close()
