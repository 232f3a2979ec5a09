"""What PostgreSQL does to its clients, and a worker that dies: nothing is lost, nothing twice."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from consumers.batch import Batch
from consumers.errors import SinkBusy, WorkerRunning
from consumers.sinks import postgres_server
from consumers.sinks.postgres import PostgresSink
from tests.integration.consumers.postgres_site import (
    PostgresSite,
    connected,
    in_events,
    written_once_free,
)
from tests.postgres.server import Server
from tests.suites.sinks import ONE, SOURCE_ID, batch, row

_RAISE = """
create function {}.fail() returns trigger language plpgsql as $$
begin raise exception 'so it is' using errcode = '%s', detail = 'a row: sluice-gate'; end $$;
create trigger fail before insert on {}.things for each row execute function {}.fail()
"""


@pytest.fixture
async def site(postgres_server: Server, postgres_schema: str) -> AsyncIterator[PostgresSite]:
    async with AsyncExitStack() as sinks:
        yield PostgresSite(postgres_server.url(), postgres_schema, sinks)


@pytest.fixture
def stopped_and_started(postgres_server: Server) -> Iterator[Server]:
    """The server, which is running again afterwards whatever the test did."""
    yield postgres_server
    postgres_server.ensure_running()


@pytest.mark.parametrize(
    "state",
    ["40001", "40P01", "25006", "53100", "53200", "53300", "55P03", "57014", "57P03", "58030"],
)
async def test_what_passes_by_itself_is_busy_and_the_same_batch_goes_well_later(
    site: PostgresSite, state: str
) -> None:
    sink = await site.sink()
    await sink.write(batch([row(0)], {ONE: 1}))
    await site.run(_RAISE.replace("%s", state))
    again = batch([row(0), row(1), in_events(row(1))], {ONE: 2})
    with pytest.raises(SinkBusy, match=rf"127\.0\.0\.1:{site.url.rpartition(':')[2]}") as busy:
        await sink.write(again)
    assert "sluice-gate" not in str(busy.value)
    assert await site.rows("events") == []
    assert await site.unopened().all_offsets() == {SOURCE_ID: {ONE: 1}}
    await site.run("drop trigger fail on {}.things")
    assert await written_once_free(sink, again) == {"things": 1, "events": 1}
    assert await sink.stored_offsets(SOURCE_ID) == {ONE: 2}


async def test_what_does_not_pass_is_not_waited_for(site: PostgresSite) -> None:
    sink = await site.sink()
    await sink.write(batch([row(0)], {ONE: 1}))
    await site.run(_RAISE.replace("%s", "P0001"))
    with pytest.raises(asyncpg.RaiseError):
        await sink.write(batch([in_events(row(1)), row(1)], {ONE: 2}))
    assert await site.rows("events") == []
    assert await sink.stored_offsets(SOURCE_ID) == {ONE: 1}


async def test_a_server_that_is_down_is_waited_for(
    site: PostgresSite, stopped_and_started: Server
) -> None:
    sink = await site.sink()
    await sink.write(batch([row(1)], {ONE: 1}))
    stopped_and_started.stop()
    for _ in range(2):
        with pytest.raises(SinkBusy, match=r"PostgreSQL at 127\.0\.0\.1:\d+/postgres: "):
            await sink.write(batch([row(2)], {ONE: 2}))
    stopped_and_started.start()
    assert await written_once_free(sink, batch([row(1), row(2)], {ONE: 2})) == {"things": 1}
    with pytest.raises(WorkerRunning):  # which the new connection says again
        await site.unopened().replace_offsets(SOURCE_ID, {ONE: 0})


async def test_crashes_of_the_server_between_and_within_batches_lose_and_double_nothing(
    site: PostgresSite, stopped_and_started: Server
) -> None:
    sink, crashed = await site.sink(), asyncio.Event()

    async def write() -> int:
        upto = 0
        while not crashed.is_set():
            numbers = range(max(0, upto - 20), upto + 200)  # the end of the last one once more
            rows = [each for n in numbers for each in (row(n), in_events(row(n)))]
            upto += 200
            await written_once_free(sink, batch(rows, {ONE: upto}))
        return upto

    async def crash() -> None:
        for pause_s in (0.2, 0.31, 0.17):
            await asyncio.sleep(pause_s)
            await asyncio.to_thread(stopped_and_started.stop, "immediate")
            await asyncio.to_thread(stopped_and_started.start)
        crashed.set()

    upto, _ = await asyncio.gather(write(), crash())
    for table in ("things", "events"):
        found = await site.look(
            f"select count(*), count(distinct event_id) as ids from {site.schema}.{table}"
        )
        assert found == [{"count": upto, "ids": upto}]
    assert await sink.stored_offsets(SOURCE_ID) == {ONE: upto}


async def test_a_deadlock_is_tried_again(site: PostgresSite) -> None:
    sink = await site.sink()
    await sink.write(batch([row(0)]))
    insert = f"insert into {site.schema}.things (event_id) values ($1)"
    async with connected(site.url) as other:
        await other.execute("set deadlock_timeout = '1min'")  # so that it is not the victim
        transaction = other.transaction()
        await transaction.start()
        await other.execute(insert, "id-0002")
        writing = asyncio.create_task(sink.write(batch([row(1), row(2)])))
        await _until(
            site,
            "select from pg_stat_activity where wait_event_type = 'Lock'"
            " and application_name = 'forebay-tables'",
        )
        blocked = asyncio.create_task(other.execute(insert, "id-0001"))
        with pytest.raises(SinkBusy, match="deadlock detected"):
            await writing
        await blocked
        await transaction.rollback()
    assert await written_once_free(sink, batch([row(1), row(2)])) == {"things": 2}


async def test_statement_timeout_of_the_role_is_tried_again(site: PostgresSite) -> None:
    sink = site.unopened(url=f"{site.url}?statement_timeout=300")
    await sink.open()
    await sink.write(batch([row(0)]))
    async with connected(site.url) as other, other.transaction():
        await other.execute(f"lock table {site.schema}.things")
        with pytest.raises(SinkBusy, match="statement timeout"):
            await sink.write(batch([row(1)]))
    assert await written_once_free(sink, batch([row(1)])) == {"things": 1}


async def test_a_primary_that_became_read_only_is_left_until_one_takes_writes(
    site: PostgresSite,
) -> None:
    sink = await site.sink()
    await sink.write(batch([row(0)]))
    reload = "select pg_reload_conf()"
    await site.run("alter system set default_transaction_read_only = on", reload)
    try:
        await _until(site, "select where current_setting('default_transaction_read_only')::bool")
        with pytest.raises(SinkBusy, match="read-only transaction"):
            await sink.write(batch([row(1)]))
        with pytest.raises(SinkBusy, match="no host takes writes"):
            await sink.write(batch([row(1)]))
    finally:
        await site.run("alter system reset default_transaction_read_only", reload)
    assert await written_once_free(sink, batch([row(1)])) == {"things": 1}


async def test_a_session_that_an_operator_ends_is_made_again(site: PostgresSite) -> None:
    sink = await site.sink("ended")
    await sink.write(batch([row(0)]))
    await site.run(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'forebay-ended'"
    )
    assert await written_once_free(sink, batch([row(1)])) == {"things": 1}


async def test_a_silent_host_is_passed_over_for_the_next(
    site: PostgresSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "_CONNECT_TIMEOUT_S", 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sink = site.unopened(url=site.url.replace("@", f"@127.0.0.1:{port},"))
        with pytest.raises(SinkBusy, match="no answer in time"):
            await sink.open()
        await sink.open()
        await sink.close()


async def test_a_reset_during_the_start_of_a_worker_is_waited_for(site: PostgresSite) -> None:
    await (await site.sink()).write(batch([row(0)]))
    await site.close_all()
    key = f"forebay worker {site.schema} tables"
    async with connected(site.url) as operator, operator.transaction():
        await operator.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", key)
        with pytest.raises(SinkBusy, match="offsets are being replaced"):
            await site.unopened().open()


FIRST, SECOND = 300, 2_000
CHILD = """
import asyncio, os, signal, sys
from tests.integration.consumers.test_postgres_failures import Doomed, second_batch
point, url, schema = sys.argv[1:]
asyncio.run(Doomed(point, url, schema).write(second_batch()))
"""


class Doomed(PostgresSink):
    """Dies at a point of its first write."""

    def __init__(self, point: str, url: str, schema: str) -> None:
        super().__init__(url, schema=schema, worker="tables", first_tables={})
        self._point = point

    async def _write_offsets(self, *arguments: object) -> None:
        await super()._write_offsets(*arguments)  # type: ignore[arg-type]
        if self._point == "before commit":
            signal.raise_signal(signal.SIGKILL)

    async def _write(self, *arguments: object) -> dict[str, int]:
        written = await super()._write(*arguments)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGKILL)
        return written


def second_batch() -> Batch:
    rows = [each for n in range(FIRST - 100, SECOND) for each in (row(n), in_events(row(n)))]
    return batch(rows, {ONE: SECOND})


@pytest.mark.parametrize(("point", "is_written"), [("before commit", False), ("after it", True)])
async def test_rows_and_offsets_survive_a_killed_worker_together(
    site: PostgresSite, point: str, is_written: bool
) -> None:
    sink = await site.sink()
    first = [each for n in range(FIRST) for each in (row(n), in_events(row(n)))]
    await sink.write(batch(first, {ONE: FIRST}))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, point, site.url, site.schema
    )
    assert await child.wait() == -signal.SIGKILL
    assert await sink.stored_offsets(SOURCE_ID) == {ONE: SECOND if is_written else FIRST}
    missing = 0 if is_written else SECOND - FIRST
    written = await written_once_free(sink, second_batch())
    assert written == {"things": missing, "events": missing}


async def _until(site: PostgresSite, condition: str) -> None:
    """Returns once the query has a row."""
    async with asyncio.timeout(20):
        while not await site.look(condition):  # noqa: ASYNC110  (nobody would tell us)
            await asyncio.sleep(0.02)
