"""The emulator's commands. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

from tests.emulator.canvas import Canvas, Progress
from tests.emulator.console import print_reports, progress, stream_progress
from tests.emulator.corpus import load_corpus
from tests.emulator.key_store import Keys, KeyStoreError, load_or_generate, save
from tests.emulator.options import (
    Site,
    instant,
    keys_dir_option,
    port_option,
    seed_option,
    sends,
    share,
    tenants_file_option,
)
from tests.emulator.oracle import Oracle
from tests.emulator.report import Report
from tests.emulator.retry_plan import NO_RETRIES, RetryPlan
from tests.emulator.school import School
from tests.emulator.story.story import MIN_EVENTS, Story


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """A stand-in for Canvas's sending side: signs events and posts them to a receiver.

    The same --seed gives the same school; with the same --start-time also the same events. Exit
    codes: 0 all well, 1 something was not answered as it should be, 2 wrong usage.
    """


@cli.command()
@click.option("--events", type=click.IntRange(0), default=100, show_default=True)
@click.option("--notices", type=click.IntRange(0), default=0, show_default=True)
@click.option("--type", "name", help="Send Live Events of this type only.")
@click.option(
    "--story",
    is_flag=True,
    help="Weeks of a school that make sense, notices included, up to --start-time. --events of it.",
)
@click.option("--weeks", type=click.IntRange(1), default=6, show_default=True, help="Of a --story.")
@click.option(
    "--rate", type=click.FloatRange(0), default=0, show_default=True, help="Events/s; 0: no limit."
)
@click.option("--concurrency", type=click.IntRange(1), default=16, show_default=True)
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Tries after a failed one, at once. Canvas's own are --canvas-retries.",
)
@sends
def run(*, as_json: bool, **given: Any) -> None:
    """Show the keys, send events and notices, and report how they were answered."""
    corpus = load_corpus()
    _known_type(given["name"], corpus.event_names)
    if given["caliper_share"]:
        _known_type(given["name"], corpus.caliper_names)
    send = _sender(given)
    site, sending = _parted(given)
    _report(site, lambda canvas, look: send(canvas, look, **sending), as_json=as_json)


@cli.command()
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=100,
    show_default=True,
    help="Events/s, notices included.",
)
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(0, min_open=True),
    help="Seconds. Without it until SIGINT or SIGTERM; retries then still follow.",
)
@click.option("--notice-share", type=share, default=0, help="Share of POSTs that bring notices.")
@click.option("--concurrency", type=click.IntRange(1), default=256, show_default=True)
@sends
def stream(*, as_json: bool, **given: Any) -> None:
    """Show the keys, and send events and notices in one steady stream."""
    site, sending = _parted(given)
    _report(site, lambda canvas, look: _stream(canvas, look, **sending), as_json=as_json)


@cli.command()
@seed_option
@keys_dir_option
@port_option
@tenants_file_option
def keys(*, seed: int, keys_dir: Path | None, port: int, tenants_file: Path | None) -> None:
    """Only show the keys, until SIGINT or SIGTERM."""

    async def serve() -> None:
        async with Canvas(seed=seed, keys=_keys(keys_dir), port=port) as canvas:
            _write_tenants(canvas, tenants_file)
            for name, value in canvas.receiver_environment().items():
                click.echo(f"{name}={value}")
            click.echo(f"LTI keys: {canvas.platform_jwks_url}", err=True)
            await _told_to_stop().wait()

    _within_reason(lambda: asyncio.run(serve()))


@cli.command()
@click.option("--type", "name", required=True, help="An event name or notice type: see `types`.")
@click.option("--number", type=click.IntRange(0), default=0, help="Which event of the type.")
@click.option(
    "--start-time", callback=instant, default="now", show_default=True, help="Time of event 0."
)
@seed_option
@keys_dir_option
def token(
    *, name: str, number: int, start_time: datetime, seed: int, keys_dir: Path | None
) -> None:
    """Print one signed request body, to be posted by hand.

    For a Live Event that is its token, for /live-events; for a notice it is the JSON object with
    the token in it, for /pns.
    """
    corpus = load_corpus()
    _known_type(name, (*corpus.event_names, *corpus.notice_types))
    school = School.from_seed(seed, first_event_at=start_time)
    signing = _within_reason(lambda: _keys(keys_dir))
    now_s = int(time.time())
    if name in corpus.event_names:
        event = school.live_event(number, name=name)
        click.echo(event.token(signing.live_events.current, now_s))
    else:
        notice = school.notice(number, name)
        jwt = notice.token(signing.platform.current, now_s)
        click.echo(orjson.dumps({"notices": [{"jwt": jwt}]}))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def types(*, as_json: bool) -> None:
    """List the event names and notice types that there are examples of."""
    corpus = load_corpus()
    if as_json:
        listing = {"live_events": corpus.event_names, "notices": corpus.notice_types}
        click.echo(json.dumps(listing))
    else:
        click.echo("\n".join((*corpus.event_names, *corpus.notice_types)))


def _sender(given: dict[str, Any]) -> _Send:
    """What sends what was asked for; takes out of `given` what only one of them knows."""
    story, weeks = given.pop("story"), given.pop("weeks")
    if not story:
        return _send_all
    if given.pop("name") is not None or given.pop("notices"):
        raise click.UsageError("--story has its own types and notices: no --type, no --notices")
    if given["events"] < MIN_EVENTS:
        raise click.UsageError(f"--story needs --events {MIN_EVENTS} or more")
    given.pop("batch")
    return partial(_send_story, weeks=weeks)


def _parted(given: dict[str, Any]) -> tuple[Site, dict[str, Any]]:
    """What is said of the Canvas, and what of the sending."""
    site = Site(**{field.name: given.pop(field.name) for field in fields(Site)})
    if site.rotations and not site.serve_keys:
        raise click.UsageError("--rotate-at needs --serve-keys: who else would show the new keys?")
    waits = {name: given.pop(name) for name in ("time_scale", "resign_share")}
    scheduled = RetryPlan.canvas(**waits, seed=site.seed)
    given["retry_plan"] = scheduled if given.pop("canvas_retries") else None
    return site, given


_Look = Callable[[], None]
"""To be called after each delivery: looks whether the keys are to be rotated."""
_Send = Callable[..., Awaitable[tuple[Report, ...]]]


def _report(
    site: Site,
    send: Callable[[Canvas, _Look], Awaitable[tuple[Report, ...]]],
    *,
    as_json: bool,
) -> None:
    async def send_all() -> tuple[Report, ...]:
        school = School.from_seed(site.seed, first_event_at=site.start_time)
        with Oracle(site.record) as oracle:
            async with Canvas(
                school=school,
                keys=_keys(site.keys_dir),
                port=site.port,
                oracle=oracle,
                serve_keys=site.serve_keys,
            ) as canvas:
                _write_tenants(canvas, site.tenants_file)
                async with _rotating(canvas, site) as look:
                    return await send(canvas, look)

    reports = _within_reason(lambda: asyncio.run(send_all()))
    print_reports(reports, as_json=as_json)
    if not all(report.ok for report in reports):
        sys.exit(1)


@asynccontextmanager
async def _rotating(canvas: Canvas, site: Site) -> AsyncIterator[_Look]:
    due = sorted(site.rotations)
    async with asyncio.TaskGroup() as group:

        def look() -> None:
            while due and canvas.oracle.counts().sent >= due[0]:
                due.pop(0)
                group.create_task(canvas.rotate_keys())

        yield look
    if site.rotations and site.keys_dir is not None:
        save(canvas.keys, site.keys_dir)


async def _send_all(
    canvas: Canvas,
    look: _Look,
    *,
    target_url: str,
    events: int,
    notices: int,
    batch: int,
    name: str | None,
    quoted_share: float,
    caliper_share: float,
    retries: int,
    retry_plan: RetryPlan | None,
    **shared: Any,
) -> tuple[Report, ...]:
    reports: list[Report] = []
    if events:
        reports.append(
            await canvas.send_events(
                target_url,
                count=events,
                name=name,
                quoted_share=quoted_share,
                caliper_share=caliper_share,
                retries=retries,
                retry_plan=retry_plan,
                on_progress=_both(progress("events"), look),
                **shared,
            )
        )
    if notices:
        reports.append(
            await canvas.send_notices(
                target_url,
                count=notices,
                batch=batch,
                on_progress=_both(progress("notices"), look),
                **shared,
            )
        )
    return tuple(reports)


async def _send_story(
    canvas: Canvas,
    look: _Look,
    *,
    target_url: str,
    events: int,
    weeks: int,
    caliper_share: float,
    **shared: Any,
) -> tuple[Report, ...]:
    story = Story(school=canvas.school, events=events, weeks=weeks, caliper_share=caliper_share)
    told = _both(progress("story"), look)
    return (await canvas.send_story(target_url, story, on_progress=told, **shared),)


async def _stream(
    canvas: Canvas,
    look: _Look,
    *,
    target_url: str,
    batch: int,
    retry_plan: RetryPlan | None,
    **shared: Any,
) -> tuple[Report, ...]:
    report = await canvas.stream(
        target_url,
        until=_told_to_stop(),
        notice_batch=batch,
        retry_plan=retry_plan or NO_RETRIES,
        on_progress=_both(stream_progress(canvas.oracle), look),
        **shared,
    )
    return (report,)


def _both(progress: Progress, look: _Look) -> Progress:
    def told(done: int, planned: int) -> None:
        progress(done, planned)
        look()

    return told


def _keys(directory: Path | None) -> Keys:
    return Keys.generate() if directory is None else load_or_generate(directory)


def _known_type(name: str | None, known: tuple[str, ...]) -> None:
    if name is not None and name not in known:
        raise click.UsageError(f"there is no example of type {name!r}; `types` lists them")


_Made = TypeVar("_Made")


def _within_reason(make: Callable[[], _Made]) -> _Made:
    """What `make` returns; what may go wrong outside of us becomes one line and exit code 1."""
    try:
        return make()
    except (OSError, KeyStoreError) as error:
        raise click.ClickException(str(error)) from error
    except ExceptionGroup as group:
        # the record file is written from the tasks that send
        failed: BaseException | None = group.subgroup(OSError)
        while isinstance(failed, BaseExceptionGroup):
            failed = failed.exceptions[0]
        if failed is None:
            raise
        raise click.ClickException(str(failed)) from group


def _write_tenants(canvas: Canvas, path: Path | None) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(canvas.tenants_toml(), "utf-8")


def _told_to_stop() -> asyncio.Event:
    """Set at SIGINT or SIGTERM; a second one of them ends the program as usual."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, tell)
    return stop
