"""How a worker begins, refuses to begin, and ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from consumers import app
from consumers.settings import Settings
from consumers.sources.embedded import EmbeddedSource
from ingest.contract.eventlog.eventlog import FILE_NAME, EventLog
from ingest.shared.environment import load
from tests.integration.consumers.program import TIMEOUT_S, Program
from tests.unit.consumers.builders import PREFIX, event_record


def ended(directory: Path, environment: Mapping[str, str]) -> tuple[int, list[str]]:
    """The exit status and the lines of a worker that ends by itself."""
    program = Program(directory, environment)
    status = program.start().wait(TIMEOUT_S)
    return status, program.log().splitlines()


def answer(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait_for_metric(port: int, line: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while line not in answer(f"http://127.0.0.1:{port}/metrics")[1].splitlines():
        assert time.monotonic() < deadline, line
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_port_in_use_ends_the_worker_with_2_before_it_touches_the_store(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, lines = ended(tmp_path, {"FOREBAY_WORKER__ADMIN_PORT": port})
    assert status == 2
    assert lines == [
        f"forebay-consumers: cannot listen on 127.0.0.1:{port}: Address already in use"
    ]
    assert not (tmp_path / "data").exists()


def test_a_store_that_cannot_be_written_ends_the_worker_with_2(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a directory should be")
    url = "duckdb:///taken/forebay.duckdb"
    status, lines = ended(tmp_path, {"FOREBAY_STORE__URL": url})
    assert status == 2
    assert len(lines) == 1
    assert "the store taken/forebay.duckdb cannot be written" in lines[0]


def test_a_data_directory_that_cannot_be_written_ends_the_worker_with_2(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a directory should be")
    status, lines = ended(tmp_path, {"FOREBAY_DATA_DIR": "taken"})
    assert status == 2
    assert len(lines) == 1
    assert "dead letters cannot be kept" in lines[0]


def test_a_worker_that_waits_for_its_log_ends_when_told(tmp_path: Path) -> None:
    program = Program(tmp_path)
    with program.running():
        program.wait_for_line("once it is there")


def test_a_worker_that_waits_for_kafka_ends_when_told(tmp_path: Path) -> None:
    servers = f"127.0.0.1:{free_port()}"
    program = Program(tmp_path, {"FOREBAY_KAFKA__BOOTSTRAP_SERVERS": servers})
    with program.running():
        program.wait_for_line("Kafka to answer")
        assert f"{servers}: Connect" in program.log()


def test_a_worker_that_waits_for_its_store_ends_when_told(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.database.parent.mkdir()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(program.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline()
    with program.running():
        program.wait_for_line("the store to be free")
    holder.communicate(b"\n")


def test_health_and_metrics_are_served(tmp_path: Path) -> None:
    port = free_port()
    program = Program(
        tmp_path,
        {"FOREBAY_WORKER__ADMIN_PORT": str(port), "FOREBAY_TOPICS__PREFIX": PREFIX},
    )
    admin = f"http://127.0.0.1:{port}"
    with program.running():
        program.wait_for_line("once it is there")
        assert answer(f"{admin}/livez")[0] == 200
        assert answer(f"{admin}/readyz?verbose")[0] == 503
        log = EventLog.open(tmp_path / "data" / FILE_NAME, max_bytes=2**40)
        log.append([event_record(n) for n in range(6)])
        log.close()
        program.wait_for("select count(*) from canvas.events", [(6,)])
        status, text = answer(f"{admin}/readyz?verbose")
        assert status == 200
        assert "[+] log" in text
        metrics = answer(f"{admin}/metrics")[1].splitlines()
    assert 'forebay_rows_written_total{table="events",worker="tables"} 6.0' in metrics
    assert 'forebay_consumer_lag_records{worker="tables"} 0.0' in metrics
    assert 'forebay_dead_letters_total{reason="damaged",worker="tables"} 0.0' in metrics


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_what_is_held_is_written_before_the_end(tmp_path: Path, signum: signal.Signals) -> None:
    port = free_port()
    program = Program(
        tmp_path,
        {
            "FOREBAY_WORKER__ADMIN_PORT": str(port),
            "FOREBAY_WORKER__FLUSH_INTERVAL_S": "1",
            "FOREBAY_TOPICS__PREFIX": PREFIX,
        },
    )
    log = EventLog.open(tmp_path / "data" / FILE_NAME, max_bytes=2**40)
    process = program.start()
    program.wait_for_line('"event": "reading"')
    log.append([event_record(n) for n in range(400)])
    log.close()
    wait_for_metric(port, 'forebay_records_read_total{worker="tables"} 400.0')
    process.send_signal(signum)
    assert process.wait(TIMEOUT_S) == 0
    assert program.query("select count(*) from canvas.events") == [(400,)]
    assert program.query("select max(next_offset) from canvas.forebay_offsets") == [(401,)]


async def test_the_task_that_watches_the_log_is_started_again_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, watching = free_port(), asyncio.Event()

    async def fail_once(source: EmbeddedSource) -> None:
        if not watching.is_set():
            watching.set()
            raise RuntimeError("a fault of ours")
        await asyncio.Event().wait()

    monkeypatch.setattr(EmbeddedSource, "watch_end", fail_once)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREBAY_WORKER__ADMIN_PORT", str(port))
    working = asyncio.create_task(app.run(load(Settings)))
    await watching.wait()
    line = 'forebay_background_restarts_total{task="end of the log"} 1.0'
    await asyncio.to_thread(wait_for_metric, port, line)
    os.kill(os.getpid(), signal.SIGTERM)
    await working
