"""Every named point is a place in the program, and the N-th passage is the last."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.faults.crashing import POINTS

PASSING = """
import sys
from tests.faults import crashing

class Tank:
    async def fill(self):
        print("filled", flush=True)

sys.modules["tank"] = sys.modules["__main__"]
point = crashing.Point(command="serve", module="tank", name="Tank.fill", moment=sys.argv[1])
crashing.arm(point, 2)

async def main():
    for _ in range(3):
        await Tank().fill()

import asyncio
asyncio.run(main())
"""


@pytest.mark.parametrize("name", POINTS)
def test_every_point_is_a_function_of_the_program(name: str) -> None:
    owner, function = POINTS[name].owner()
    assert callable(getattr(owner, function))


@pytest.mark.parametrize(("moment", "filled"), [("before", 1), ("after", 2)])
def test_the_passage_that_was_named_is_the_last(moment: str, filled: int) -> None:
    ended = _run("-c", PASSING, moment)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ended.stdout.split() == ["filled"] * filled


def test_a_point_of_the_other_program_is_refused() -> None:
    ended = _run("-m", "tests.faults.crashing", "after-sink-commit", "serve")
    assert ended.returncode == 1
    assert "before-log-commit" in ended.stderr


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
