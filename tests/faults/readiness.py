"""Asks the receiver whether it is ready, several times a second, and holds it to the answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal

import aiohttp

from tests.faults.verdict import Violation

LOOK_EVERY_S: Final = 0.2
ANSWER_WITHIN_S: Final = 5.0
LAG_S: Final = 1.0
"""How long after the first refusal it may still say that it is ready."""

_MAX_TOLD: Final = 3
_TIMEOUT = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)

Answer = Literal["ready", "unready", "none"]
Expected = Literal["ready", "unready", "either"]


class Readiness:
    """What the receiver says of itself must be so: ready from its first yes until its end.

    The cases say when events cannot be made durable. `process` is the id of the process that is
    to run, None where none is: each one has the time to its first yes for its start.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        admin_url: str,
        process: Callable[[], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._url = f"{admin_url}/readyz?verbose"
        self._process = process
        self._clock = clock
        self._was_ready: int | None = None
        self._expected: Expected = "ready"
        self._since_s = clock()
        self._wrong: list[str] = []
        self.looks = 0
        """How often a process that had been ready was asked and answered."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Once. Who is started, ended or killed meanwhile says nothing."""
        process, expected, since_s = self._process(), self._expected, self._since_s
        answer, text = await self._asked()
        # what a case expects may have changed while the answer was on its way
        if answer == "none" or (process, since_s) != (self._process(), self._since_s):
            return
        self.judge(process, answer, text, expected)

    def judge(self, process: int | None, answer: Answer, text: str, expected: Expected) -> None:
        """Holds one answer against what the case expects."""
        if process is None:
            return
        if self._was_ready != process:
            self._was_ready = process if answer == "ready" else self._was_ready
            return
        self.looks += 1
        held_s = self._clock() - self._since_s
        if expected == "ready" and answer == "unready":
            self._wrong.append(f"not ready, though events can be made durable: {text}")
        if expected == "unready" and answer == "ready" and held_s > LAG_S:
            self._wrong.append(f"ready, {held_s:.1f} s after the first event was refused: {text}")

    @contextlib.contextmanager
    def undecided(self) -> Iterator[None]:
        """Events begin or cease to be durable in this block; it may be ready or not."""
        with self._expecting("either"):
            yield

    @contextlib.contextmanager
    def lost(self) -> Iterator[None]:
        """No event can be made durable in this block, and one has been refused already."""
        with self._expecting("unready"):
            yield

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What did not hold; a case in which nobody asked proves nothing."""
        if not self.looks:
            return (Violation(invariant="ready", seen="no process answered a second time"),)
        return tuple(Violation(invariant="ready", seen=each) for each in self._wrong[:_MAX_TOLD])

    @contextlib.contextmanager
    def _expecting(self, expected: Expected) -> Iterator[None]:
        before = self._expected
        self._expected, self._since_s = expected, self._clock()
        try:
            yield
        finally:
            self._expected, self._since_s = before, self._clock()

    async def _asked(self) -> tuple[Answer, str]:
        try:
            async with self._session.get(self._url, timeout=_TIMEOUT) as response:
                text = " ".join((await response.text()).split("\n"))
                return ("ready" if response.status == 200 else "unready"), text
        except TimeoutError:
            return "unready", f"no answer within {ANSWER_WITHIN_S:g} s"
        except (aiohttp.ClientError, OSError):
            return "none", ""
