"""ClickHouse's engine against the suite of all sinks, and what is its own."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from consumers.errors import SinkBusy, StartupError, WorkerRunning
from ingest.contract.tables import ColumnType
from tests.clickhouse.fixture import Database
from tests.suites.sinks import (
    COLUMNS,
    NOON,
    ONE,
    SOURCE_ID,
    TWO,
    SinkBehaviour,
    batch,
    row,
    with_unknown,
)


class TestClickHouseSink(SinkBehaviour):
    @pytest.fixture
    def store(self, clickhouse: Database) -> Database:
        return clickhouse

    async def rows_of(self, store: Database, table: str) -> int:
        (found,) = await store.query(
            f"select count() as rows from {store.schema}.forebay_raw_{table}"
        )
        return int(found["rows"])

    async def test_first_tables_can_be_asked_before_anything_came(self, store: Database) -> None:
        await store.sink()
        assert await store.rows("events") == []

    async def test_a_table_that_was_dropped_is_made_again(self, store: Database) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1)]))
        await store.query(f"drop table {store.schema}.forebay_raw_things sync")
        with pytest.raises(SinkBusy, match="UNKNOWN_TABLE"):
            await sink.write(batch([row(2)], {ONE: 2}))
        assert await sink.write(batch([row(2)], {ONE: 2})) == {"things": 1}
        assert [found["event_id"] for found in await store.rows("things")] == ["id-0002"]

    async def test_a_column_that_others_dropped_is_made_again(self, store: Database) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1, text="x")]))
        await store.query(f"alter table {store.schema}.forebay_raw_things drop column text")
        with pytest.raises(SinkBusy, match="COLUMN"):
            await sink.write(batch([row(2, text="y")], {ONE: 2}))
        await sink.write(batch([row(2, text="y")], {ONE: 2}))
        assert [found["text"] for found in await store.rows("things")] == [None, "y"]

    async def test_what_a_column_that_was_altered_cannot_hold_is_kept_as_text(
        self, store: Database
    ) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1)]))
        await store.query(
            f"alter table {store.schema}.forebay_raw_things modify column text Nullable(Int64)"
        )
        again = batch([row(2, text="many"), row(3, text="3")], {ONE: 2})
        with pytest.raises(SinkBusy, match="TYPE_MISMATCH"):
            await sink.write(again)
        await sink.write(again)
        found = await store.rows("things")
        assert [(each["text"], each["text__text"]) for each in found] == [
            (None, None),
            (None, "many"),
            (None, "3"),
        ]

    async def test_an_event_that_two_workers_write_at_once_is_one_row_to_readers(
        self, store: Database
    ) -> None:
        one, other = await store.sink("tables"), await store.sink("spare")
        same = batch([row(n, keeps_time=n % 2 > 0) for n in range(50)])
        await asyncio.gather(one.write(same), other.write(same))
        assert len(await store.rows("things")) == 50
        await store.query(f"optimize table {store.schema}.forebay_raw_things final")
        assert await self.rows_of(store, "things") == 50

    async def test_workers_may_make_the_same_tables_and_columns_at_once(
        self, store: Database
    ) -> None:
        sinks = [await store.sink(f"worker-{n}") for n in range(3)]
        for wider in range(3):
            await asyncio.gather(
                *(
                    sink.write(batch([with_unknown(10 * wider + n, **{f"wide{wider}": n})]))
                    for n, sink in enumerate(sinks)
                )
            )
        found = await store.rows("things")
        assert [[each[f"wide{n}"] for n in range(3)] for each in found] == [
            [n if wider == column else None for column in range(3)]
            for wider in range(3)
            for n in range(3)
        ]

    async def test_unknown_field_has_the_type_that_another_worker_gave_its_column(
        self, store: Database
    ) -> None:
        one, other = await store.sink("tables"), await store.sink("spare")
        await other.write(batch([row(1)]))  # so that it has seen the table without the column
        await one.write(batch([with_unknown(2, w=3)]))
        await other.write(batch([with_unknown(3, w="wide")]))
        found = await store.rows("things")
        assert [(each["w"], each["w__text"]) for each in found] == [
            (None, None),
            (3, None),
            (None, "wide"),
        ]

    async def test_times_that_no_column_holds_are_kept_as_text(self, store: Database) -> None:
        columns: dict[str, ColumnType] = {**COLUMNS, "due_at": "TIMESTAMPTZ"}
        times = [
            datetime(1464, 2, 29, 12, tzinfo=UTC),
            datetime(1900, 1, 1, tzinfo=UTC),
            datetime(2299, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(9999, 12, 31, tzinfo=UTC),
        ]
        rows = [replace(row(n, due_at=time), columns=columns) for n, time in enumerate(times)]
        rows.append(row(4, event_time=times[0]))
        await (await store.sink()).write(batch(rows))
        found = await store.rows("things")
        assert [each["due_at"] for each in found] == [None, times[1], times[2], None, None]
        assert [each["due_at__text"] for each in found] == [
            "1464-02-29T12:00:00+00:00", None, None, "9999-12-31T00:00:00+00:00", None,
        ]  # fmt: skip
        assert found[4]["event_time"] is None
        assert found[4]["event_time__text"] == "1464-02-29T12:00:00+00:00"

    async def test_a_batch_may_have_events_of_very_many_months(self, store: Database) -> None:
        late = [row(n, event_time=NOON - timedelta(days=31 * n)) for n in range(150)]
        assert await (await store.sink()).write(batch(late)) == {"things": 150}

    async def test_a_batch_may_be_larger_than_a_block_of_the_driver(self, store: Database) -> None:
        sink, again = await store.sink(), batch([row(n, text=f"{n}" * 500) for n in range(3_000)])
        assert await sink.write(again) == {"things": 3_000}
        assert len(await store.rows("things")) == 3_000
        assert await sink.write(again) == {"things": 0}

    async def test_rows_are_kept_by_the_month_of_their_event(self, store: Database) -> None:
        rows = [row(1), row(2, event_time=NOON + timedelta(days=40)), row(3, keeps_time=False)]
        await (await store.sink()).write(batch(rows))
        found = await store.query(
            "select distinct partition as p from system.parts where active and"
            f" database = '{store.schema}' and table = 'forebay_raw_things' order by p"
        )
        assert [each["p"] for each in found] == ["0", "202609", "202610"]

    async def test_rows_of_a_table_that_was_emptied_come_again(self, store: Database) -> None:
        again = batch([row(n) for n in range(5)])
        await (await store.sink()).write(again)
        await store.query(
            f"alter table {store.schema}.forebay_raw_things delete where true"
            " settings mutations_sync = 1"
        )
        # the server remembers tokens beyond that, so a new worker must not use the old ones
        assert await (await store.sink()).write(again) == {"things": 5}
        assert len(await store.rows("things")) == 5

    async def test_a_worker_that_slept_through_a_reset_does_not_undo_it(
        self, store: Database
    ) -> None:
        sleeper = await store.sink()
        await sleeper.write(batch([row(1)], {ONE: 7, TWO: 9}))
        await store.query(f"truncate table {store.schema}.forebay_running")
        await store.unopened().replace_offsets(SOURCE_ID, {ONE: 3})
        await sleeper.write(batch([row(2)], {ONE: 8, TWO: 10}))
        assert await store.unopened().all_offsets() == {SOURCE_ID: {ONE: 3}}

    async def test_a_worker_that_ended_does_not_run(self, store: Database) -> None:
        sink = await store.sink()
        operator = store.unopened()
        with pytest.raises(WorkerRunning, match="stop it first"):
            await operator.replace_offsets(SOURCE_ID, {ONE: 3})
        await sink.close()
        await operator.replace_offsets(SOURCE_ID, {ONE: 3})

    async def test_a_worker_that_was_killed_does_not_run_for_long(self, store: Database) -> None:
        await store.unopened().replace_offsets(SOURCE_ID, {ONE: 1})
        killed = (
            f"insert into {store.schema}.forebay_running (worker, sink, is_open, seen_at)"
            " select 'tables', 'killed', true, now64(3) - interval {} second"
        )
        await store.query(killed.format(60))
        await store.unopened().replace_offsets(SOURCE_ID, {ONE: 2})
        await store.query(killed.format(20))
        with pytest.raises(WorkerRunning, match="after one that was killed wait"):
            await store.unopened().replace_offsets(SOURCE_ID, {ONE: 3})

    async def test_offsets_may_be_replaced_by_none(self, store: Database) -> None:
        await (await store.sink()).write(batch([], {ONE: 7}))
        await store.close_all()
        await store.unopened().replace_offsets(SOURCE_ID, {})
        assert await (await store.sink()).stored_offsets(SOURCE_ID) == {}

    async def test_a_table_of_somebody_else_is_left_alone(self, store: Database) -> None:
        sink = await store.sink()
        await store.query(
            f"create table {store.schema}.others (a Int64) engine = MergeTree order by a"
        )
        with pytest.raises(StartupError, match=r"others is a table of somebody else's"):
            await sink.write(batch([row(1, table="others")]))

    async def test_view_that_was_left_behind_is_made_again_at_start(self, store: Database) -> None:
        await (await store.sink()).write(batch([row(1)]))
        # as if a worker had died between the two
        await store.query(
            f"alter table {store.schema}.forebay_raw_things add column late Nullable(Int64)"
        )
        await store.sink()
        (found,) = await store.rows("things")
        assert "late" in found
