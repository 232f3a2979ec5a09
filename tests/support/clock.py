"""A clock that stands still until it is moved."""

from __future__ import annotations


class Clock:
    """Called, it gives seconds."""

    def __init__(self, now_s: float = 7.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Moves it."""
        self.now_s += seconds
