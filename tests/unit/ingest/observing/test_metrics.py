"""The metrics as a scrape sees them."""

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingest.observing.canvas_budget import KINDS
from ingest.observing.metrics import Metrics
from ingest.values import Receipt


def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _used() -> Metrics:
    metrics = Metrics("w1")
    with metrics.enter("pns") as entry:
        entry.accepted(Receipt(outcome="quarantined", event_id=None, reason="expired"))
    metrics.enter("live-events")
    metrics.durable("live-events", 0.004)
    metrics.seen("north-campus", "pns", 1_790_000_000.5)
    metrics.seen("north-campus", "live-events", 1_790_000_000.0)  # deferred, and older
    metrics.aborted("too_large")
    metrics.ignored_members(2)
    metrics.watch_keys(lambda: {"https://issuer.example.edu": 12.5})
    return metrics


def test_every_metric_is_ours_and_names_its_process() -> None:
    families = {name.partition("_")[0] for name, _ in _samples(_used())}
    ours = [dict(labels) for name, labels in _samples(_used()) if name.startswith("forebay_")]
    assert families == {"forebay", "process"}  # the latter are the process's own, as everywhere
    assert ours
    assert {labels["process"] for labels in ours} == {"w1"}


def test_metrics_have_the_contracts_names_labels_and_values() -> None:
    samples = _samples(_used())
    process, pns = ("process", "w1"), ("source", "pns")
    expected = {
        ("forebay_events_received_total", (process, pns)): 1,
        (
            "forebay_events_settled_total",
            (("outcome", "quarantined"), process, ("reason", "expired"), pns),
        ): 1,
        ("forebay_events_held", (("lane", "in_flight"), process, pns)): 0,
        ("forebay_events_held", (("lane", "in_flight"), process, ("source", "live-events"))): 1,
        ("forebay_requests_aborted_total", (process, ("reason", "too_large"))): 1,
        ("forebay_token_header_members_ignored_total", (process,)): 2,
        ("forebay_ack_seconds_count", (process, ("source", "live-events"))): 1,
        (
            "forebay_tenant_last_event_timestamp_seconds",
            (process, ("tenant", "north-campus")),
        ): 1_790_000_000.5,
        ("forebay_jwks_age_seconds", (("issuer", "https://issuer.example.edu"), process)): 12.5,
    }
    assert {key: samples.get(key) for key in expected} == expected


def test_requests_that_name_nobody_cost_nothing_of_canvas_budget() -> None:
    metrics = Metrics()
    for reason in ("disconnected", "request_timeout", "head_timeout", "overloaded"):
        metrics.aborted(reason)
    assert _used_of_budget(metrics) == {"timeout": 0, "error": 0}


def test_event_that_became_durable_when_canvas_had_given_it_up_counts_as_a_timeout() -> None:
    metrics = Metrics()
    metrics.durable("live-events", 14.9)
    metrics.durable("pns", 15.1)
    assert _used_of_budget(metrics)["timeout"] == 0
    metrics.durable("live-events", 15.1)
    assert _used_of_budget(metrics)["timeout"] > 0


def _used_of_budget(metrics: Metrics) -> dict[str, float]:
    name = "forebay_canvas_budget_used_ratio"
    found = _samples(metrics)
    return {kind: found[name, (("kind", kind), ("process", "0"))] for kind in KINDS}


def test_both_sources_show_before_any_event() -> None:
    samples = _samples(Metrics("w1"))
    received = [dict(labels) for name, labels in samples if name == "forebay_events_received_total"]
    assert {labels["source"] for labels in received} == {"live-events", "pns"}


def test_entry_that_is_left_without_a_receipt_is_not_durable() -> None:
    metrics = Metrics("w1")
    with metrics.enter("pns"):
        pass
    assert any(
        name == "forebay_events_settled_total" and dict(labels)["outcome"] == "not_durable"
        for name, labels in _samples(metrics)
    )


def test_metrics_of_two_receivers_do_not_mix() -> None:
    first, second = Metrics("a"), Metrics("b")
    first.aborted("too_large")
    assert not any(name == "forebay_requests_aborted_total" for name, _ in _samples(second))


def test_events_are_counted_by_tenant_and_tenants_that_have_gone_are_shown_no_more() -> None:
    metrics = Metrics("w1")
    metrics.tenants_are(["north", "south"])
    for _ in range(3):
        metrics.seen("north", "live-events", 1_790_000_000.0)
    metrics.was_seen("south", "live-events", 1_790_000_000.0)
    assert _by_tenant(metrics, "forebay_tenant_events_total") == {"north": 3, "south": 0}
    metrics.tenants_are(["south"])
    assert _by_tenant(metrics, "forebay_tenant_events_total") == {"south": 0}
    assert _by_tenant(metrics, "forebay_tenant_last_event_timestamp_seconds").keys() == {"south"}


def _by_tenant(metrics: Metrics, name: str) -> dict[str, float]:
    return {
        dict(labels)["tenant"]: value
        for (found, labels), value in _samples(metrics).items()
        if found == name
    }
