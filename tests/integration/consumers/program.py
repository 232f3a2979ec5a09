"""The worker as a process of its own, and readers of its DuckDB file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

TIMEOUT_S = 60.0
_MAIN = "from consumers.commands.main import main; main()"


class Program:
    """`forebay-consumers run` in a directory, any number of times in a row."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.database = directory / "data" / "forebay.duckdb"
        self._log = directory / "worker.log"
        ours = {name: text for name, text in os.environ.items() if not name.startswith("FOREBAY_")}
        self._environment = ours | {
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "FOREBAY_WORKER__ADMIN_PORT": "0",
            "FOREBAY_LOG__FORMAT": "json",
            **(environment or {}),
        }

    def start(self) -> "subprocess.Popen[bytes]":
        """A new worker; its log lines go to a file."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _MAIN, "run"],
                cwd=self.directory,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker that is told to stop at the end, and must then end well."""
        process = self.start()
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0, self.log()
        finally:
            process.kill()
            process.wait()

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Another command of `forebay-consumers`, to its end."""
        return subprocess.run(
            [sys.executable, "-c", _MAIN, *arguments],
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def log(self) -> str:
        """What all workers so far have said."""
        return self._log.read_text()

    def wait_for_line(self, text: str, *, times: int = 1) -> None:
        """Blocks until workers have said this so many times."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.log().count(text) < times:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def query(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The answer, once the file is free; an empty one as long as there is no such table."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                with duckdb.connect(str(self.database), read_only=True) as connection:
                    return connection.execute(sql).fetchall()
            except duckdb.CatalogException:
                return []
            except duckdb.IOException:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def wait_for(self, sql: str, answer: Sequence[tuple[Any, ...]]) -> float:
        """Asks until this is the answer; returns how long it took, in seconds."""
        began = time.monotonic()
        while (found := self.query(sql)) != answer:
            waited_s = time.monotonic() - began
            assert waited_s < TIMEOUT_S, f"{found} is not {answer}\n{self.log()}"
            time.sleep(0.05)
        return time.monotonic() - began
