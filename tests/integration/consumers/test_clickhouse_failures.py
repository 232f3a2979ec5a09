"""What ClickHouse's sink makes of a server that dies, refuses, or answers nobody."""

import traceback
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.errors import SinkBusy, StartupError
from consumers.sinks.clickhouse import ClickHouseSink
from consumers.sinks.clickhouse_client import ClickHouseRefused
from consumers.sinks.clickhouse_url import Address
from tests.clickhouse.engine import Engine
from tests.clickhouse.fixture import Database
from tests.suites.sinks import ONE, SOURCE_ID, batch, row

SECRET = "a payload that no log may have"
FIRST, SECOND = 20, 60


@pytest.fixture
async def database(
    clickhouse_engine: Engine,
) -> AsyncIterator[tuple[Engine, Database]]:
    """The engine, and a database of it whatever server the other tests have."""
    async with AsyncExitStack() as sinks:
        database = Database(clickhouse_engine.url, f"lake_{uuid.uuid4().hex[:12]}", sinks)
        yield clickhouse_engine, database
    await database.drop()


@pytest.mark.parametrize(
    ("do", "query"),
    [
        ("die after", "forebay_ids` (`month`"),
        ("die after", "forebay_raw_things` (`event_id`"),
        ("die before", "forebay_offsets` (`worker`"),
    ],
)
async def test_server_that_dies_has_every_row_once_when_it_is_back(
    database: tuple[Engine, Database], do: str, query: str
) -> None:
    engine, store = database
    sink = await store.sink()
    await sink.write(batch([row(n) for n in range(FIRST)], {ONE: FIRST}))
    rows = [row(n, keeps_time=n % 3 > 0) for n in range(FIRST - 10, SECOND)]
    second = batch([*rows, *(row(n, table="others") for n in range(10))], {ONE: SECOND})
    engine.trap(query, do=do)
    with pytest.raises(SinkBusy, match="does not answer"):
        await sink.write(second)
    engine.wait_for_death()
    engine.start()
    assert await sink.stored_offsets(SOURCE_ID) == {ONE: FIRST}
    # another batch than before, as a worker that is started anew makes them
    third = replace(second, tables={**second.tables, "things": [*rows, row(SECOND)]})
    await (await store.sink()).write(third)
    for table, count in (("things", SECOND + 1), ("others", 10)):
        assert [each["event_id"] for each in await store.rows(table)] == [
            f"id-{n:04}" for n in range(count)
        ]
        await store.query(f"optimize table {store.schema}.forebay_raw_{table} final")
        (raw,) = await store.query(f"select count() as n from {store.schema}.forebay_raw_{table}")
        assert raw["n"] == count


async def test_an_insert_whose_answer_got_lost_is_carried_out_once(
    database: tuple[Engine, Database],
) -> None:
    engine, store = database
    sink = await store.sink()
    await sink.write(batch([row(1)]))
    await store.query(f"system stop merges {store.schema}.forebay_raw_things")
    engine.trap("forebay_raw_things` (`event_id`", do="hang up after")
    assert await sink.write(batch([row(2), row(3)], {ONE: 2})) == {"things": 2}
    (raw,) = await store.query(f"select count() as n from {store.schema}.forebay_raw_things")
    assert raw["n"] == 3


async def test_an_insert_that_was_given_up_too_early_is_carried_out_once(
    database: tuple[Engine, Database],
) -> None:
    engine, store = database
    sink = await store.sink()
    await sink.write(batch([row(1)]))
    await store.query(f"system stop merges {store.schema}.forebay_raw_things")
    again = batch([row(2), row(3)], {ONE: 2})
    engine.trap("forebay_raw_things` (`event_id`", do="answer early", code=159)
    with pytest.raises(SinkBusy, match="TIMEOUT_EXCEEDED"):
        await sink.write(again)
    # it comes again, is not there yet, and is carried out just before it is sent again
    assert await sink.write(again) == {"things": 2}
    (raw,) = await store.query(f"select count() as n from {store.schema}.forebay_raw_things")
    assert raw["n"] == 3


@pytest.mark.parametrize("code", [159, 164, 210, 236, 241, 242, 243, 252, 319, 999])
async def test_what_passes_is_waited_for(database: tuple[Engine, Database], code: int) -> None:
    engine, store = database
    sink = await store.sink()
    engine.trap("forebay_raw_things` (`event_id`", do="answer", code=code)
    with pytest.raises(SinkBusy, match=rf"answered [A-Z_]+ \(code {code}\)"):
        await sink.write(batch([row(1)]))
    assert await sink.write(batch([row(1)])) == {"things": 1}


@pytest.mark.parametrize(
    ("code", "text"),
    [(516, "refuses the user 'default' or its password"), (497, "grant it all rights")],
)
async def test_what_an_operator_must_change_stops_the_worker(
    database: tuple[Engine, Database], code: int, text: str
) -> None:
    engine, store = database
    engine.trap("system.databases", do="answer", code=code)
    with pytest.raises(StartupError, match=text):
        await store.sink()


async def test_a_wrong_password_is_refused_at_start_and_not_shown(
    database: tuple[Engine, Database],
) -> None:
    _, store = database
    address = replace(store.address, password="not the p@ssword")
    sink = ClickHouseSink(address, schema="lake", worker="tables", first_tables={})
    with pytest.raises(StartupError, match="correct FOREBAY_STORE__URL") as caught:
        await sink.open()
    await sink.close()
    assert "p@ss" not in "".join(traceback.format_exception(caught.value)) + repr(address)


async def test_nobody_answers() -> None:
    nowhere = Address(host="127.0.0.1", port=1, password="secret")
    sink = ClickHouseSink(nowhere, schema="lake", worker="tables", first_tables={})
    with pytest.raises(SinkBusy, match=r"127\.0\.0\.1:1 does not answer: ConnectionRefused"):
        await sink.open()
    await sink.close()


async def test_certificates_that_are_not_there_are_named() -> None:
    nowhere = Address(host="127.0.0.1", port=1, secure=True, ca_file=Path("/nowhere/ca.pem"))
    sink = ClickHouseSink(nowhere, schema="lake", worker="tables", first_tables={})
    with pytest.raises(StartupError, match=r"/nowhere/ca\.pem"):
        await sink.open()
    await sink.close()


async def test_nothing_of_a_row_is_in_an_error(database: tuple[Engine, Database]) -> None:
    _, store = database
    sink = await store.sink()
    await sink.write(batch([row(1, text="1")]))
    await store.query(
        f"alter table {store.schema}.forebay_raw_things modify column text Int32 default 0"
    )
    with pytest.raises(SinkBusy, match="TYPE_MISMATCH"):
        await sink.write(batch([row(2, text=SECRET)], {ONE: 2}))
    with pytest.raises(ClickHouseRefused, match="CANNOT_PARSE") as caught:
        await sink.write(batch([row(2, text=SECRET)], {ONE: 2}))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
