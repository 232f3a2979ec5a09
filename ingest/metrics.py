"""Every metric of the receiver: name, unit, labels. The ledger among them balances at every scrape.

received = settled + held, by source: an event is counted in when its request is complete, and out
in the same step that decides its answer.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.contract.envelope import SOURCES, Source
from ingest.contract.operating.metrics import new_registry
from ingest.drift import Sighting, Unknown
from ingest.errors import Refusal, Unavailable
from ingest.handover import Receipt

_ACK_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The receiver's metrics, in a registry of their own; for the event loop's thread only."""

    def __init__(self, process: str = "0") -> None:
        self.registry = new_registry()
        self._process = process
        self._ledger = Ledger()
        self.registry.register(_LedgerCollector(process, self._ledger))
        self._aborted = self._counter(
            "forebay_requests_aborted_total", "Requests that ended before their body did.", "reason"
        )
        self._ignored_members = self._counter(
            "forebay_token_header_members_ignored_total",
            "Header members of authentic tokens that we do not know.",
        )
        ack = Histogram(
            "forebay_ack_seconds",
            "Time from the complete request to the durable event.",
            ["process", "source"],
            buckets=_ACK_BUCKETS_S,
            registry=self.registry,
        )
        self._ack = {source: ack.labels(process, source) for source in SOURCES}
        self._last_event: dict[str, float] = {}
        self.registry.register(
            _LabelledGauge(
                "forebay_tenant_last_event_timestamp_seconds",
                "When the tenant's latest event was received, in Unix seconds.",
                ("tenant", process),
                lambda: self._last_event,
            )
        )

    def enter(self, source: Source) -> "LedgerEntry":
        """Counts one event in; leaving the entry's `with` block counts it out."""
        return LedgerEntry(self._ledger, source)

    def aborted(self, reason: str) -> None:
        """A request that ended before its body was complete; it is in no ledger."""
        self._aborted.labels(self._process, reason).inc()

    def ignored_members(self, count: int) -> None:
        """Unknown header members of one authentic token."""
        self._ignored_members.labels(self._process).inc(count)

    def published(self, source: Source, tenant: str, received_at: float, ack_s: float) -> None:
        """An event of a tenant became durable, `ack_s` seconds after its request was complete."""
        self._ack[source].observe(ack_s)
        self._last_event[tenant] = received_at

    def watch_keys(self, ages: Callable[[], Mapping[str, float]]) -> None:
        """Shows the age of each issuer's keys, in seconds, at every scrape."""
        self.registry.register(
            _LabelledGauge(
                "forebay_jwks_age_seconds",
                "Time since the issuer's keys were fetched.",
                ("issuer", self._process),
                ages,
            )
        )

    def watch_drift(self, seen: Callable[[], Mapping[Unknown, Sighting]]) -> None:
        """Shows what came that the contract does not know; bounded as `drift` is."""
        self.registry.register(_DriftCollector(self._process, seen))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["process", *labels], registry=self.registry)


class Ledger:
    """Events in and out, by source. Plain numbers, so that one look at them is one moment."""

    def __init__(self) -> None:
        self.received = dict.fromkeys(SOURCES, 0)
        self.in_flight = dict.fromkeys(SOURCES, 0)
        self.settled: dict[tuple[Source, str, str], int] = {}


class LedgerEntry:
    """One event in flight; leaving the `with` block settles it, however it is left."""

    __slots__ = ("_ledger", "_receipt", "_source")

    def __init__(self, ledger: Ledger, source: Source) -> None:
        ledger.received[source] += 1
        ledger.in_flight[source] += 1
        self._ledger = ledger
        self._source = source
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
        outcome, reason = self._decision(error)
        line = (self._source, outcome, reason)
        self._ledger.in_flight[self._source] -= 1
        self._ledger.settled[line] = self._ledger.settled.get(line, 0) + 1

    def _decision(self, error: BaseException | None) -> tuple[str, str]:
        if self._receipt is not None:
            return self._receipt.outcome, self._receipt.reason or ""
        if isinstance(error, Unavailable):
            return "not_durable", error.reason
        if isinstance(error, Refusal):
            return "rejected", error.reason
        return "not_durable", "internal"


class _LedgerCollector(Collector):
    def __init__(self, process: str, ledger: Ledger) -> None:
        self._process = process
        self._ledger = ledger

    def collect(self) -> list[Metric]:
        received = CounterMetricFamily(
            "forebay_events_received",
            "Events whose request was complete.",
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
        for source in SOURCES:
            received.add_metric([self._process, source], self._ledger.received[source])
            held.add_metric([self._process, source, "in_flight"], self._ledger.in_flight[source])
        for (source, outcome, reason), count in self._ledger.settled.items():
            settled.add_metric([self._process, source, outcome, reason], count)
        return [received, held, settled]


class _LabelledGauge(Collector):
    """A gauge with one label, read from a mapping at every scrape."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: tuple[str, str],
        read: Callable[[], Mapping[str, float]],
    ) -> None:
        self._name = name
        self._text = text
        self._label, self._process = labels
        self._read = read

    def collect(self) -> list[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=["process", self._label])
        for value, number in self._read().items():
            family.add_metric([self._process, value], number)
        return [family]


class _DriftCollector(Collector):
    def __init__(self, process: str, seen: Callable[[], Mapping[Unknown, Sighting]]) -> None:
        self._process = process
        self._seen = seen

    def collect(self) -> list[Metric]:
        of_type = ["process", "source", "event_type"]
        types = CounterMetricFamily(
            "forebay_unknown_types", "Events of types that have no topic.", labels=of_type
        )
        fields = CounterMetricFamily(
            "forebay_unknown_fields",
            "Fields that no schema has; those of metadata are of no type.",
            labels=[*of_type, "field"],
        )
        for unknown, sighting in self._seen().items():
            labels = [self._process, unknown.source, unknown.event_type]
            if unknown.kind == "type":
                types.add_metric(labels, sighting.count)
            else:
                fields.add_metric([*labels, unknown.field], sighting.count)
        return [types, fields]
