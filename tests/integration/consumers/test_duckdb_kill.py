"""A process that dies inside a write leaves all of it or nothing in the DuckDB file."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from consumers.batch import Batch
from consumers.sinks.duckdb import DuckDBSink
from tests.suites.sinks import ONE, SOURCE_ID, batch, row

FIRST, SECOND = 300, 2_000
CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from consumers.sinks import duckdb_file
from tests.integration.consumers.test_duckdb_kill import second_batch, sink_for

point, path = sys.argv[1], Path(sys.argv[2])
connect = duckdb_file.connect

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Doomed:
    def __init__(self, path):
        self.connection = connect(path)

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def commit(self):
        if point == "before commit":
            die()
        self.connection.commit()
        if point == "after commit":
            die()

    def close(self):
        self.connection.close()
        if point == "after closing":
            die()

duckdb_file.connect = Doomed
asyncio.run(sink_for(path).write(second_batch()))
"""


def sink_for(path: Path) -> DuckDBSink:
    return DuckDBSink(path, schema="lake", worker="tables", first_tables={})


def second_batch() -> Batch:
    rows = [row(n) for n in range(FIRST - 100, SECOND)]
    return batch([*rows, *(row(n, table="others") for n in range(50))], {ONE: SECOND})


@pytest.mark.parametrize(
    ("point", "is_written"),
    [("before commit", False), ("after commit", True), ("after closing", True)],
)
async def test_rows_and_offsets_survive_together(
    tmp_path: Path, point: str, is_written: bool
) -> None:
    path = tmp_path / "forebay.duckdb"
    sink = sink_for(path)
    await sink.open()
    await sink.write(batch([row(n) for n in range(FIRST)], {ONE: FIRST}))
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, point, str(path))
    assert await child.wait() == -signal.SIGKILL
    stored = await sink.stored_offsets(SOURCE_ID)
    assert stored == {ONE: SECOND if is_written else FIRST}
    written = await sink.write(second_batch())
    missing = {"things": 0, "others": 0} if is_written else {"things": 1_700, "others": 50}
    assert written == missing
    await sink.close()
