"""Runs targets: so many inputs each, what failed, what was let in."""

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

_SHOWN = 10
_LOOK_EVERY = 64


class Target(Protocol):
    """One reader of what others wrote."""

    name: str

    def draw(self, rng: Random) -> Any:
        """A spoilt input, by these random numbers alone."""

    def admits(self, drawn: Any) -> bool:
        """Reads it: whether it let in what it must not. Whatever it raises is a crash."""

    def close(self) -> None:
        """Tidies up."""


@dataclass(kw_only=True)
class Findings:
    """Of one target, or of all."""

    inputs: int = 0
    crashes: list[str] = field(default_factory=list)
    admitted: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Findings") -> "Findings":
        self.inputs += other.inputs
        self.crashes += other.crashes
        self.admitted += other.admitted
        return self

    @property
    def failed(self) -> bool:
        """Whether there is anything to mend."""
        return bool(self.crashes or self.admitted)

    def __str__(self) -> str:
        crashes, admitted = len(self.crashes), len(self.admitted)
        return f"{self.inputs} inputs, {crashes} crashes, {admitted} admitted"


def run(
    target: Target,
    *,
    seed: int,
    inputs: int,
    first: int = 0,
    until_s: float | None = None,
    say: Callable[[str], None] = print,
) -> Findings:
    """Reads inputs `first`, `first + 1`… until the monotonic clock shows `until_s`, if given.

    Every failure is said at once, with how to repeat it; after ten no more are looked for.
    """
    findings = Findings()
    for number in _numbers(first, inputs, until_s):
        drawn: Any = None
        findings.inputs += 1
        try:
            drawn = target.draw(Random(f"{seed}:{target.name}:{number}"))
            if not target.admits(drawn):
                continue
            what, where = "admitted", findings.admitted
        except Exception:  # whatever is not declared is a crash
            what, where = traceback.format_exc(limit=-8), findings.crashes
        again = f"--target {target.name} --seed {seed} --first {number} --inputs 1"
        where.append(f"{target.name}, input {number}: {what}\n{drawn!r:.5000}\nagain: {again}")
        say(where[-1])
        if len(findings.crashes) + len(findings.admitted) >= _SHOWN:
            break
    return findings


def _numbers(first: int, inputs: int, until_s: float | None) -> Iterator[int]:
    for number in range(first, first + inputs):
        if until_s is not None and not number % _LOOK_EVERY and time.monotonic() > until_s:
            return
        yield number
