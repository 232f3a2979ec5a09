"""The sink of PostgreSQL against the suite of all sinks, and what only PostgreSQL has."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from consumers.projections import all_tables
from consumers.sinks.postgres_tables import month_of
from consumers.values import Row
from ingest.contract.catalogue import catalogue
from ingest.contract.codec import decode, encode
from ingest.contract.tables import MAX_NAME_BYTES, ColumnType
from ingest.normalising import normalise
from ingest.verifying.token import read_claims
from tests.contract.golden import examples, verified
from tests.emulator.school import timed
from tests.integration.consumers.postgres_site import (
    AsEvents,
    PostgresSite,
    connected,
    in_events,
    written_once_free,
)
from tests.suites.sinks import COLUMNS, NOON, ONE, SOURCE_ID, SinkBehaviour, batch, row
from tests.support.builders import live_event, live_event_claims


@pytest.fixture
async def site(postgres_url: str, postgres_schema: str) -> AsyncIterator[PostgresSite]:
    async with AsyncExitStack() as sinks:
        site = PostgresSite(postgres_url, postgres_schema, sinks)
        yield site
    await site.run("drop schema if exists {} cascade")


class TestPostgresSink(SinkBehaviour):
    @pytest.fixture
    def store(self, site: PostgresSite) -> PostgresSite:
        return site


class TestPostgresSinkByMonth(SinkBehaviour):
    @pytest.fixture
    async def store(self, postgres_url: str, postgres_schema: str) -> AsyncIterator[AsEvents]:
        async with AsyncExitStack() as sinks:
            store = AsEvents(postgres_url, postgres_schema, sinks)
            yield store
        await store.run("drop schema if exists {} cascade")


async def test_rows_and_offsets_are_written_together_or_not_at_all(site: PostgresSite) -> None:
    sink = await site.sink()
    await sink.write(batch([row(1)], {ONE: 1}))
    broken = row(3, table="things_2", tree="{no json")
    with pytest.raises(asyncpg.PostgresError):
        await sink.write(batch([row(2), broken], {ONE: 2}))
    assert len(await site.rows("things")) == 1
    assert await sink.stored_offsets(SOURCE_ID) == {ONE: 1}
    assert await sink.write(batch([row(2)], {ONE: 2})) == {"things": 1}


async def test_more_rows_than_one_statement_takes_are_written_once(site: PostgresSite) -> None:
    sink = await site.sink()
    many = [row(n) for n in range(4_500)] + [in_events(row(n)) for n in range(4_500)]
    assert await sink.write(batch(many)) == {"things": 4_500, "events": 4_500}
    more = [row(n) for n in range(4_400, 4_501)]
    assert await sink.write(batch(more)) == {"things": 1}


# -- months


async def months(site: PostgresSite) -> Mapping[str, int]:
    """How many rows are in each partition of `events`."""
    found = await site.look(
        f"select tableoid::regclass::text as name, count(*) from {site.schema}.events group by 1"
    )
    return {each["name"].rpartition(".")[2]: each["count"] for each in found}


async def test_events_are_in_the_partition_of_their_month(site: PostgresSite) -> None:
    times = [
        datetime(2025, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 31, 12, tzinfo=UTC),
    ]
    rows = [in_events(row(n, event_time=time)) for n, time in enumerate(times)]
    await (await site.sink()).write(batch(rows))
    assert await months(site) == {"events_2025_12": 1, "events_2026_01": 2}


async def test_times_that_no_event_can_have_make_no_partitions(site: PostgresSite) -> None:
    times: list[Any] = [
        None,
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2010, 12, 31, 23, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]
    rows = [in_events(row(n, event_time=time)) for n, time in enumerate(times)]
    await (await site.sink()).write(batch(rows))
    assert await months(site) == {"events_default": 4}
    tick = timedelta(microseconds=1)  # for what would be infinity
    found = [each["event_time"] for each in await site.rows("events")]
    assert found == [None, times[1] + tick, times[2], times[3] - tick]


def test_there_are_twelve_partitions_a_year_and_one_month_ahead() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    some = (datetime(1990, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(30_000))
    found = {month_of(time, now) for time in some} - {None}
    assert len(found) == 12 * (2026 - 2011) + 12
    assert max(found) == (2026, 12)  # type: ignore[type-var]


async def test_what_came_too_far_ahead_is_in_its_month_once_that_has_come(
    site: PostgresSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = datetime.now(UTC) + timedelta(days=100)
    sink = await site.sink()
    await sink.write(batch([in_events(row(1, event_time=ahead))]))
    assert await months(site) == {"events_default": 1}
    monkeypatch.setattr("consumers.sinks.postgres_tables._AHEAD", timedelta(days=131))
    rows = [in_events(row(n, event_time=ahead)) for n in (1, 2)]
    assert await sink.write(batch(rows)) == {"events": 1}
    assert await months(site) == {f"events_{ahead:%Y_%m}": 2}


# -- other writers


async def test_two_workers_that_write_the_same_events_at_once_make_one_row_of_each(
    site: PostgresSite,
) -> None:
    one, other = await site.sink("one"), await site.sink("other")

    def slices(shift: int) -> list[list[Row]]:
        numbers = [range(at + shift, at + shift + 60) for at in range(0, 600, 30)]
        return [
            [each for n in some for each in (row(n), in_events(row(n, keeps_time=n % 2 == 0)))]
            for some in numbers
        ]

    async def write_all(sink: Any, some: list[list[Row]]) -> int:
        counts = [await written_once_free(sink, batch(rows[::-1])) for rows in some]
        return sum(sum(count.values()) for count in counts)

    written = await asyncio.gather(write_all(one, slices(0)), write_all(other, slices(15)))
    distinct = {n for some in range(0, 600, 30) for n in range(some, some + 75)}
    assert sum(written) == 2 * len(distinct)
    for table in ("things", "events"):
        found = [each["event_id"] for each in await site.rows(table)]
        assert len(found) == len(set(found)) == len(distinct)


async def test_two_workers_that_need_the_same_columns_and_tables_at_once_both_get_them(
    site: PostgresSite,
) -> None:
    sinks = [site.unopened(f"worker-{n}") for n in range(4)]
    await asyncio.gather(*(sink.open() for sink in sinks))

    async def write(number: int) -> None:
        for step in range(5):
            wide: Mapping[str, ColumnType] = {**COLUMNS, f"late_{step}": "BIGINT"}
            late: dict[str, Any] = {f"late_{step}": number}
            ours = row(10 * number + step, **late)
            fields = {f"Own field {n}": n for n in range(step + 1)}
            rows = [
                replace(ours, columns=wide, unknown=fields),
                replace(ours, columns=wide, table=f"new_{step}"),
                in_events(row(100 * number + step, event_time=NOON - timedelta(days=40 * step))),
            ]
            await written_once_free(sinks[number], batch(rows))

    await asyncio.gather(*(write(number) for number in range(4)))
    things = await site.rows("things")
    assert len(things) == 20
    for each in things:
        step = int(each["event_id"][-1])
        assert each[f"late_{step}"] == int(each["event_id"][3:]) // 10
        assert [each[f"own_field_{n}"] for n in range(step + 1)] == list(range(step + 1))
    assert sum((await months(site)).values()) == 20


async def test_a_table_that_was_dropped_is_made_again(site: PostgresSite) -> None:
    sink = await site.sink()
    await sink.write(batch([row(1), in_events(row(1, keeps_time=False))]))
    await site.run("drop table {}.things", "drop table {}.events")
    again = batch([row(2), in_events(row(1, keeps_time=False))])
    assert await sink.write(again) == {"things": 1, "events": 1}


async def test_a_column_that_others_dropped_is_made_again(site: PostgresSite) -> None:
    sink = await site.sink()
    await sink.write(batch([row(1, text="x")]))
    await site.run('alter table {}.things drop column "text"')
    await sink.write(batch([row(2, text="y")]))
    assert [found["text"] for found in await site.rows("things")] == [None, "y"]


async def test_a_column_that_others_gave_another_type_is_written_as_far_as_it_converts(
    site: PostgresSite,
) -> None:
    sink = await site.sink()
    await sink.write(batch([row(1, text="1", real=0.5)]))
    await site.run(
        'alter table {}.things alter column "text" type integer using "text"::integer',
        "alter table {}.things alter column real type varchar(20)",
    )
    await sink.write(batch([row(2, text="2", real=2.5)]))
    assert [(each["text"], each["real"]) for each in await site.rows("things")] == [
        (1, "0.5"),
        (2, "2.5"),
    ]


async def test_an_event_whose_time_an_earlier_release_has_read_is_still_the_same(
    site: PostgresSite,
) -> None:
    sink = await site.sink()
    await sink.write(batch([in_events(row(1))]))
    timeless = in_events(row(1, keeps_time=False, event_time=None))
    assert await sink.write(batch([timeless])) == {"events": 0}


async def test_events_that_somebody_deleted_are_written_when_they_come_again(
    site: PostgresSite,
) -> None:
    rows = [in_events(row(n, keeps_time=n > 2)) for n in range(6)]
    sink = await site.sink()
    await sink.write(batch(rows))
    await site.run("delete from {}.events where event_id in ('id-0001', 'id-0004')")
    assert await sink.write(batch(rows)) == {"events": 2}
    assert await sink.write(batch(rows)) == {"events": 0}


async def test_a_query_that_holds_a_table_does_not_stop_rows_that_need_no_new_column(
    site: PostgresSite,
) -> None:
    sink = await site.sink()
    await sink.write(batch([row(1)]))
    async with connected(site.url) as reader, reader.transaction():
        await reader.fetch(f"select * from {site.schema}.things")
        assert await sink.write(batch([row(2), row(3, table="others")])) == {
            "things": 1,
            "others": 1,
        }


# -- values


HOSTILE = r"""{
  "nul": "a\u0000b", "lone": "x\ud800y", "nul \u0000 name": {"\u0000": ["\udfff", {"\ud800": 1}]},
  "huge": 123456789012345678901234567890, "beyond": [1e400, -1e400, 18446744073709551616],
  "least": -9223372036854775808, "most": 9223372036854775807, "tiny": 5e-324, "wide": 1.7e308,
  "not": [NaN, Infinity, -Infinity], "shown": "\\u0000", "\\u0000": 1,
  "quote": "'; drop table events; --\"\\", "astral": "\ud83d\ude00 \u200f\ufeff\uffff",
  "course_id": 3012.5, "name": {"a": ["deep"]}, "created_at": "0001-01-01T00:00:00+14:00",
  "A very long name of a field that goes on beyond what fifty-five bytes hold \u00e9": "x"
}"""


async def test_whatever_the_normaliser_lets_through_is_taken(site: PostgresSite) -> None:
    text = orjson.dumps(live_event_claims(body={})).replace(
        b'"body":{}', b'"body":' + HOSTILE.encode()
    )
    claims, irregular = read_claims(text)
    record = encode(normalise(live_event(claims, irregular=irregular)), prefix="p")
    rows = list(all_tables(catalogue())(decode(record)))
    written = await (await site.sink()).write(batch(rows))
    assert written == {"events": 1, "course_created": 1}
    (event,) = await site.rows("events")
    (typed,) = await site.rows("course_created")
    body = orjson.loads(event["body"])
    assert (body["nul"], body["lone"]) == ("a\\u0000b", "x\\ud800y")
    assert (body["least"], body["most"], body["tiny"]) == (-(2**63), 2**63 - 1, 5e-324)
    assert body["huge"] == typed["huge"] == "123456789012345678901234567890"
    assert typed["nul"] == "a\\u0000b"
    assert typed["quote"] == "'; drop table events; --\"\\"
    assert max(len(name.encode()) for name in typed) <= MAX_NAME_BYTES + len("__text")
    assert "metadata" in event


async def test_numbers_in_json_are_exact_whatever_their_size(site: PostgresSite) -> None:
    number = "123456789012345678901234567890.00000000000000000000000000012345"
    await (await site.sink()).write(batch([row(1, tree=f'{{"n":{number}}}')]))
    ((found,),) = [
        each.values()
        for each in await site.look(f"select (tree -> 'n')::text as n from {site.schema}.things")
    ]
    assert found == number


async def test_an_example_of_every_type_is_taken(site: PostgresSite) -> None:
    project, rows = all_tables(catalogue()), list[Row]()
    for example in examples():
        claims = timed(example.claims, 1_790_000_000)
        rows += project(decode(encode(normalise(verified(claims)), prefix="p")))
    sink, expected = await site.sink(), {(each.table, each.values["event_id"]) for each in rows}
    assert sum((await sink.write(batch(rows))).values()) == len(expected)
    assert len({table for table, _ in expected}) > 100
