"""The two programs as a user runs them: processes with settings from the environment."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from types import TracebackType
from typing import Self

FORGETFUL = ("python", "-m", "tests.support.forgetful", "serve")
"""The receiver's command where a load sends the same events in turn."""

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02


class NotReady(Exception):
    """The program ended, or did not become ready in time; the text is the end of its log."""


class Program:
    """One process of `forebay-ingest serve` or `forebay-consumers run`, with its log in a file.

    Only settings given here reach it: none of the caller's own `FOREBAY_…`.
    """

    def __init__(
        self, *command: str, settings: Mapping[str, str], admin_port: int, log_file: Path
    ) -> None:
        self.log_file = log_file
        self.admin_url = f"http://127.0.0.1:{admin_port}"
        self._command = [_beside_python(command[0]), *command[1:]]
        self._environment = _own_environment(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id while it runs."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Starts it, and returns at once."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log
            )

    def start(self) -> Self:
        """Starts it, and returns when it is ready. Raises NotReady."""
        self.launch()
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        """Blocks until `/readyz` says yes. Raises NotReady."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if self._is_ready():
                return
            time.sleep(_POLL_S)
        self.kill()
        raise NotReady("\n".join(self.log_file.read_text().splitlines()[-20:]))

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        return self._end(SIGTERM)

    def wait(self) -> int:
        """The exit code of a program that ends by itself. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self._end(SIGKILL)

    def send(self, number: Signals) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def get(self, path: str) -> str:
        """The answer of its admin listener."""
        with urllib.request.urlopen(f"{self.admin_url}{path}", timeout=5) as response:
            return str(response.read().decode())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        try:
            self.get("/readyz")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def _end(self, number: Signals) -> int:
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None


def receiver(
    directory: Path,
    *,
    port: int,
    tenants_toml: str,
    settings: Mapping[str, str],
    command: Sequence[str] = ("forebay-ingest", "serve"),
) -> Program:
    """A receiver on 127.0.0.1:`port`, with everything that it keeps under `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    tenants_file = directory / "tenants.toml"
    tenants_file.write_text(tenants_toml)
    admin_port = free_port()
    return Program(
        *command,
        admin_port=admin_port,
        log_file=directory / "ingest.log",
        settings={
            "FOREBAY_DATA_DIR": str(directory / "data"),
            "FOREBAY_TENANTS_FILE": str(tenants_file),
            "FOREBAY_HTTP__HOST": "127.0.0.1",
            "FOREBAY_HTTP__PORT": str(port),
            "FOREBAY_ADMIN__PORT": str(admin_port),
            **settings,
        },
    )


def worker(directory: Path, *, settings: Mapping[str, str] | None = None) -> Program:
    """A worker that writes to `store(directory)`, from the receiver's log beside it by default."""
    directory.mkdir(parents=True, exist_ok=True)
    admin_port = free_port()
    return Program(
        "forebay-consumers",
        "run",
        admin_port=admin_port,
        log_file=directory / "consumers.log",
        settings={
            "FOREBAY_DATA_DIR": str(directory / "data"),
            "FOREBAY_STORE__URL": f"duckdb:///{store(directory).absolute()}",
            "FOREBAY_WORKER__ADMIN_PORT": str(admin_port),
            **(settings or {}),
        },
    )


def make_topics(settings: Mapping[str, str]) -> None:
    """Runs `forebay-ingest topics apply` with these settings alone."""
    subprocess.run(
        [_beside_python("forebay-ingest"), "topics", "apply"],
        env=_own_environment(settings),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def store(directory: Path) -> Path:
    """The DuckDB file that a worker of this directory writes."""
    return directory / "forebay.duckdb"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _beside_python(program: str) -> str:
    return str(Path(sys.executable).with_name(program))


def _own_environment(settings: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    return {**own, **settings}
