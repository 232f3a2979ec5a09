"""The sum of a sending: how many, how answered, how fast."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tests.emulator.budget import BudgetReport
from tests.emulator.deliveries import PATHS, Delivery, Lane

_MAX_EXAMPLES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneReport:
    """What Canvas would say of one lane. Counts are distinct events; `lost` are gone for good.

    A Live Event is lost when its tries are exhausted, a notice when its only one failed.
    """

    events: int
    accepted: int
    lost: int
    lost_by_name: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one call of sending did.

    `events` are the distinct ones that were meant well, each of which is in `accepted` or in
    `not_accepted`; `repeats` of them and `forgeries` are counted apart. `statuses`, `outcomes` and
    `reasons` count answers, attempts included ("none" is a request without an answer). `lanes` has
    the lanes that something was sent in. `budget` is that of the whole Canvas, not of one call.
    """

    events: int
    accepted: int
    not_accepted: int
    repeats: int
    forgeries: int
    misjudged_forgeries: int
    attempts: int
    statuses: Mapping[str, int]
    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]
    examples: tuple[str, ...]
    duration_s: float
    events_per_s: float
    latency_ms: Mapping[str, float]
    lanes: Mapping[Lane, LaneReport]
    budget: BudgetReport

    @property
    def ok(self) -> bool:
        """Whether every genuine event was accepted and every forgery rightly judged."""
        return self.not_accepted == 0 and self.misjudged_forgeries == 0

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        plain = {**asdict(self), "ok": self.ok}
        plain["budget"]["deactivated"] = self.budget.deactivated
        return plain


class Tally:
    """Adds up deliveries as they arrive."""

    def __init__(self) -> None:
        self._genuine: dict[str, bool] = {}
        self._events: Counter[Lane] = Counter()
        self._lost: dict[str, tuple[Lane, str]] = {}
        self._roles: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._misjudged = 0
        self._examples: list[str] = []
        self._elapsed_s = array("d")

    @property
    def done(self) -> int:
        """Deliveries so far, attempts included."""
        return len(self._elapsed_s)

    def add(self, delivery: Delivery) -> None:
        """Count one delivery."""
        if delivery.attempt == 1:
            self._roles[delivery.role] += 1
        self._elapsed_s.append(delivery.elapsed_s)
        self._statuses["none" if delivery.status is None else str(delivery.status)] += 1
        if delivery.outcome is not None:
            self._outcomes[delivery.outcome] += 1
        if delivery.reason is not None:
            self._reasons[delivery.reason] += 1
        if delivery.role == "forgery":
            self._misjudged += not delivery.right
        elif delivery.content_key is not None:
            self._add_genuine(delivery.content_key, delivery)
        if not delivery.right and len(self._examples) < _MAX_EXAMPLES:
            self._examples.append(_sentence(delivery))

    def _add_genuine(self, key: str, delivery: Delivery) -> None:
        if key not in self._genuine:
            self._events[delivery.lane] += 1
        self._genuine[key] = delivery.accepted or self._genuine.get(key, False)
        if self._genuine[key]:
            self._lost.pop(key, None)
        else:
            self._lost[key] = delivery.lane, delivery.name

    def _lane(self, lane: Lane) -> LaneReport:
        lost = Counter(name for where, name in self._lost.values() if where == lane)
        return LaneReport(
            events=self._events[lane],
            accepted=self._events[lane] - lost.total(),
            lost=lost.total(),
            lost_by_name=dict(sorted(lost.items())),
        )

    def report(self, duration_s: float, budget: BudgetReport) -> Report:
        """The sum of a sending that took `duration_s` and is over, so that no try is left."""
        accepted = sum(self._genuine.values())
        return Report(
            events=len(self._genuine),
            accepted=accepted,
            not_accepted=len(self._genuine) - accepted,
            repeats=self._roles["repeat"],
            forgeries=self._roles["forgery"],
            misjudged_forgeries=self._misjudged,
            attempts=self.done,
            statuses=dict(sorted(self._statuses.items())),
            outcomes=dict(sorted(self._outcomes.items())),
            reasons=dict(sorted(self._reasons.items())),
            examples=tuple(self._examples),
            duration_s=round(duration_s, 3),
            events_per_s=round(self.done / duration_s, 1) if duration_s else 0.0,
            latency_ms=_quantiles(self._elapsed_s),
            lanes={lane: self._lane(lane) for lane in PATHS if self._events[lane]},
            budget=budget,
        )


def _sentence(delivery: Delivery) -> str:
    got = delivery.error if delivery.status is None else str(delivery.status)
    said = delivery.reason or delivery.outcome or "nothing"
    right = delivery.expected[0] if delivery.expected else None
    wanted = f"{right.status} {right.says}" if right else "2xx"
    return f"{delivery.role} {delivery.name}: answered {got} ({said}), wanted {wanted}"


def _quantiles(elapsed_s: array[float]) -> dict[str, float]:
    ordered = sorted(elapsed_s)
    if not ordered:
        return {}
    places = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {name: round(ordered[round(q * last)] * 1000, 2) for name, q in places.items()}
