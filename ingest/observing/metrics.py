"""Every metric of the receiver but the ledger's: name, unit, labels."""

import time
from collections.abc import Callable, Collection, Mapping

from msgspec import Struct
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.contract.envelope import SOURCES, Source
from ingest.observing.canvas_budget import KINDS, CanvasBudget
from ingest.observing.clock_skew import ClockSkew
from ingest.observing.drift import Sighting, Unknown
from ingest.observing.ledger import Ledger, LedgerCollector, LedgerEntry
from ingest.shared.registry import new_registry

# how long Canvas waits for an answer (Canvas documentation, Live Events: it tries again then)
_CANVAS_WAITS_S = 15.0
_ACK_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class SpoolFigures(Struct, frozen=True, kw_only=True):
    """The spool at a glance. `seconds_to_full` is infinite while it does not grow."""

    records: int
    tokens: int
    used_bytes: int
    oldest_age_s: float
    seconds_to_full: float
    reserve_held: bool


class Metrics:
    """The receiver's metrics, in a registry of their own; for the event loop's thread only."""

    def __init__(self, process: str = "0") -> None:
        self.registry = new_registry()
        self._process = process
        self.ledger = Ledger()
        self.canvas_budget = CanvasBudget()
        self.clock_skew = ClockSkew()
        self.registry.register(LedgerCollector(process, self.ledger))
        self._aborted = self._counter(
            "forebay_requests_aborted_total",
            "Requests that ended before their body did, and connections ended by us.",
            "reason",
        )
        self._ignored_members = self._counter(
            "forebay_token_header_members_ignored_total",
            "Header members of authentic tokens that we do not know.",
        )
        self._state_file_failures = self._counter(
            "forebay_state_file_failures_total",
            "Failed reads and writes of what only helps people: nothing of an event is in it.",
            "file",
        )
        self._background_restarts = self._counter(
            "forebay_background_restarts_total",
            "Background tasks that ended with an error and were begun again.",
            "task",
        )
        self._tls_reload_failures = self._counter(
            "forebay_tls_reload_failures_total",
            "Looks at a changed certificate that could not be used; the old one serves on.",
        )
        self._tenants_reload_failures = self._counter(
            "forebay_tenants_reload_failures_total",
            "Looks at a changed tenants file that could not be used; the tenants before it stay.",
        )
        self._ack = self._ack_histograms()
        self.last_event: dict[str, dict[Source, float]] = {}
        """When each tenant's latest event of each source was received, in Unix seconds."""
        self._tenant_events: dict[str, int] = {}
        self.registry.register(_TenantEventsCollector(process, self._tenant_events))
        self._show_gauges()

    def _ack_histograms(self) -> Mapping[Source, Histogram]:
        ack = Histogram(
            "forebay_ack_seconds",
            "Time from the complete request to the durable event.",
            ["process", "source"],
            buckets=_ACK_BUCKETS_S,
            registry=self.registry,
        )
        return {source: ack.labels(self._process, source) for source in SOURCES}

    def _show_gauges(self) -> None:
        self.registry.register(
            _LabelledGauge(
                "forebay_tenant_last_event_timestamp_seconds",
                "When the tenant's latest event was received, in Unix seconds.",
                ("tenant", self._process),
                lambda: {tenant: max(at.values()) for tenant, at in self.last_event.items()},
            )
        )
        self.registry.register(
            _LabelledGauge(
                "forebay_canvas_budget_used_ratio",
                "Share of what Canvas allows in 24 h before it gives us up; an estimate.",
                ("kind", self._process),
                self._budget_used,
            )
        )
        self.registry.register(
            _LabelledGauge(
                "forebay_clock_skew_seconds",
                "From signing to receipt, the median of late; below zero the clocks differ.",
                ("issuer", self._process),
                self.clock_skew.by_issuer,
            )
        )

    def _budget_used(self) -> dict[str, float]:
        now_s = time.time()
        return {kind: self.canvas_budget.used_ratio(kind, now_s) for kind in KINDS}

    def enter(self, source: Source) -> LedgerEntry:
        """Counts one event in; leaving the entry's `with` block counts it out."""
        self.ledger.received[source] += 1
        self.ledger.held["in_flight", source] += 1
        return LedgerEntry(self.ledger, source, "in_flight", self.canvas_budget)

    def resume(self, source: Source) -> LedgerEntry:
        """A deferred event is taken up again; leaving the entry's block counts it out, or on."""
        return LedgerEntry(self.ledger, source, "deferred", None)

    def aborted(self, reason: str) -> None:
        """A request that ended before its body was complete; it is in no ledger.

        Nor does it count as one that Canvas gave up: anybody may have sent it.
        """
        self._aborted.labels(self._process, reason).inc()

    def ignored_members(self, count: int) -> None:
        """Unknown header members of one authentic token."""
        self._ignored_members.labels(self._process).inc(count)

    def durable(self, source: Source, ack_s: float) -> None:
        """An event became durable, `ack_s` seconds after its request was complete."""
        self._ack[source].observe(ack_s)
        if ack_s > _CANVAS_WAITS_S and source == "live-events":
            self.canvas_budget.spend("timeout", time.time())

    def tenants_are(self, names: Collection[str]) -> None:
        """Shows these tenants, and none that have gone."""
        for gone in self._tenant_events.keys() - set(names):
            del self._tenant_events[gone]
        for gone in self.last_event.keys() - set(names):
            del self.last_event[gone]
        for name in names:
            self._tenant_events.setdefault(name, 0)

    def seen(self, tenant: str, source: Source, received_at: float) -> None:
        """An event of a tenant, received at that Unix time, is durable."""
        self._tenant_events[tenant] = self._tenant_events.get(tenant, 0) + 1
        self.was_seen(tenant, source, received_at)

    def was_seen(self, tenant: str, source: Source, received_at: float) -> None:
        """The same of an event that an earlier process has counted."""
        # a deferred event may be older than what came after it
        latest = self.last_event.setdefault(tenant, {})
        latest[source] = max(received_at, latest.get(source, 0))

    def state_file_failed(self, file: str) -> None:
        """A file of what outlives the process could not be read or written."""
        self._state_file_failures.labels(self._process, file).inc()

    def background_restarted(self, task: str) -> None:
        """A background task ended with an error and is begun again."""
        self._background_restarts.labels(self._process, task).inc()

    def tls_reload_failed(self) -> None:
        """The certificate's files have changed, and cannot be used."""
        self._tls_reload_failures.labels(self._process).inc()

    def tenants_reload_failed(self) -> None:
        """The tenants file has changed, and cannot be used."""
        self._tenants_reload_failures.labels(self._process).inc()

    def watch_partitions(self, unavailable: Callable[[], int]) -> None:
        """Shows at every scrape how many partitions take no records."""
        Gauge(
            "forebay_kafka_partitions_unavailable",
            "Partitions whose latest record Kafka did not take.",
            ["process"],
            registry=self.registry,
        ).labels(self._process).set_function(unavailable)

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Shows at every scrape how many sockets of the public listener are open."""
        Gauge(
            "forebay_open_connections",
            "Sockets of the public listener, unfinished handshakes included.",
            ["process"],
            registry=self.registry,
        ).labels(self._process).set_function(count)

    def watch_spool(self, figures: Callable[[], SpoolFigures]) -> None:
        """Shows the spool's state at every scrape."""
        self.registry.register(_SpoolCollector(self._process, figures))

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


