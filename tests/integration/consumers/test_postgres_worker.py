"""A worker between the embedded log and PostgreSQL, and the commands beside it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from tests.integration.consumers.postgres_site import PostgresSite
from tests.integration.consumers.program import Program
from tests.postgres.server import Server
from tests.unit.consumers.builders import (
    PREFIX,
    copy_notice,
    event_record,
    record_of,
    unreadable_record,
)
from tests.unit.consumers.commands.conftest import site as worker_site
from tests.unit.consumers.commands.worker_site import WorkerSite

__all__ = ["worker_site"]

PASSWORD = "sluice-gate"
EVENTS = 1_200
LOST = "the store cannot be had, trying again"


@pytest.fixture
async def store(postgres_server: Server, postgres_schema: str) -> AsyncIterator[PostgresSite]:
    role = f"worker_{postgres_schema}"
    url = postgres_server.url()
    async with AsyncExitStack() as sinks:
        store = PostgresSite(url, postgres_schema, sinks)
        await store.run(
            f"create role {role} login password '{PASSWORD}'",
            f"create schema {{}} authorization {role}",
        )
        yield store
        await store.run(f"drop owned by {role} cascade", f"drop role {role}")


@pytest.fixture
def url(store: PostgresSite, postgres_server: Server) -> str:
    return postgres_server.url(user=f"worker_{store.schema}:{PASSWORD}")


@pytest.fixture
def program(url: str, store: PostgresSite, tmp_path: Path) -> Program:
    file = tmp_path / "store-url"
    file.touch(0o600)
    file.write_text(url)
    return Program(
        tmp_path,
        {
            "FOREBAY_STORE__URL_FILE": str(file),
            "FOREBAY_STORE__SCHEMA": store.schema,
            "FOREBAY_TOPICS__PREFIX": PREFIX,
        },
    )


@pytest.fixture
def event_log(tmp_path: Path) -> Iterator[EventLog]:
    log = EventLog.open(tmp_path / "data" / FILE_NAME, max_bytes=2**40)
    yield log
    log.close()


async def count(store: PostgresSite, table: str = "events") -> tuple[int, int]:
    """Rows and distinct ids."""
    (found,) = await store.look(
        f"select count(*), count(distinct event_id) as ids from {store.schema}.{table}"
    )
    return found["count"], found["ids"]


async def test_events_are_in_their_tables_whatever_happens_to_server_and_worker(
    program: Program, event_log: EventLog, store: PostgresSite, postgres_server: Server
) -> None:
    def append(first: int, last: int) -> None:
        for at in range(first, last, 100):
            event_log.append([event_record(n) for n in range(at, at + 100)])

    append(0, 300)
    event_log.append([unreadable_record(7), record_of(copy_notice(EVENTS))])
    process = program.start()
    program.wait_for_line('"event": "reading"')
    append(300, 600)
    postgres_server.stop("immediate")
    append(600, 900)
    process.kill()
    process.wait()
    lost = program.log().count(LOST)
    with program.running():
        append(900, EVENTS)
        program.wait_for_line(LOST, times=lost + 1)
        postgres_server.start()
        for _ in range(600):
            if await count(store) == (EVENTS + 1, EVENTS + 1):
                break
            await asyncio.sleep(0.05)
        assert await count(store) == (EVENTS + 1, EVENTS + 1), program.log()
    assert await count(store, "course_created") == (EVENTS // 3, EVENTS // 3)
    assert await count(store, "course_copies") == (1, 1)
    assert f"PostgreSQL at {postgres_server.address}/postgres: " in program.log()
    assert PASSWORD not in program.log()


def test_a_server_that_refuses_ends_the_worker_with_2(
    program: Program, tmp_path: Path, url: str
) -> None:
    (tmp_path / "store-url").write_text(url.replace(PASSWORD, "sluice"))
    assert program.start().wait(60) == 2
    (line,) = program.log().splitlines()
    assert "password authentication failed" in line
    assert "sluice" not in line


def test_commands_of_operators_work_on_it(
    worker_site: WorkerSite, store: PostgresSite, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_STORE__URL", url)
    monkeypatch.setenv("FOREBAY_STORE__SCHEMA", store.schema)
    assert worker_site.rows("offsets", "show") == []
    worker_site.append(*(event_record(n) for n in range(9)), unreadable_record(1))
    worker_site.work()
    (row,) = worker_site.rows("offsets", "reset", "--to", "earliest")
    assert (row["from"], row["to"]) == (11, 1)
    (letter,) = worker_site.rows("dlq", "list")
    replayed = worker_site.rows("dlq", "replay", letter["place"], status=1)
    assert [each["outcome"] for each in replayed] == ["stays"]
    refused = worker_site.while_open(
        lambda: worker_site.invoke("offsets", "reset", "--to", "earliest")
    )
    assert refused.exit_code == 1
    assert "is running on 127.0.0.1" in refused.stderr
    assert PASSWORD not in refused.output
