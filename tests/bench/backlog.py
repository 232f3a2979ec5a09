"""What a worker makes of a backlog: its rate at the beginning and at the end, and its memory.

The log is the embedded one, filled beforehand, so that nothing else is measured. Its events are of
every type of the corpus, some of them late by days, and one in a hundred is a repeat.
"""

import hashlib
import itertools
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import duckdb
import psutil
from prometheus_client.parser import text_string_to_metric_families

from ingest.contract.codec import encode
from ingest.contract.envelope import Envelope
from ingest.contract.eventlog.eventlog import APPEND_LIMIT, FILE_NAME, EventLog
from ingest.contract.record import Record
from ingest.normalising import normalise
from tests.bench.backlog_steps import step_costs
from tests.contract.golden import RECEIVED_AT, verified
from tests.emulator.school import LiveEvent, Notice, School, timed
from tests.support import processes

PREFIX = "canvas"
VARIANTS = 12
SHARES = {"canvas": 80, "caliper": 15, "pns": 5}
LATE, REPEATED = 0.05, 0.01
LATE_BY_DAYS = 60
MEAN_GAP_MS = 40
_FIRST = datetime(2026, 9, 7, 6, 30, tzinfo=UTC)
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Rates in events a second and a second of the worker's processor time, memory in megabytes.

    `rss_last_by_first` is the most memory in the last tenth by the most in the second: the first
    fills what stays in use.
    """

    events: int
    first_tenth_per_s: float
    last_tenth_per_s: float
    last_by_first: float
    last_by_first_per_cpu_s: float
    mean_per_s: float
    mean_per_cpu_s: float
    peak_rss_mb: float
    rss_last_by_first: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How many events were in the store at a moment, what that had cost, and the memory in use."""

    at_s: float
    cpu_s: float
    written: int
    rss_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rate:
    per_s: float
    per_cpu_s: float


