"""A worker between the embedded log and DuckDB, with readers at the file and kills from outside."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog, EventLogReader
from tests.integration.consumers.program import Program
from tests.unit.consumers.builders import (
    EVENT_TYPES,
    PREFIX,
    copy_notice,
    event_id,
    event_record,
    record_of,
    unreadable_record,
)

EVENTS = 5_000
COUNTS = "select count(*), count(distinct event_id) from canvas.events"
HOLD = """
import duckdb, sys, time
deadline = time.monotonic() + 30
while True:
    try:
        connection = duckdb.connect(sys.argv[1], read_only=True)
        break
    except duckdb.IOException:
        assert time.monotonic() < deadline
        time.sleep(0.01)
print("held", flush=True)
sys.stdin.read()
"""


class EmbeddedWorker(Program):
    """A worker, and the log that it reads."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, {"FOREBAY_TOPICS__PREFIX": PREFIX})
        self.log_path = directory / "data" / FILE_NAME
        self.event_log = EventLog.open(self.log_path, max_bytes=2**40)

    def append(self, numbers: Sequence[int]) -> None:
        for at in range(0, len(numbers), 100):
            self.event_log.append([event_record(n) for n in numbers[at : at + 100]])

    def wait_until_all_is_read(self) -> None:
        reader = EventLogReader.open(self.log_path)
        end = reader.bounds().next
        reader.close()
        self.wait_for("select max(next_offset) from canvas.forebay_offsets", [(end,)])

    def check_exactly_once(self, count: int) -> None:
        assert self.query(COUNTS) == [(count, count)]
        tables = [self.query(f"select event_id from canvas.{name}") for name in EVENT_TYPES]
        found = [row[0] for rows in tables for row in rows]
        assert sorted(found) == sorted(event_id(n) for n in range(count))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[EmbeddedWorker]:
    worker = EmbeddedWorker(tmp_path)
    yield worker
    worker.event_log.close()


def test_events_of_all_kinds_are_in_their_tables(worker: EmbeddedWorker) -> None:
    worker.append(range(30))
    worker.event_log.append([unreadable_record(99), record_of(copy_notice(1_000))])
    with worker.running():
        worker.wait_until_all_is_read()
        assert worker.query(COUNTS) == [(31, 31)]
        assert worker.query("select name from canvas.course_created where name = 'text 27'")
        assert worker.query(
            "select context_id, origin_context_id from canvas.course_copies"
        ) == [("new-1000", "old-1000")]  # fmt: skip
    reader = EventLogReader.open(worker.directory / "data" / "dead-letters.tables.sqlite3")
    assert [record.value for record in reader.read(0)] == [unreadable_record(99).value]
    reader.close()


def test_repeats_in_the_log_are_one_row_each(worker: EmbeddedWorker) -> None:
    numbers = list(range(500)) * 3
    random.Random(5).shuffle(numbers)
    worker.append(numbers)
    with worker.running():
        worker.wait_until_all_is_read()
        worker.append(numbers)
        worker.wait_until_all_is_read()
        worker.check_exactly_once(500)


def test_the_first_row_can_be_queried_within_two_seconds(worker: EmbeddedWorker) -> None:
    with worker.running():
        worker.append([0])
        worker.wait_for(COUNTS, [(1, 1)])
        worker.append([1])
        waited_s = worker.wait_for(COUNTS, [(2, 2)])
    assert waited_s < 2


def test_a_reader_every_100_ms_loses_nothing(worker: EmbeddedWorker) -> None:
    done, seen = threading.Event(), list[Any]()

    def read() -> None:
        while not done.is_set():
            seen.append(worker.query(COUNTS))
            time.sleep(0.1)

    with worker.running():
        reader = threading.Thread(target=read)
        reader.start()
        for start in range(0, EVENTS, 100):
            worker.append(range(start, start + 100))
            time.sleep(0.1)
        worker.wait_until_all_is_read()
        done.set()
        reader.join()
        worker.check_exactly_once(EVENTS)
    counts = [answer[0][0] for answer in seen if answer]
    assert counts == sorted(counts)
    assert len(set(counts)) > 2, "the reader saw the tables grow"


def test_a_reader_that_holds_the_file_for_10_s_is_waited_for(worker: EmbeddedWorker) -> None:
    with worker.running() as process:
        worker.append(range(100))
        worker.wait_until_all_is_read()
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(worker.database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        worker.append(range(100, EVENTS))
        time.sleep(11)
        assert process.poll() is None
        assert "the store to be free" in worker.log()
        holder.communicate()
        worker.wait_until_all_is_read()
        worker.check_exactly_once(EVENTS)


@pytest.mark.parametrize("seed", [12])
def test_kills_at_random_moments_lose_nothing_and_double_nothing(
    worker: EmbeddedWorker, seed: int
) -> None:
    chance, appended, kills = random.Random(seed), 0, 0
    while appended < EVENTS:
        process = worker.start()
        deadline = time.monotonic() + chance.uniform(0.8, 2.2)
        while time.monotonic() < deadline:
            upto = min(EVENTS, appended + chance.randint(1, 150))
            worker.append(range(appended, upto))
            # the end of the last run comes once more, as a retry would bring it
            worker.append(range(max(0, upto - 5), upto))
            appended = upto
            time.sleep(0.03)
        process.kill()
        process.wait()
        kills += 1
    with worker.running():
        worker.wait_until_all_is_read()
        worker.check_exactly_once(EVENTS)
    assert kills >= 2
    assert "broke down" not in worker.log()


def test_a_log_that_was_trimmed_past_the_tables_stops_the_worker(worker: EmbeddedWorker) -> None:
    worker.append(range(10))
    with worker.running():
        worker.wait_until_all_is_read()
    worker.append(range(10, 30))
    worker.event_log.trim(before_ms=time.time_ns() // 1_000_000 + 1_000, limit=15)
    process = worker.start()
    assert process.wait(30) == 1
    last = worker.log().splitlines()[-1]
    assert "the tables are complete up to offset 11" in last
    assert "`forebay-consumers offsets reset --to earliest`" in last
