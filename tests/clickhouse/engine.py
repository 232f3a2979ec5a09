"""The front's process: started, killed, and started again on the same directory."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.processes import free_port

PASSWORD = "the p@ss/word"
_ROOT = Path(__file__).parents[2]
_PYTHON = _ROOT / "build/clickhouse/bin/python"
_START_TIMEOUT_S = 60.0
_POLL_S = 0.05


class EngineUnavailable(Exception):
    """The engine does not run here; the text says why."""


class Engine:
    """A server on 127.0.0.1, always on the same port."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._log = directory / "front.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As `FOREBAY_STORE__URL` has it."""
        return f"clickhouse://default:the%20p%40ss%2Fword@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Returns once it answers. Raises EngineUnavailable."""
        if not _PYTHON.exists():
            raise EngineUnavailable("it is not installed: make build/clickhouse/.installed")
        data = str(self._directory / "data")
        command = [str(_PYTHON), "-m", "tests.clickhouse.front", data, str(self.port), PASSWORD]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=_ROOT)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self._ask("ping")
            except OSError:
                time.sleep(_POLL_S)
            else:
                return
        self.stop()
        raise EngineUnavailable(f"it did not start:\n{self._log.read_text()[-2000:]}")

    def trap(self, query: str, *, do: str, code: int = 0) -> None:
        """What it does at the next query that has this text in it; see `front`."""
        self._ask("trap", json.dumps({"query": query, "do": do, "code": code}).encode())

    def wait_for_death(self) -> None:
        """Returns once a trap has killed it. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        self._process.wait(30)

    def stop(self) -> None:
        """SIGKILL: no chance to tidy up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _ask(self, path: str, body: bytes | None = None) -> None:
        url = f"http://127.0.0.1:{self.port}/{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10):
            pass