class _TenantEventsCollector(Collector):
    def __init__(self, process: str, events: Mapping[str, int]) -> None:
        self._process = process
        self._events = events

    def collect(self) -> list[Metric]:
        family = CounterMetricFamily(
            "forebay_tenant_events",
            "Events of the tenant that became durable, repeats and quarantined ones apart.",
            labels=["process", "tenant"],
        )
        for tenant, count in self._events.items():
            family.add_metric([self._process, tenant], count)
        return [family]


class _SpoolCollector(Collector):
    def __init__(self, process: str, figures: Callable[[], SpoolFigures]) -> None:
        self._process = process
        self._figures = figures

    def collect(self) -> list[Metric]:
        figures = self._figures()
        return [
            self._gauge("records", "Records that wait for Kafka.", figures.records),
            self._gauge("tokens", "Tokens that wait for keys.", figures.tokens),
            self._gauge("bytes", "What the spool takes on the disk.", figures.used_bytes),
            self._gauge("oldest_age_seconds", "Age of the oldest record.", figures.oldest_age_s),
            self._gauge(
                "seconds_to_full",
                "Time until the spool is full at the last minute's rate; +Inf if it does not grow.",
                figures.seconds_to_full,
            ),
            self._gauge(
                "reserve_held", "Whether the notices' reserve is there.", figures.reserve_held
            ),
        ]

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"forebay_spool_{name}", text, labels=["process"])
        family.add_metric([self._process], value)
        return family


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
