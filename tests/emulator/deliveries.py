"""The values between planning, sending and judging: what goes out, and what came back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

Lane = Literal["live-events", "pns"]
Role = Literal["genuine", "repeat", "forgery"]

PATHS: Final[dict[Lane, str]] = {"live-events": "/live-events", "pns": "/pns"}

DURABLE_OUTCOMES: Final = frozenset({"published", "spooled", "deferred", "quarantined"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a correct receiver answers: status, and the reason (refusals) or outcome (2xx)."""

    status: int
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One event inside a request: what the oracle must know of it.

    `content_key` is None where the content is nobody's (garbage). `expected` is set for forgeries:
    the first verdict is the right one, further ones are excusable.
    """

    role: Role
    name: str
    content_key: str | None
    expected: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One HTTP request, ready to send. `content_type` None sends none."""

    lane: Lane
    body: bytes
    content_type: str | None
    parcels: tuple[Parcel, ...]


class Job(Protocol):
    """Makes a request; may sign, so it may take milliseconds of processor time.

    `attempt` counts from 1. The first gives the same bytes whenever it is called, be it after a
    rotation; a later one is signed again, at its own time and with the key of that time.
    """

    def __call__(self, attempt: int, /) -> Outgoing: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """A request that goes out `delay_s` from now, outside of the pace; `make` is called then."""

    delay_s: float
    make: Callable[[], Job]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of one parcel in one attempt.

    `status` is None when no answer came, `error` then says why. `outcome`, `event_id` and `reason`
    are what the answer says; an answer that is not the JSON we know leaves them None. `final` is
    false while the sender means to try again.
    """

    lane: Lane
    role: Role
    name: str
    content_key: str | None
    attempt: int
    sent_at_s: float
    elapsed_s: float
    status: int | None
    outcome: str | None = None
    event_id: str | None = None
    reason: str | None = None
    error: str | None = None
    expected: tuple[Verdict, ...] = ()
    final: bool = True

    @property
    def answered_2xx(self) -> bool:
        """Whether Canvas is satisfied: it looks at nothing but the status."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def accepted(self) -> bool:
        """Whether the receiver took it on: 2xx, and for a notice of a batch no refusal of its own.

        A 2xx without an outcome counts, as it does for Canvas.
        """
        if not self.answered_2xx:
            return False
        return self.outcome is None or self.outcome in DURABLE_OUTCOMES

    @property
    def right(self) -> bool:
        """Whether the answer is what a correct receiver gives to this parcel."""
        if not self.expected:
            return self.accepted
        said = {self.outcome, self.reason}
        return any(self.status == e.status and e.says in said for e in self.expected)


def still_tried(before: frozenset[Role], delivery: Delivery) -> frozenset[Role]:
    """As what an event is sent again, once this delivery of it is known.

    An event and its repeat have tries of their own.
    """
    return before - {delivery.role} if delivery.final else before | {delivery.role}
