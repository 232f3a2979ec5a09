"""How far each stage is, and how fast: bars that stay in place on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, TextIO

import click
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import Program

_GAP_S: Final = 0.25
_LINE_GAP_S: Final = 2.0
_RATE_OVER_S: Final = 2.0
_BAR: Final = 30


@dataclass(slots=True, kw_only=True)
class Stage:
    """A place that all events pass. `done` says how many did; it may block for milliseconds.

    Beyond `planned` it counts nothing: a forgery that goes to quarantine is no progress.
    """

    label: str
    planned: int
    done: Callable[[], int]
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def look(self, now_s: float) -> None:
        """Take down how many passed by now."""
        self._seen.append((now_s, min(self.planned, max(self.done(), self.passed))))
        while now_s - self._seen[0][0] > _RATE_OVER_S and len(self._seen) > 2:
            self._seen.popleft()

    @property
    def passed(self) -> int:
        """How many passed when it was last looked at."""
        return self._seen[-1][1] if self._seen else 0

    @property
    def rate(self) -> float:
        """Events a second, over the last two seconds."""
        if len(self._seen) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / max(last_s - first_s, 0.001)


@contextlib.asynccontextmanager
async def watched(stages: list[Stage], out: TextIO = sys.stderr) -> AsyncIterator[None]:
    """Show the stages from now to the end of the block."""
    show = _Bars(stages, out) if out.isatty() else _Lines(stages, out)
    over = asyncio.Event()
    watching = asyncio.create_task(_watch(stages, show, over))
    try:
        yield
    finally:
        over.set()
        await watching


def counted(program: Program, metric: str, **labels: str) -> int:
    """A program's counter, added up over all series that have these labels; 0 if it is away."""
    try:
        text = program.get("/metrics")
    except OSError:
        return 0
    return int(
        sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric and labels.items() <= sample.labels.items()
        )
    )


async def _watch(stages: list[Stage], show: _Bars | _Lines, over: asyncio.Event) -> None:
    last = False
    while not last:
        last = over.is_set()
        for stage in stages:
            await asyncio.to_thread(stage.look, time.monotonic())
        show.draw(last=last)
        if not last:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _GAP_S)


class _Bars:
    """One bar a stage, drawn over the one before."""

    def __init__(self, stages: list[Stage], out: TextIO) -> None:
        self._stages = stages
        self._out = out
        self._drawn = False
        utf = (out.encoding or "").lower().startswith("utf")
        self._full, self._empty = ("\N{FULL BLOCK}", "\N{LIGHT SHADE}") if utf else ("#", ".")

    def draw(self, *, last: bool) -> None:
        """Draw all bars. At the end the rates go, which would be those of the waiting."""
        up = f"\x1b[{len(self._stages)}A" if self._drawn else ""
        self._drawn = True
        lines = (f"\r\x1b[2K{self._bar(stage, last=last)}\n" for stage in self._stages)
        self._out.write(up + "".join(lines))
        self._out.flush()

    def _bar(self, stage: Stage, *, last: bool) -> str:
        full = min(_BAR, _BAR * stage.passed // stage.planned)
        bar = click.style(self._full * full, fg="cyan") + self._empty * (_BAR - full)
        rate = "" if last else f"{stage.rate:>7,.0f}/s"
        return f"  {stage.label:<16} {bar} {stage.passed:>6,} of {stage.planned:,}{rate}"


class _Lines:
    """One line for all stages, every two seconds and at the end."""

    def __init__(self, stages: list[Stage], out: TextIO) -> None:
        self._stages = stages
        self._out = out
        self._said_s = time.monotonic()

    def draw(self, *, last: bool) -> None:
        """Say how far it is, if it is time."""
        if not last and time.monotonic() - self._said_s < _LINE_GAP_S:
            return
        self._said_s = time.monotonic()
        said = ", ".join(
            f"{stage.label} {stage.passed:,}" + ("" if last else f" ({stage.rate:,.0f}/s)")
            for stage in self._stages
        )
        click.echo(f"  {said}", file=self._out)
