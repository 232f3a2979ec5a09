"""What every sink does: subclass `SinkBehaviour` and provide the fixture `store`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from consumers.batch import Batch
from consumers.errors import WorkerRunning
from consumers.sinks.base import OffsetStore, Sink
from consumers.values import NextOffsets, Partition, Row
from ingest.contract.tables import ColumnType

SOURCE_ID = "log-1"
ONE = Partition("reservoir.live-events.one.v1", 0)
TWO = Partition("reservoir.live-events.two.v1", 3)
NOON = datetime(2026, 9, 7, 12, tzinfo=UTC)
COLUMNS: Mapping[str, ColumnType] = {
    "event_id": "TEXT",
    "event_time": "TIMESTAMPTZ",
    "text": "TEXT",
    "whole": "BIGINT",
    "real": "DOUBLE",
    "flag": "BOOLEAN",
    "tree": "JSON",
    "order": "TEXT",
}


class Store(Protocol):
    """A store under test, empty at first."""

    async def sink(self, worker: str = "tables") -> Sink:
        """An opened sink; the store closes it."""
        ...

    def unopened(self, worker: str = "tables") -> OffsetStore:
        """As a command has it, beside the worker; the store closes it."""
        ...

    async def close_all(self) -> None:
        """Closes every sink so far."""
        ...

    async def rows(self, table: str) -> Sequence[Mapping[str, Any]]:
        """All rows of a table by `event_id`, absent columns as None; none if there is no table."""
        ...


def row(number: int, *, table: str = "things", keeps_time: bool = True, **values: Any) -> Row:
    """A row of the event of this number, a minute after the one before."""
    ours = {"event_id": f"id-{number:04}", "event_time": NOON + timedelta(minutes=number)}
    return Row(
        table=table,
        columns=COLUMNS,
        values=ours | values,
        repeats_keep_time=keeps_time,
    )


def with_unknown(number: int, /, **fields: Any) -> Row:
    """A row of an event with fields that nobody told us of; `_` in a name stands for a space."""
    return replace(row(number), unknown={n.replace("_", " "): v for n, v in fields.items()})


def batch(
    rows: Sequence[Row], offsets: NextOffsets | None = None, *, source_id: str = SOURCE_ID
) -> Batch:
    """A batch of these rows, which brings the source to `offsets`."""
    tables: dict[str, list[Row]] = {}
    for each in rows:
        tables.setdefault(each.table, []).append(each)
    return Batch(
        source_id=source_id,
        epoch=1,
        tables=tables,
        dead_letters=(),
        next_offsets={ONE: 1} if offsets is None else offsets,
    )


class SinkBehaviour:
    """Repeats change nothing, and offsets are written with the rows."""

    async def test_every_type_of_value_is_read_back_as_it_was_written(self, store: Store) -> None:
        written = row(
            1,
            text="quote \" and ' and 水",
            whole=-(2**63),
            real=0.1,
            flag=False,
            tree='{"a":[1,null]}',
            order="by name",
        )
        assert await (await store.sink()).write(batch([written])) == {"things": 1}
        assert list(await store.rows("things")) == [written.values]

    async def test_absent_values_are_null(self, store: Store) -> None:
        await (await store.sink()).write(batch([row(1)]))
        (found,) = await store.rows("things")
        assert found["text"] is None
        assert found["tree"] is None

    async def test_a_batch_may_be_repeated(self, store: Store) -> None:
        sink, again = await store.sink(), batch([row(n) for n in range(5)])
        await sink.write(again)
        assert await sink.write(again) == {"things": 0}
        assert len(await store.rows("things")) == 5

    async def test_of_known_and_new_rows_only_the_new_ones_are_written(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1, text="first"), row(3, text="first")]))
        later = [row(n, text="second") for n in range(5)]
        assert await sink.write(batch(later)) == {"things": 3}
        texts = [found["text"] for found in await store.rows("things")]
        assert texts == ["second", "first", "second", "first", "second"]

    async def test_a_repeat_is_found_though_its_time_differs(self, store: Store) -> None:
        sink = await store.sink()
        moved = NOON - timedelta(days=400)
        await sink.write(batch([row(1, keeps_time=False)]))
        rows = [row(1, keeps_time=False, event_time=moved), row(2)]
        assert await sink.write(batch(rows)) == {"things": 1}

    async def test_a_repeat_is_found_in_a_table_that_came_later_and_with_another_time(
        self, store: Store
    ) -> None:
        sink = await store.sink()
        later = NOON + timedelta(days=3)
        await sink.write(batch([row(1, keeps_time=False)]))
        rows = [
            row(1, keeps_time=False, event_time=later),
            row(1, table="others", keeps_time=False, event_time=later),
        ]
        assert await sink.write(batch(rows)) == {"things": 0, "others": 1}
        moved = [replace(each, values={**each.values, "event_time": NOON}) for each in rows]
        assert await sink.write(batch(moved)) == {"things": 0, "others": 0}

    async def test_a_repeat_is_found_though_it_has_no_time(self, store: Store) -> None:
        sink, timeless = await store.sink(), row(1, keeps_time=False, event_time=None)
        await sink.write(batch([timeless]))
        assert await sink.write(batch([row(2), timeless])) == {"things": 1}

    async def test_one_event_may_have_rows_in_several_tables(self, store: Store) -> None:
        sink = await store.sink()
        rows = [row(1), row(1, table="others"), row(2, table="others")]
        assert await sink.write(batch(rows)) == {"things": 1, "others": 2}

    async def test_a_row_may_bring_columns_that_the_table_lacks(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1, whole=1)]))
        wider = Row(
            table="things",
            columns={**COLUMNS, "whole__text": "TEXT", "late": "DOUBLE"},
            values={**row(2).values, "whole__text": "many", "late": 2.5},
            repeats_keep_time=True,
        )
        await sink.write(batch([wider, row(3, whole=3)]))
        first, second, third = await store.rows("things")
        assert (first["whole"], first.get("whole__text")) == (1, None)
        assert (second["whole"], second["whole__text"], second["late"]) == (None, "many", 2.5)
        assert (third["whole"], third.get("late")) == (3, None)

    async def test_unknown_fields_get_columns_of_their_values_types(self, store: Store) -> None:
        values = {"n": 3, "x": 0.5, "yes": True, "s": "eins", "o": {"a": 1}, "l": [], "none": None}
        await (await store.sink()).write(batch([with_unknown(1, **values)]))
        (found,) = await store.rows("things")
        assert {name: found.get(name) for name in values} == {**values, "o": '{"a":1}', "l": "[]"}
        assert "none" not in found

    async def test_unknown_field_keeps_its_column_in_later_batches(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([with_unknown(1, Gate_width=3)]))
        await sink.write(batch([row(2)]))
        again = replace(row(3), unknown={"gate_width": 4, "Gate width": 5})
        await (await store.sink()).write(batch([again]))
        found = await store.rows("things")
        assert [each.get("gate_width") for each in found] == [3, None, 5]
        assert found[2]["gate_width__2"] == 4

    async def test_unknown_field_of_another_type_later_goes_to_text_column(
        self, store: Store
    ) -> None:
        sink = await store.sink()
        await sink.write(batch([with_unknown(1, w=3), with_unknown(2, w="wide")]))
        await sink.write(batch([with_unknown(3, w={"m": 3}), with_unknown(4, w=4)]))
        found = await store.rows("things")
        assert [each["w"] for each in found] == [3, None, None, 4]
        assert [each["w__text"] for each in found] == [None, "wide", '{"m":3}', None]

    async def test_unknown_field_takes_nobodys_column(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([replace(row(1, text="ours"), unknown={"TEXT": "x"})]))
        await sink.write(batch([replace(row(2, text="ours"), unknown={"text__text": "y"})]))
        found = await store.rows("things")
        assert [(each["text"], each["text__2"]) for each in found] == [
            ("ours", "x"),
            ("ours", None),
        ]
        assert found[1]["text__text__2"] == "y"

    async def test_two_hundred_unknown_fields_have_columns(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([with_unknown(1, **{f"f{n}": n for n in range(150)})]))
        await sink.write(batch([with_unknown(2, **{f"g{n}": n for n in range(150)}, f7="x")]))
        assert await sink.write(batch([with_unknown(3, late=1)])) == {"things": 1}
        found = await store.rows("things")
        unknown = found[0].keys() - COLUMNS.keys()
        assert unknown == {f"f{n}" for n in range(150)} | {f"g{n}" for n in range(50)} | {
            "f7__text"
        }

    async def test_field_that_became_known_keeps_its_column_and_its_type(
        self, store: Store
    ) -> None:
        sink = await store.sink()
        await sink.write(batch([with_unknown(1, width=3), with_unknown(2, at="x", l=[1])]))
        columns: Mapping[str, ColumnType] = {
            **COLUMNS, "width": "TEXT", "at": "TIMESTAMPTZ", "l": "TEXT",
        }  # fmt: skip
        known: dict[str, Any] = {"width": "broad", "at": NOON, "l": "many"}
        later = [
            replace(row(3, **known), columns=columns),
            replace(row(4, width="5"), columns=columns),
        ]
        await sink.write(batch(later))
        found = await store.rows("things")
        assert [each["width"] for each in found] == [3, None, None, None]
        assert [each["width__text"] for each in found] == [None, None, "broad", "5"]
        assert found[2]["at"] == "2026-09-07T12:00:00+00:00"
        assert found[2]["l"] == '"many"'

    async def test_known_field_takes_the_column_of_another_unknown_one(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([with_unknown(1, Gate_width=3)]))
        columns: Mapping[str, ColumnType] = {**COLUMNS, "gate_width": "BIGINT"}
        both = replace(row(2, gate_width=4), columns=columns, unknown={"Gate width": 5})
        await sink.write(batch([both]))
        found = await store.rows("things")
        assert [each["gate_width"] for each in found] == [3, 4]
        assert [each["gate_width__2"] for each in found] == [None, 5]

    async def test_nothing_is_stored_at_first(self, store: Store) -> None:
        assert await (await store.sink()).stored_offsets(SOURCE_ID) == {}

    async def test_offsets_are_stored_with_the_rows(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1)], {ONE: 7, TWO: 9}))
        await sink.write(batch([row(2)], {ONE: 8}))
        assert await sink.stored_offsets(SOURCE_ID) == {ONE: 8, TWO: 9}

    async def test_offsets_may_move_without_rows(self, store: Store) -> None:
        sink = await store.sink()
        assert await sink.write(batch([], {ONE: 12})) == {}
        assert await sink.stored_offsets(SOURCE_ID) == {ONE: 12}

    async def test_a_stored_offset_never_goes_back(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([], {ONE: 40, TWO: 5}))
        await sink.write(batch([], {ONE: 39, TWO: 6}))
        assert await sink.stored_offsets(SOURCE_ID) == {ONE: 40, TWO: 6}

    async def test_each_worker_and_each_source_has_offsets_of_its_own(self, store: Store) -> None:
        one, other = await store.sink("tables"), await store.sink("spare")
        await one.write(batch([row(1)], {ONE: 3}))
        await one.write(batch([row(1)], {ONE: 4}, source_id="log-2"))
        await other.write(batch([row(1)], {ONE: 5}))
        assert await one.stored_offsets(SOURCE_ID) == {ONE: 3}
        assert await one.stored_offsets("log-2") == {ONE: 4}
        assert await other.stored_offsets(SOURCE_ID) == {ONE: 5}

    async def test_first_number_of_an_unknown_field_leaves_room_for_fractions(
        self, store: Store
    ) -> None:
        sink = await store.sink()
        await sink.write(batch([with_unknown(1, w=3)]))
        await sink.write(batch([with_unknown(2, w=3.5), with_unknown(3, w=2**53 + 1)]))
        found = await store.rows("things")
        assert [each["w"] for each in found] == [3.0, 3.5, None]
        assert found[2]["w__text"] == str(2**53 + 1)

    async def test_a_repeat_is_found_however_far_the_times_of_its_batch_are_apart(
        self, store: Store
    ) -> None:
        sink = await store.sink()
        spread = [
            row(n, event_time=NOON - timedelta(days=n**3), keeps_time=n % 3 > 0) for n in range(60)
        ]
        await sink.write(batch(spread[::2]))
        assert await sink.write(batch(spread)) == {"things": 30}
        assert await sink.write(batch(list(reversed(spread)))) == {"things": 0}

    async def test_a_repeat_is_found_though_its_time_is_before_1970(self, store: Store) -> None:
        sink = await store.sink()
        early = row(1, event_time=datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC))
        await sink.write(batch([early]))
        assert await sink.write(batch([early, row(2)])) == {"things": 1}

    async def test_an_event_that_has_a_time_by_now_is_still_the_same(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1, keeps_time=False, event_time=None)]))
        assert await sink.write(batch([row(1), row(2)])) == {"things": 1}

    async def test_a_known_event_gets_the_rows_that_other_tables_lack(self, store: Store) -> None:
        sink = await store.sink()
        await sink.write(batch([row(1), row(2, keeps_time=False)]))
        others = [row(1, table="others"), row(2, table="others", keeps_time=False)]
        assert await sink.write(batch([row(1), *others])) == {"things": 0, "others": 2}
        assert await sink.write(batch(others)) == {"others": 0}

    async def test_offsets_are_replaced_while_no_worker_runs(self, store: Store) -> None:
        await (await store.sink()).write(batch([row(1)], {ONE: 7, TWO: 9}))
        await store.close_all()
        operator = store.unopened()
        await operator.replace_offsets(SOURCE_ID, {ONE: 3})
        await operator.replace_offsets("log-2", {TWO: 1})
        assert await operator.all_offsets() == {SOURCE_ID: {ONE: 3}, "log-2": {TWO: 1}}
        assert await (await store.sink()).stored_offsets(SOURCE_ID) == {ONE: 3}

    async def test_offsets_are_not_replaced_while_the_worker_runs(self, store: Store) -> None:
        await (await store.sink()).write(batch([row(1)], {ONE: 7}))
        with pytest.raises(WorkerRunning):
            await store.unopened().replace_offsets(SOURCE_ID, {ONE: 3})
        await store.unopened("spare").replace_offsets(SOURCE_ID, {ONE: 4})
        assert await store.unopened().all_offsets() == {SOURCE_ID: {ONE: 7}}

    async def test_there_are_no_offsets_before_there_is_a_store(self, store: Store) -> None:
        assert await store.unopened().all_offsets() == {}

    async def test_a_new_sink_finds_what_the_last_one_wrote(self, store: Store) -> None:
        await (await store.sink()).write(batch([row(1)], {ONE: 2}))
        successor = await store.sink()
        assert await successor.stored_offsets(SOURCE_ID) == {ONE: 2}
        assert await successor.write(batch([row(1)], {ONE: 2})) == {"things": 0}
