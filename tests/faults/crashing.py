"""Runs one of the two programs, and has it kill itself at a named point.

    python -m tests.faults.crashing POINT[:N] serve
    python -m tests.faults.crashing POINT[:N] run
    python -m tests.faults.crashing POINT[:N] dlq replay --all

The N-th passage through the point (the first by default) is the last thing that the process does:
SIGKILL, with no chance to tidy up.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

PROGRAMS: Final = {
    "serve": "ingest.commands.main",
    "run": "consumers.commands.main",
    "dlq": "consumers.commands.main",
}

Command = Literal["serve", "run", "dlq"]
Moment = Literal["before", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A moment at a function of a module, or at a method, as `Class.method`."""

    command: Command
    module: str
    name: str
    moment: Moment

    def owner(self) -> tuple[Any, str]:
        """What holds the function, and its name there. AttributeError if there is none."""
        owner: Any = importlib.import_module(self.module)
        *classes, name = self.name.split(".")
        for part in classes:
            owner = getattr(owner, part)
        getattr(owner, name)
        return owner, name


def _ingest(module: str, name: str, moment: Moment) -> Point:
    return Point(command="serve", module=f"ingest.{module}", name=name, moment=moment)


def _consumers(module: str, name: str, moment: Moment, *, command: Command = "run") -> Point:
    return Point(command=command, module=f"consumers.{module}", name=name, moment=moment)


POINTS: Final[dict[str, Point]] = {
    "before-log-commit": _ingest("contract.eventlog.eventlog", "EventLog.append", "before"),
    "after-log-commit": _ingest("contract.eventlog.eventlog", "EventLog.append", "after"),
    "before-kafka-send": _ingest("publishing.kafka.cluster", "Connection.produce", "before"),
    "after-kafka-ack": _ingest("publishing.kafka.cluster", "Connection.produce", "after"),
    "before-spool-commit": _ingest("spool.files.store", "SpoolFile.append", "before"),
    "after-spool-commit": _ingest("spool.files.store", "SpoolFile.append", "after"),
    "before-spool-answer": _ingest("spool.spool", "Spool.append", "after"),
    "before-spool-delete": _ingest("spool.files.store", "SpoolFile.forget", "before"),
    "after-spool-delete": _ingest("spool.files.store", "SpoolFile.forget", "after"),
    "before-token-delete": _ingest("spool.files.store", "SpoolFile.forget_tokens", "before"),
    "after-token-delete": _ingest("spool.files.store", "SpoolFile.forget_tokens", "after"),
    "before-deferred-commit": _ingest("spool.spool", "Spool.defer", "before"),
    "after-deferred-commit": _ingest("spool.spool", "Spool.defer", "after"),
    "before-deferred-delivery": _ingest("verify_deferred", "DeferredVerification._judge", "before"),
    "after-deferred-delivery": _ingest("verify_deferred", "DeferredVerification._judge", "after"),
    "before-quarantine": _ingest("intake", "Intake._quarantine", "before"),
    "after-quarantine": _ingest("intake", "Intake._quarantine", "after"),
    "before-reserve-given-up": _ingest("spool.files.reserve", "Reserve.give_up", "before"),
    "after-reserve-given-up": _ingest("spool.files.reserve", "Reserve.give_up", "after"),
    "before-reserve-filled": _ingest("spool.files.reserve", "Reserve._fill", "before"),
    "after-reserve-filled": _ingest("spool.files.reserve", "Reserve._fill", "after"),
    # the offsets are the last thing that a transaction writes
    "before-sink-commit": _consumers("sinks.duckdb", "DuckDBSink._write_offsets", "after"),
    "after-sink-commit": _consumers("sinks.duckdb", "DuckDBSink._write", "after"),
    "before-offset-commit": _consumers("sources.kafka", "KafkaSource.commit", "before"),
    "after-offset-commit": _consumers("sources.kafka", "KafkaSource.commit", "after"),
    "before-replayed-rows": _consumers(
        "sinks.duckdb", "DuckDBSink._write_offsets", "after", command="dlq"
    ),
    "after-replayed-rows": _consumers(
        "dead_letters.replay", "Replay._decide", "before", command="dlq"
    ),
    "after-replay-decision": _consumers(
        "dead_letters.replay", "Replay._decide", "after", command="dlq"
    ),
}
"""By name. The `log` is the embedded one."""


class Crash:
    """Lets N-1 passages through, and ends the process at the N-th."""

    def __init__(self, passage: int) -> None:
        self._passages = itertools.count(1)
        self._last = passage

    def pass_(self) -> None:
        """Passes, or does not."""
        if next(self._passages) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def arm(point: Point, passage: int) -> None:
    """Puts the crash into the program."""
    owner, name = point.owner()
    setattr(owner, name, _wrapped(getattr(owner, name), point.moment, Crash(passage)))


def _wrapped(function: Callable[..., Any], moment: Moment, crash: Crash) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waits(*args: Any, **kwargs: Any) -> Any:
            if moment == "before":
                crash.pass_()
            result = await function(*args, **kwargs)
            if moment == "after":
                crash.pass_()
            return result

        return waits

    @functools.wraps(function)
    def blocks(*args: Any, **kwargs: Any) -> Any:
        if moment == "before":
            crash.pass_()
        result = function(*args, **kwargs)
        if moment == "after":
            crash.pass_()
        return result

    return blocks


def main(arguments: list[str]) -> None:
    """Arms the point and runs the program's own `main`. Exit 2 for a point that is none."""
    place, command, *rest = arguments
    name, _, passage = place.partition(":")
    point = POINTS.get(name)
    if point is None or point.command != command:
        known = ", ".join(n for n, p in POINTS.items() if p.command == command)
        sys.exit(f"no such point of `{command}`: {name} (there are {known})")
    arm(point, int(passage or 1))
    run(command, *rest)


def run(command: str, *rest: str) -> None:
    """The program's own `main`."""
    program = importlib.import_module(PROGRAMS[command])
    sys.argv = [command, command, *rest]
    program.main()


if __name__ == "__main__":
    main(sys.argv[1:])
