"""`make demo`: the whole job on one machine, watched from outside.

An emulated Canvas tells of six weeks at a school; the receiver and a worker run as processes of
their own; at the end the tables must hold exactly what was answered 2xx.
"""

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from tests.demo import tried
from tests.demo.grid import WIDTH
from tests.demo.showing import shown, to_do_next
from tests.demo.watching import Stage, counted, watched
from tests.emulator.canvas import Canvas
from tests.emulator.report import Report
from tests.emulator.school import School
from tests.emulator.story.story import Story
from tests.support import processes, tables
from tests.support.processes import Program

DIRECTORY = Path("build/demo")
EVENTS = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What went out, the ids that must be in the tables, and how long it took until they were."""

    report: Report
    tried: tried.Tried
    published: frozenset[str]
    seconds: float


@click.command()
@click.option("--kafka", is_flag=True, help="Through a real Kafka broker.")
@click.option("--seed", default=1, show_default=True)
def main(kafka: bool, seed: int) -> None:
    """Send six weeks of a school through forebay, and check what arrives."""
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
    click.echo(to_do_next())


async def _demonstrate(seed: int, settings: dict[str, str]) -> list[str]:
    port = processes.free_port()
    story = Story(
        school=School.from_seed(seed, first_event_at=datetime.now(UTC)),
        events=EVENTS,
        caliper_share=0.05,
    )
    async with Canvas(school=story.school) as canvas:
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
            sent = await _send(canvas, story, f"http://127.0.0.1:{port}", receiver, worker)
            faults = _faults(canvas, sent)
    _show(story, sent)
    return faults


async def _send(canvas: Canvas, story: Story, url: str, receiver: Program, worker: Program) -> Sent:
    click.echo(f"{story.people} people, {story.courses} courses, {story.weeks} weeks:", err=True)
    began = time.monotonic()
    stages = _stages(canvas, receiver, worker)
    async with watched(stages):
        report = await canvas.send_story(
            url, story, repeat_share=0.1, quoted_share=0.3, forged_share=0.05
        )
        await asyncio.to_thread(_wait_for_rows, len(_published(canvas)))
        seconds = time.monotonic() - began
        await _counted_too(stages[-1])
    attempts = await tried.tried(canvas, story, url)
    published = _published(canvas)
    await asyncio.to_thread(_wait_for_rows, len(published))
    return Sent(report=report, tried=attempts, published=published, seconds=seconds)


async def _counted_too(stage: Stage) -> None:
    """A worker counts rows a moment after it wrote them; the last thing seen shall be all."""
    for _ in range(20):
        if await asyncio.to_thread(stage.done) >= stage.planned:
            return
        await asyncio.sleep(0.1)


def _stages(canvas: Canvas, receiver: Program, worker: Program) -> list[Stage]:
    def published() -> int:
        # a repeat has that for its reason
        return counted(receiver, "forebay_events_settled_total", outcome="published", reason="")

    def rows() -> int:
        return counted(worker, "forebay_rows_written_total", table="events")

    return [
        Stage(label="Canvas sent", planned=EVENTS, done=lambda: canvas.oracle.counts().sent),
        Stage(label="forebay kept", planned=EVENTS, done=published),
        Stage(label="tables hold", planned=EVENTS, done=rows),
    ]


def _published(canvas: Canvas) -> frozenset[str]:
    return frozenset(
        entry.event_id
        for entry in canvas.oracle.entries.values()
        if entry.accepted and entry.outcome == "published" and entry.event_id
    )


def _faults(canvas: Canvas, sent: Sent) -> list[str]:
    store = processes.store(DIRECTORY)
    stored = tables.event_ids(store)
    faults = list(tried.faults(sent.tried, store))
    if len(set(stored)) != len(stored):
        faults.append(f"{len(stored) - len(set(stored))} rows are there twice")
    if set(stored) != sent.published:
        missing, extra = sent.published - set(stored), set(stored) - sent.published
        faults.append(f"{len(missing)} accepted events have no row, {len(extra)} rows no event")
    if set(stored) & canvas.oracle.forged:
        faults.append("a forged event is in the tables")
    if not sent.report.ok:
        faults += [f"not accepted or misjudged: {example}" for example in sent.report.examples]
    if canvas.oracle.strange_event_ids:
        faults.append("event ids differ from those that the emulator computed by itself")
    return faults


def _show(story: Story, sent: Sent) -> None:
    report, store = sent.report, processes.store(DIRECTORY)
    click.echo(
        f"\n{report.accepted:,} of {report.events:,} events and notices accepted in"
        f" {sent.seconds:.1f} s; {report.repeats} came twice, {report.forgeries} were forged"
    )
    # a space that is no place for a line to end
    refused = ", ".join(f"{count}\xa0{reason}" for reason, count in sorted(report.reasons.items()))
    wrapped = click.wrap_text(f"refused or quarantined: {refused}", WIDTH, "", "  ")
    click.echo(wrapped.replace("\xa0", " "))
    click.echo(f"{store} holds every accepted one once\n")
    for line in shown(store):
        click.echo(line)
    click.echo()
    for line in tried.told(sent.tried, store):
        click.echo(line)
    click.echo()


def _wait_for_rows(count: int) -> None:
    tables.wait_for_events(processes.store(DIRECTORY), count)


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
