"""Receiver and worker of a site, to start, kill, stop and crash one by one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import psutil

from tests.faults.waiting import until
from tests.support.processes import Program, free_port

END_TIMEOUT_S: Final = 60.0


class Part:
    """One program with its settings and its one log file, through all its processes."""

    def __init__(
        self,
        *command: str,
        settings: Mapping[str, str],
        admin_port_setting: str,
        log_file: Path,
    ) -> None:
        self.log_file = log_file
        self.settings = dict(settings)
        self._command = command
        self._admin_port = free_port()
        self._admin_port_setting = admin_port_setting
        self._program: Program | None = None
        self.disk_control: Path | None = None
        """Names what its spool's disk suffers from, if set before the launch; see `failing`."""

        self.task_control: Path | None = None
        """Names the background task that ends, if set before the launch; see `ending_tasks`."""

        self.misreads = False
        """Whether the worker makes no rows of every second record, if set before the launch."""

        self.is_forgetful = False
        """Whether it remembers few of the latest events, if set before the launch."""

        self.descriptors: int | None = None
        """How many file descriptors it may have, if set before the launch."""

    @property
    def admin_url(self) -> str:
        """Its admin listener, the same for all its processes."""
        return f"http://127.0.0.1:{self._admin_port}"

    @property
    def pid(self) -> int:
        """The process id of the one that runs."""
        assert self._program is not None
        return self._program.pid

    def logged(self, *levels: str) -> list[dict[str, Any]]:
        """Its log lines of these levels so far; lines that are no JSON are left out."""
        lines = []
        for text in self.log_file.read_bytes().splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                lines.append(orjson.loads(text))
        return [line for line in lines if line.get("level") in levels]

    @property
    def process(self) -> int | None:
        """The process id of the one that is to run, None while none is."""
        return self._program.pid if self._program is not None else None

    async def start(self, *, crash_at: str | None = None) -> None:
        """A new process, ready. Raises NotReady."""
        self.launch(crash_at=crash_at)
        await self.ready()

    def launch(self, *, crash_at: str | None = None) -> None:
        """A new process; with `crash_at` one that kills itself there (`tests.faults.crashing`)."""
        self._program = Program(
            *self._launcher(crash_at),
            settings={**self.settings, self._admin_port_setting: str(self._admin_port)},
            admin_port=self._admin_port,
            log_file=self.log_file,
        )
        self._program.launch()

    def _launcher(self, crash_at: str | None) -> tuple[str, ...]:
        point = () if crash_at is None else (crash_at,)
        rest = self._command[1:]
        if self.disk_control is not None:
            return ("python", "-m", "tests.faults.failing", str(self.disk_control), *point, *rest)
        if self.misreads:
            return ("python", "-m", "tests.faults.misreading", *rest)
        if self.is_forgetful:
            return ("python", "-m", "tests.support.forgetful", *rest)
        if self.descriptors is not None:
            return ("python", "-m", "tests.siege.scarce", str(self.descriptors), *rest)
        if self.task_control is not None:
            return ("python", "-m", "tests.faults.ending_tasks", str(self.task_control), *rest)
        if point:
            return ("python", "-m", "tests.faults.crashing", *point, *rest)
        return self._command

    async def ready(self) -> None:
        """Waits until it says that it is. Raises NotReady."""
        assert self._program is not None
        await asyncio.to_thread(self._program.wait_until_ready)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._program is not None:
            program, self._program = self._program, None
            await asyncio.to_thread(program.kill)

    async def term(self) -> int:
        """SIGTERM, and its exit code."""
        assert self._program is not None
        program, self._program = self._program, None
        return await asyncio.to_thread(program.stop)

    async def restart(self) -> None:
        """SIGKILL, and a new process, ready."""
        await self.kill()
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP."""
        assert self._program is not None
        self._program.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._program is not None
        self._program.send(signal.SIGCONT)

    async def crashed(self, *, timeout_s: float = END_TIMEOUT_S) -> None:
        """Waits until it has killed itself. Raises TimeoutError if it lives on."""
        pid = self.pid
        await until(lambda: not _runs(pid), timeout_s=timeout_s)
        await self.kill()

    async def ended(self, *, timeout_s: float = END_TIMEOUT_S) -> int:
        """Waits until it has ended by itself; its exit code. Raises TimeoutError."""
        assert self._program is not None
        program, pid = self._program, self.pid
        await until(lambda: not _runs(pid), timeout_s=timeout_s)
        self._program = None
        return await asyncio.to_thread(program.stop)

    @property
    def has_ended(self) -> bool:
        """Whether the process that is to run does not."""
        return self._program is not None and not _runs(self.pid)

    @property
    def is_running(self) -> bool:
        """Whether a process was started and not ended by us."""
        return self._program is not None


def _runs(pid: int) -> bool:
    """Whether the child runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def receiver_part(
    directory: Path, *, port: int, tenants_toml: str, settings: Mapping[str, str]
) -> Part:
    """A receiver on 127.0.0.1:`port`, with everything that it keeps under `directory`."""
    tenants_file = directory / "tenants.toml"
    tenants_file.write_text(tenants_toml)
    return Part(
        "forebay-ingest",
        "serve",
        settings={
            "FOREBAY_DATA_DIR": str(directory / "data"),
            "FOREBAY_TENANTS_FILE": str(tenants_file),
            "FOREBAY_HTTP__HOST": "127.0.0.1",
            "FOREBAY_HTTP__PORT": str(port),
            **settings,
        },
        admin_port_setting="FOREBAY_ADMIN__PORT",
        log_file=directory / "ingest.log",
    )


def store_in(directory: Path) -> Path:
    """The DuckDB file of the worker whose files are there."""
    return directory / "forebay.duckdb"


def worker_part(
    directory: Path, *, settings: Mapping[str, str], log_name: str = "consumers"
) -> Part:
    """A worker that writes to `store_in(directory)`."""
    return Part(
        "forebay-consumers",
        "run",
        settings={
            "FOREBAY_DATA_DIR": str(directory / "data"),
            "FOREBAY_STORE__URL": f"duckdb:///{store_in(directory).absolute()}",
            **settings,
        },
        admin_port_setting="FOREBAY_WORKER__ADMIN_PORT",
        log_file=directory / f"{log_name}.log",
    )
