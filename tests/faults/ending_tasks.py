"""Runs one of the two programs, and ends its background tasks as a file says.

    python -m tests.faults.ending_tasks CONTROL serve
    python -m tests.faults.ending_tasks CONTROL run

CONTROL is the path of a file with the name of a task. That task ends with an error, once, be it at
work or about to begin, and the file is taken away. Beside it, `CONTROL.tasks` has one line for each
task that was started: `needed` or `restarted`, a tab, its name.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

from ingest.shared.background import Background, Work
from tests.faults import crashing

LOOK_EVERY_S: Final = 0.05


class Injected(Exception):
    """What the task ends with."""


class TaskEnder:
    """Stands between a program and its background tasks."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._started = tasks_file(control)

    def install(self) -> None:
        """From now on in this process."""
        start, ender = Background.start, self

        def started(
            background: Background, name: str, work: Work, *, needed: bool = False, **rest: Any
        ) -> None:
            with ender._started.open("a") as file:
                file.write(f"{'needed' if needed else 'restarted'}\t{name}\n")
            start(background, name, lambda: ender._doing(name, work), needed=needed, **rest)

        setattr(Background, "start", started)  # noqa: B010 - mypy knows no such change

    async def _doing(self, name: str, work: Work) -> None:
        doing = asyncio.ensure_future(work())
        try:
            while not doing.done():
                if self._is_named(name):
                    self._control.unlink()
                    raise Injected
                await asyncio.wait([doing], timeout=LOOK_EVERY_S)
            doing.result()
        finally:
            doing.cancel()

    def _is_named(self, name: str) -> bool:
        try:
            return self._control.read_text() == name
        except FileNotFoundError:
            return False


def tasks_file(control: Path) -> Path:
    """Where the tasks are named that were started."""
    return control.with_name(f"{control.name}.tasks")


def main(arguments: list[str]) -> None:
    """Installs it, and runs the program."""
    control, command = arguments
    TaskEnder(Path(control)).install()
    crashing.run(command)


if __name__ == "__main__":
    main(sys.argv[1:])
