"""Every metric of the receiver: name, unit, labels. The ledger among them balances at every scrape.

received = settled + held, by source: an event is counted in when its request is complete, and out
in the same step that decides its answer.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ingest.contract.envelope import SOURCES, Source
from ingest.errors import Refusal, Unavailable
from ingest.handover import Receipt

_ACK_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The receiver's metrics, in a registry of their own; for the event loop's thread only."""

    def __init__(self, process: str = "0") -> None:
        self.registry = CollectorRegistry()
        self._process = process
        self._received = self._counter(
            "forebay_events_received_total", "Events whose request was complete.", "source"
        )
        self._settled = self._counter(
            "forebay_events_settled_total",
            "Events that were decided.",
            "source",
            "outcome",
            "reason",
        )
        self._held = Gauge(
            "forebay_events_held",
            "Events that are not decided yet.",
            ["process", "source", "lane"],
            registry=self.registry,
        )
        self._aborted = self._counter(
            "forebay_requests_aborted_total", "Requests that ended before their body did.", "reason"
        )
        self._ignored_members = self._counter(
            "forebay_token_header_members_ignored_total",
            "Header members of authentic tokens that we do not know.",
        )
        self._ack = Histogram(
            "forebay_ack_seconds",
            "Time from the complete request to the durable event.",
            ["process", "source"],
            buckets=_ACK_BUCKETS_S,
            registry=self.registry,
        )
        self._last_event = Gauge(
            "forebay_tenant_last_event_timestamp_seconds",
            "When the tenant's latest event was received, in Unix seconds.",
            ["process", "tenant"],
            registry=self.registry,
        )
        self._entries = {source: LedgerLine(self, source) for source in SOURCES}

    def line(self, source: Source) -> "LedgerLine":
        """The ledger's line of a source."""
        return self._entries[source]

    def aborted(self, reason: str) -> None:
        """A request that ended before its body was complete; it is in no ledger."""
        self._aborted.labels(self._process, reason).inc()

    def ignored_members(self, count: int) -> None:
        """Unknown header members of one authentic token."""
        self._ignored_members.labels(self._process).inc(count)

    def tenant_seen(self, tenant: str, unix_s: float) -> None:
        """An event of the tenant was accepted."""
        self._last_event.labels(self._process, tenant).set(unix_s)

    def watch_keys(self, ages: Callable[[], dict[str, float]]) -> None:
        """Shows the age of each issuer's keys, in seconds, at every scrape."""
        self.registry.register(_KeyAges(self._process, ages))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["process", *labels], registry=self.registry)


class LedgerLine:
    """Counts one source's events in and out; children of the metrics are looked up once."""

    def __init__(self, metrics: Metrics, source: Source) -> None:
        process = metrics._process
        self._received = metrics._received.labels(process, source)
        self._in_flight = metrics._held.labels(process, source, "in_flight")
        self._ack = metrics._ack.labels(process, source)
        self._settled: dict[tuple[str, str], Counter] = {}
        self._find_settled: Callable[[str, str], Counter] = lambda outcome, reason: (
            metrics._settled.labels(process, source, outcome, reason)
        )

    def enter(self) -> "LedgerEntry":
        """Counts one event in."""
        self._received.inc()
        self._in_flight.inc()
        return LedgerEntry(self)

    def settle(self, outcome: str, reason: str = "") -> None:
        """Counts one event out."""
        self._in_flight.dec()
        counter = self._settled.get((outcome, reason))
        if counter is None:
            counter = self._settled[outcome, reason] = self._find_settled(outcome, reason)
        counter.inc()

    def observe_ack(self, seconds: float) -> None:
        """The time that one event took to become durable."""
        self._ack.observe(seconds)


class LedgerEntry:
    """One event in flight; leaving the `with` block settles it, however it is left."""

    __slots__ = ("_line", "_receipt")

    def __init__(self, line: LedgerLine) -> None:
        self._line = line
        self._receipt: Receipt | None = None

    def accepted(self, receipt: Receipt) -> Receipt:
        """Notes the receipt, which decides how the event is counted out."""
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
        if self._receipt is not None:
            self._line.settle(self._receipt.outcome, self._receipt.reason or "")
        elif isinstance(error, Unavailable):
            self._line.settle("not_durable", error.reason)
        elif isinstance(error, Refusal):
            self._line.settle("rejected", error.reason)
        else:
            self._line.settle("not_durable", "interrupted" if error is None else "internal")


class _KeyAges(Collector):
    def __init__(self, process: str, ages: Callable[[], dict[str, float]]) -> None:
        self._process = process
        self._ages = ages

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "forebay_jwks_age_seconds",
            "Time since the issuer's keys were fetched.",
            labels=["process", "issuer"],
        )
        for issuer, seconds in self._ages().items():
            family.add_metric([self._process, issuer], seconds)
        return [family]
