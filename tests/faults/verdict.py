"""What a case comes to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that did not hold, by its number, and what was seen.

    `case` stands for what only one case expects, `clock` for how soon or how much in a second.
    """

    invariant: str
    seen: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.seen}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The count at the end of one case.

    `events` are the distinct ones that were sent and deserve a 2xx, be it for quarantine, `acked`
    those of them that got one. `lost` were answered 2xx and are nowhere, `untrusted` are in a
    trusted place and should not be, `duplicate_rows` are rows beyond the first of an event in any
    table. `longest_request_s` is measured at the sender. `peak_bytes` is the receiver's resident
    memory where the case looks at it. `measured` are figures in words.
    """

    events: int = 0
    acked: int = 0
    lost: int = 0
    untrusted: int = 0
    duplicate_rows: int = 0
    longest_request_s: float = 0.0
    peak_bytes: int = 0
    violations: tuple[Violation, ...] = ()
    measured: tuple[str, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            events=self.events + other.events,
            acked=self.acked + other.acked,
            lost=self.lost + other.lost,
            untrusted=self.untrusted + other.untrusted,
            duplicate_rows=self.duplicate_rows + other.duplicate_rows,
            longest_request_s=max(self.longest_request_s, other.longest_request_s),
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
            violations=self.violations + other.violations,
            measured=self.measured + other.measured,
        )

    @property
    def is_only_late(self) -> bool:
        """Whether nothing is wrong but how long something took."""
        wrong = self.lost or self.untrusted or self.duplicate_rows
        return not (self.held or wrong) and {v.invariant for v in self.violations} == {"clock"}

    @property
    def held(self) -> bool:
        """Whether every invariant did."""
        return not (self.lost or self.untrusted or self.duplicate_rows or self.violations)
