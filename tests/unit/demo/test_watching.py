from __future__ import annotations

import asyncio
import io
import re
from itertools import count

import pytest

from tests.demo.grid import WIDTH
from tests.demo.watching import Stage, watched


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def _stages() -> list[Stage]:
    numbers = count(100_000, 1_000)
    return [Stage(label=label, planned=400_000, done=lambda: next(numbers)) for label in ("a", "b")]


async def test_bars_stay_in_place_and_fit_the_terminal() -> None:
    out = _Terminal()
    async with watched(_stages(), out), asyncio.timeout(10):
        while not out.getvalue():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    text = out.getvalue()
    lines = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]|\r", "", text).splitlines()
    assert len(lines) == 2 * text.count("\x1b[2A") + 2 > 2
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1].endswith("of 400,000")


async def test_no_terminal_gets_plain_lines() -> None:
    out = io.StringIO()
    async with watched(_stages(), out):
        pass
    [line] = out.getvalue().splitlines()
    assert re.fullmatch(r"  a 10\d,000, b 10\d,000", line)


def test_what_was_counted_once_is_not_taken_back() -> None:
    answers = iter([5, 0, 7])  # a program that is away counts as 0
    stage = Stage(label="a", planned=10, done=lambda: next(answers))
    seen = []
    for second in range(3):
        stage.look(float(second))
        seen.append(stage.passed)
    assert seen == [5, 5, 7]
    assert stage.rate == pytest.approx(1.0)
