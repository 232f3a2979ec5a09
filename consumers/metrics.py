"""Every metric of a worker: name, unit, labels. Names begin with `forebay_`."""

from collections.abc import Callable, Mapping
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from consumers.values import PoisonReason
from ingest.shared.registry import new_registry

END_OF_LOG = "end of the log"
"""The background task that keeps the lag true while nobody polls."""

_WRITE_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One worker's metrics, in a registry of their own."""

    def __init__(self, worker: str) -> None:
        self.registry = new_registry()
        self._worker = worker
        self._lag_records = self._gauge(
            "consumer_lag_records", "Records in the log that are not in the tables yet."
        )
        self._lag_seconds = self._gauge(
            "consumer_lag_seconds", "Age of the oldest record that was polled but not written."
        )
        self._seconds_to_loss = self._gauge(
            "consumer_seconds_to_loss",
            "Until the log's retention removes a record that is not written yet.",
        )
        self._records_read = self._counter("records_read", "Records polled, repeats included.")
        self._batches = self._counter("batches_written", "Batches that the store took.")
        self._dropped = self._counter(
            "batches_dropped", "Batches given up after a rebalance; their records come again."
        )
        self._busy = self._counter("sink_busy", "Writes that found the store taken.")
        self._rows = self._counter("rows_written", "Rows that were new to a table.", "table")
        self._letters = self._counter("dead_letters", "Records without rows.", "reason")
        for reason in get_args(PoisonReason):
            self._letters.labels(worker, reason)  # an alert on growth needs the zero before it
        self._restarts = Counter(
            "forebay_background_restarts",
            "Background tasks that ended with an error and were started again.",
            ["task"],
            registry=self.registry,
        )
        self._restarts.labels(END_OF_LOG)
        self._write_seconds = Histogram(
            "forebay_sink_write_seconds",
            "Time to write one batch, waiting for a busy store included.",
            ["worker"],
            registry=self.registry,
            buckets=_WRITE_BUCKETS_S,
        )

    def watch_lag(self, *, records: Callable[[], float], seconds: Callable[[], float]) -> None:
        """Has both lags read at every scrape."""
        self._lag_records.labels(self._worker).set_function(records)
        self._lag_seconds.labels(self._worker).set_function(seconds)

    def watch_loss(self, seconds: Callable[[], float]) -> None:
        """Has the time until records are lost read at every scrape; +Inf where none waits."""
        self._seconds_to_loss.labels(self._worker).set_function(seconds)

    def read(self, records: int) -> None:
        """Records came out of the log."""
        self._records_read.labels(self._worker).inc(records)

    def wrote(self, rows: Mapping[str, int], *, seconds: float) -> None:
        """A batch is in the tables; `rows` is the number of new ones per table."""
        self._batches.labels(self._worker).inc()
        self._write_seconds.labels(self._worker).observe(seconds)
        for table, count in rows.items():
            self._rows.labels(self._worker, table).inc(count)

    def dead_lettered(self, reason: PoisonReason) -> None:
        """A dead letter is durable."""
        self._letters.labels(self._worker, reason).inc()

    def dropped(self) -> None:
        """A batch was given up after a rebalance."""
        self._dropped.labels(self._worker).inc()

    def background_restarted(self, task: str) -> None:
        """A background task ended with an error and is started again."""
        self._restarts.labels(task).inc()

    def sink_was_busy(self) -> None:
        """A write found the store taken."""
        self._busy.labels(self._worker).inc()

    def _gauge(self, name: str, help_: str) -> Gauge:
        return Gauge(f"forebay_{name}", help_, ["worker"], registry=self.registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"forebay_{name}", help_, ["worker", *labels], registry=self.registry)
