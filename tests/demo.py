"""`make demo`: the whole job on one machine, watched from outside.

An emulated Canvas signs and sends; the receiver and a worker run as processes of their own; at the
end the tables must hold exactly what was answered 2xx.
"""

import asyncio
import contextlib
import itertools
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.emulator.canvas import Canvas, Progress
from tests.emulator.report import Report
from tests.support import processes, tables

DIRECTORY = Path("build/demo")
EVENTS, NOTICES = 3_000, 300

QUERIES = {
    "the busiest event types": """
        select event_type, count(*) as events, count(distinct user_id) as actors
        from canvas.events group by all order by events desc, event_type limit 5""",
    "grades given, mean score, and how many of them replaced another": """
        select count(*), round(avg(score), 2), count(old_score) from canvas.grade_change""",
    "where courses were copied from": """
        select origin_context_id, context_id, context_title
        from canvas.course_copies where origin_context_id is not null
        order by event_time limit 3""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What went out, and the ids that must be in the tables."""

    reports: tuple[Report, Report]
    published: frozenset[str]
    quarantined: int
    seconds: float


@click.command()
@click.option("--kafka", is_flag=True, help="Through a real Kafka broker.")
@click.option("--seed", default=1, show_default=True)
def main(kafka: bool, seed: int) -> None:
    """Send events and notices through forebay, and check what arrives."""
    began = time.monotonic()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    with _broker() if kafka else _embedded() as settings:
        faults = asyncio.run(_demonstrate(seed, settings))
    for fault in faults:
        click.echo(f"demo: {fault}", err=True)
    if faults:
        click.echo(f"demo: failed; logs are in {DIRECTORY}", err=True)
        sys.exit(1)
    click.echo(f"demo: ok in {time.monotonic() - began:.0f} s")


async def _demonstrate(seed: int, settings: dict[str, str]) -> list[str]:
    port = processes.free_port()
    async with Canvas(seed=seed) as canvas:
        receiver = processes.receiver(
            DIRECTORY,
            port=port,
            tenants_toml=canvas.tenants_toml(),
            settings={**canvas.receiver_environment(), **settings},
        )
        worker = processes.worker(DIRECTORY, settings=settings)
        if settings:
            await asyncio.to_thread(processes.make_topics, settings)
        with contextlib.ExitStack() as stack:
            for program in (receiver, worker):
                await asyncio.to_thread(stack.enter_context, program)
            sent = await _send(canvas, f"http://127.0.0.1:{port}")
            await asyncio.to_thread(_wait_for_rows, len(sent.published))
            faults = _faults(canvas, sent)
    _show(sent)
    return faults


async def _send(canvas: Canvas, url: str) -> Sent:
    began = time.monotonic()
    with _bar("live events", EVENTS) as progress:
        events = await canvas.send_events(
            url,
            count=EVENTS,
            repeat_share=0.1,
            quoted_share=0.3,
            forged_share=0.05,
            caliper_share=0.1,
            on_progress=progress,
        )
    with _bar("notices", NOTICES) as progress:
        notices = await canvas.send_notices(
            url, count=NOTICES, batch=10, repeat_share=0.1, forged_share=0.2, on_progress=progress
        )
    published = {
        entry.event_id
        for entry in canvas.oracle.entries.values()
        if entry.accepted and entry.outcome == "published" and entry.event_id
    }
    return Sent(
        reports=(events, notices),
        published=frozenset(published),
        quarantined=events.outcomes.get("quarantined", 0) + notices.outcomes.get("quarantined", 0),
        seconds=time.monotonic() - began,
    )


def _faults(canvas: Canvas, sent: Sent) -> list[str]:
    stored = tables.event_ids(processes.store(DIRECTORY))
    faults = []
    if len(set(stored)) != len(stored):
        faults.append(f"{len(stored) - len(set(stored))} rows are there twice")
    if set(stored) != sent.published:
        missing, extra = sent.published - set(stored), set(stored) - sent.published
        faults.append(f"{len(missing)} accepted events have no row, {len(extra)} rows no event")
    if set(stored) & canvas.oracle.forged:
        faults.append("a forged event is in the tables")
    faults += [
        f"not accepted or misjudged: {example}"
        for report in sent.reports
        if not report.ok
        for example in report.examples
    ]
    if canvas.oracle.strange_event_ids:
        faults.append("event ids differ from those that the emulator computed by itself")
    return faults


def _show(sent: Sent) -> None:
    events, notices = sent.reports
    for name, report in (("live events", events), ("notices", notices)):
        click.echo(
            f"{name}: {report.events} sent, {report.repeats} of them twice,"
            f" {report.forgeries} forged; {report.accepted} accepted"
        )
    refused = _sum(events.reasons, notices.reasons)
    click.echo("refused or kept apart, by reason:")
    for reason, count in sorted(refused.items()):
        click.echo(f"  {count:6} {reason}")
    click.echo("stored, by table:")
    path = processes.store(DIRECTORY)
    stored = [f"{_count(path, table):6} {table}" for table in _tables(path)]
    for left, right in itertools.zip_longest(stored[::2], stored[1::2], fillvalue=""):
        click.echo(f"  {left:50}{right}".rstrip())
    for title, sql in QUERIES.items():
        click.echo(f"{title}:")
        for row in tables.query(path, sql):
            click.echo("  " + "  ".join(str(value) for value in row))
    click.echo(
        f"{len(sent.published)} distinct events were published in {sent.seconds:.1f} s,"
        f" {sent.quarantined} were quarantined; {path} holds every published one once"
    )


def _tables(path: Path) -> list[str]:
    rows = tables.query(
        path,
        "select table_name from information_schema.tables where table_schema = 'canvas'"
        " and table_name not like 'forebay_%' order by table_name",
    )
    return [row[0] for row in rows]


def _count(path: Path, table: str) -> int:
    return int(tables.query(path, f'select count(*) from canvas."{table}"')[0][0])


def _sum(*counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total


def _wait_for_rows(count: int) -> None:
    tables.wait_for_events(processes.store(DIRECTORY), count)


@contextlib.contextmanager
def _bar(label: str, length: int) -> Iterator[Progress]:
    with click.progressbar(length=length, label=f"{label:12}", file=sys.stderr) as bar:

        def progress(done: int, planned: int) -> None:
            bar.update(min(done, planned) - bar.pos)

        yield progress


@contextlib.contextmanager
def _embedded() -> Iterator[dict[str, str]]:
    yield {}


@contextlib.contextmanager
def _broker() -> Iterator[dict[str, str]]:
    from tests.kafka.broker import Cluster  # what only this needs is not there without KAFKA=1

    click.echo("starting Kafka (its first start fetches 45 MB)", err=True)
    with Cluster(directory=DIRECTORY / "kafka") as cluster:
        yield {
            "FOREBAY_KAFKA__BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
            "FOREBAY_TOPICS__PARTITIONS": "1",
        }


if __name__ == "__main__":
    main()