@click.command()
@click.option("--events", default=500_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--log", "log_file", type=click.Path(path_type=Path), help="Made here if missing.")
@click.option("--json", "as_json", is_flag=True)
def main(events: int, seed: int, log_file: Path | None, as_json: bool) -> None:
    """Run a worker over a backlog on the embedded log, into a new DuckDB file."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        data.mkdir()
        if log_file is None or not log_file.exists():
            fill(log_file or data / FILE_NAME, events, seed)
        if log_file is not None:
            (data / FILE_NAME).symlink_to(log_file.absolute())
        figures = measure(Path(directory), events)
        check(processes.store(Path(directory)), events, seed)
        steps = step_costs(data / FILE_NAME, Path(directory) / "steps.duckdb")
    if as_json:
        apart = {name: asdict(cost) for name, cost in steps.items()}
        click.echo(json.dumps(asdict(figures) | {"steps": apart}))
        return
    click.echo(
        f"{events:,} events, {psutil.cpu_count()} cores: {figures.first_tenth_per_s:,.0f} events/s"
        f" over the first tenth, {figures.last_tenth_per_s:,.0f} over the last"
        f" ({figures.last_by_first:.2f}; per processor second"
        f" {figures.last_by_first_per_cpu_s:.2f}), {figures.mean_per_s:,.0f} over all,"
        f" {figures.mean_per_cpu_s:,.0f} per processor second;"
        f" peak RSS {figures.peak_rss_mb:.0f} MB, last tenth by second"
        f" {figures.rss_last_by_first:.2f}; each event once"
    )
    for step, cost in steps.items():
        click.echo(f"{step}: {cost.cpu_us:.1f} us of processor time an event, {cost.us:.1f} in all")


def fill(path: Path, events: int, seed: int) -> None:
    """Writes the backlog."""
    log = EventLog.open(path, max_bytes=2**40)
    records = backlog(events, seed)
    while batch := list(itertools.islice(records, APPEND_LIMIT)):
        log.append(batch)
    log.close()


def backlog(events: int, seed: int) -> Iterator[Record]:
    """The records, always the same for a seed."""
    templates = _templates(seed)
    kinds, weights = list(SHARES), list(SHARES.values())
    for place in range(events):
        number = number_at(place, seed)
        rng = random.Random(f"{seed}/{number}")
        kind = rng.choices(kinds, weights)[0]
        # a few types are most of what comes
        names = templates[kind]
        variants = names[int(len(names) * rng.random() ** 3)]
        at = _FIRST + timedelta(milliseconds=number * MEAN_GAP_MS)
        if rng.random() < LATE:
            at -= timedelta(days=LATE_BY_DAYS * rng.random())
        if kind != "canvas":  # a repeat of it need not keep its time
            at += timedelta(milliseconds=place - number)
        yield encode(_at(rng.choice(variants), number, at), prefix=PREFIX)


def number_at(place: int, seed: int) -> int:
    """The event that stands at a place of the log: its own, or one from anywhere before it."""
    rng = random.Random(f"{seed}/place {place}")
    return rng.randrange(place) if place and rng.random() < REPEATED else place


def measure(directory: Path, events: int) -> Figures:
    """Runs the worker until the store has everything."""
    with processes.worker(directory) as worker:
        memory = _Memory(worker.pid)
        looks = list(_looks(worker, events))
        peak_mb = memory.peak_mb()
    tenth = events // 10
    first, last = _between(looks, 1, tenth), _between(looks, events - tenth, events)
    mean = _between(looks, 1, events)
    return Figures(
        events=events,
        first_tenth_per_s=first.per_s,
        last_tenth_per_s=last.per_s,
        last_by_first=last.per_s / first.per_s,
        last_by_first_per_cpu_s=last.per_cpu_s / first.per_cpu_s,
        mean_per_s=mean.per_s,
        mean_per_cpu_s=mean.per_cpu_s,
        peak_rss_mb=peak_mb,
        rss_last_by_first=_most_mb(looks, events - tenth, events)
        / _most_mb(looks, tenth, 2 * tenth),
    )


def check(database: Path, events: int, seed: int) -> None:
    """Fails unless each event has one row in `events`, and one at most in its type's table."""
    expected = {event_id(number_at(place, seed)) for place in range(events)}
    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute("select event_id from canvas.events").fetchall()
        tables = connection.execute(
            "select table_name from duckdb_tables() where table_name not like 'forebay%'"
        ).fetchall()
        twice = [
            name
            for (name,) in tables
            if connection.execute(
                f'select count(*) > count(distinct event_id) from canvas."{name}"'
            ).fetchall() != [(False,)]
        ]  # fmt: skip
    if len(found) != len(expected) or {row[0] for row in found} != expected or twice:
        raise click.ClickException(
            f"{len(expected)} events make {len(found)} rows; tables with repeats: {twice}"
        )


def event_id(number: int) -> str:
    """The id of an event."""
    return hashlib.sha256(f"backlog {number}".encode()).hexdigest()


def _templates(seed: int) -> dict[str, list[list[Envelope]]]:
    """Per format the types, and envelopes of each."""
    school = School.from_seed(seed)
    corpus = school.corpus
    return {
        "canvas": [_variants(lambda n, name=name: school.live_event(n, name=name))
                   for name in corpus.event_names],
        "caliper": [_variants(lambda n, name=name: school.caliper_event(n, name=name))
                    for name in corpus.caliper_names],
        "pns": [_variants(lambda n, name=name: school.notice(n, name))
                for name in corpus.notice_types],
    }  # fmt: skip


def _variants(example: Any) -> list[Envelope]:
    made: Sequence[LiveEvent | Notice] = [example(number) for number in range(VARIANTS)]
    return [normalise(verified(timed(one.claims, int(RECEIVED_AT)))) for one in made]


def _at(template: Envelope, number: int, at: datetime) -> Envelope:
    text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {"event_id": event_id(number), "event_time": text, "received_at": text}
    return Envelope(dict(template.metadata) | told, template.body)


def _looks(worker: processes.Program, events: int) -> Iterator[Look]:
    """The worker's progress, until all is in the store."""
    process = psutil.Process(worker.pid)
    written = 0
    while written < events:
        time.sleep(_LOOK_EVERY_S)
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(worker.get("/metrics"))
            for sample in family.samples
        }
        if samples["forebay_records_read_total"]:  # before that, nobody knows the lag
            written = events - int(samples["forebay_consumer_lag_records"])
        cpu = process.cpu_times()
        yield Look(
            at_s=time.monotonic(),
            cpu_s=cpu.user + cpu.system,
            written=written,
            rss_mb=process.memory_info().rss / 1e6,
        )


def _most_mb(looks: Sequence[Look], first: int, last: int) -> float:
    later = [look for look in looks if look.written >= first]
    return max(look.rss_mb for look in later if look.written <= max(last, later[0].written))


def _between(looks: Sequence[Look], first: int, last: int) -> _Rate:
    # the batch that brought the first of them may have brought them all
    begin = [looks[0], *(look for look in looks if look.written < first)][-1]
    end = next(look for look in looks if look.written >= last)
    events = end.written - begin.written
    return _Rate(
        per_s=events / (end.at_s - begin.at_s), per_cpu_s=events / (end.cpu_s - begin.cpu_s)
    )


class _Memory:
    """Watches a process's resident memory, in a thread."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def peak_mb(self) -> float:
        """The most it has had; ends the watch."""
        self._done.set()
        self._thread.join()
        return self._peak / 1e6

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._peak = max(self._peak, self._process.memory_info().rss)


if __name__ == "__main__":
    main()
