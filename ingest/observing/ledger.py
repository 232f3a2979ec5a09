"""The ledger: what became of every event. It balances at every scrape.

received + recovered = settled + held, by source: an event is counted in when its request is
complete or a state is found to hold it, and out in the same step that decides what becomes of it.
"""

import asyncio
import time
from types import TracebackType
from typing import Self

from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.contract.envelope import SOURCES, Source
from ingest.errors import NoKeys, Refusal, Rejection, TooLarge, TooManyWaitForKeys
from ingest.observing.canvas_budget import CanvasBudget
from ingest.values import EVENT_STATES, EventState, Receipt

# anybody can bring these about, so they may ring no alarm
_OF_ANYBODY = (NoKeys, TooManyWaitForKeys)


class Ledger:
    """Events in and out, by source. Plain numbers, so that one look at them is one moment."""

    def __init__(self) -> None:
        self.received = dict.fromkeys(SOURCES, 0)
        self.recovered = dict.fromkeys(SOURCES, 0)
        self.held = {(state, source): 0 for state in EVENT_STATES for source in SOURCES}
        self.settled: dict[tuple[Source, str, str], int] = {}
        self.damage: dict[str, int] = {"damaged": 0}

    def found(self, state: EventState, source: Source, count: int) -> None:
        """Counts in what a state holds and nobody brought in this process's time."""
        self.recovered[source] += count
        self.held[state, source] += count

    def left(self, state: EventState, source: Source, outcome: str, reason: str = "") -> None:
        """Counts out one event of a state."""
        self.held[state, source] -= 1
        line = (source, outcome, reason)
        self.settled[line] = self.settled.get(line, 0) + 1

    def lost(self, reason: str, count: int) -> None:
        """Counts records that were gone before anyone could count them in."""
        self.damage[reason] += count

    def end(self, state: EventState, source: Source, decision: "Decision") -> None:
        """An event's stay in a state ends, in the same step in which the next begins."""
        if decision.held_in is None:
            self.left(state, source, decision.outcome, decision.reason)
        else:
            self.held[state, source] -= 1
            self.held[decision.held_in, source] += 1


class Decision(Struct, frozen=True):
    """What becomes of an event: an outcome, or a further state that holds it."""

    outcome: str
    reason: str = ""
    held_in: EventState | None = None


class LedgerEntry:
    """One event in a state; leaving the `with` block ends its stay there, however it is left.

    A deferred one stays where it is while it cannot be made durable.
    """

    __slots__ = ("_budget", "_ledger", "_receipt", "_source", "_state")

    def __init__(
        self, ledger: Ledger, source: Source, state: EventState, budget: CanvasBudget | None
    ) -> None:
        self._budget = budget
        self._ledger = ledger
        self._source = source
        self._state: EventState = state
        self._receipt: Receipt | None = None

    def accepted(self, receipt: Receipt) -> Receipt:
        """Takes the receipt, which decides what becomes of the event."""
        self._receipt = receipt
        return receipt

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ledger.end(self._state, self._source, self._decision(error))
        if self._receipt is None and self._costs_canvas(error):
            assert self._budget is not None
            self._budget.spend("error", time.time())

    def _costs_canvas(self, error: BaseException | None) -> bool:
        """Whether Canvas will try again and count it against one of our tenants: it was signed, or
        names one of them while nobody can have its keys."""
        if self._budget is None or self._source != "live-events":
            return False
        if isinstance(error, Rejection):
            return isinstance(error, TooLarge)  # for quarantine: an authentic one
        return not isinstance(error, _OF_ANYBODY)

    def _decision(self, error: BaseException | None) -> Decision:
        receipt = self._receipt
        if receipt is not None and receipt.repeat:
            outcome = "quarantined" if receipt.outcome == "quarantined" else "published"
            return Decision(outcome, "repeat")
        if receipt is not None:
            return Decision(receipt.outcome, receipt.reason or "", receipt.held_in)
        if isinstance(error, Rejection):
            return Decision("rejected", error.reason)
        if isinstance(error, asyncio.CancelledError):
            reason = "deadline"
        else:
            reason = error.reason if isinstance(error, Refusal) else "internal"
        stays = self._state if self._state != "in_flight" else None
        return Decision("not_durable", reason, stays)


class LedgerCollector(Collector):
    def __init__(self, process: str, ledger: Ledger) -> None:
        self._process = process
        self._ledger = ledger

    def collect(self) -> list[Metric]:
        ledger, process = self._ledger, self._process
        received = CounterMetricFamily(
            "forebay_events_received",
            "Events whose request was complete.",
            labels=["process", "source"],
        )
        recovered = CounterMetricFamily(
            "forebay_events_recovered",
            "Events found in the spool or the deferred state, of which no request is known.",
            labels=["process", "source"],
        )
        held = GaugeMetricFamily(
            "forebay_events_held",
            "Events that are not decided yet.",
            labels=["process", "source", "lane"],
        )
        settled = CounterMetricFamily(
            "forebay_events_settled",
            "Events that were decided.",
            labels=["process", "source", "outcome", "reason"],
        )
        lost = CounterMetricFamily(
            "forebay_spool_unreadable_records",
            "Records of a damaged spool that were gone before they could be counted in.",
            labels=["process", "reason"],
        )
        for source in SOURCES:
            received.add_metric([process, source], ledger.received[source])
            recovered.add_metric([process, source], ledger.recovered[source])
        for (state, source), count in ledger.held.items():
            held.add_metric([process, source, state], count)
        for (source, outcome, reason), count in ledger.settled.items():
            settled.add_metric([process, source, outcome, reason], count)
        for reason, count in ledger.damage.items():
            lost.add_metric([process, reason], count)
        return [received, recovered, held, settled, lost]
