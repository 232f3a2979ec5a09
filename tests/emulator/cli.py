"""The emulator's commands. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import orjson

from tests.emulator.canvas import Canvas
from tests.emulator.corpus import load_corpus
from tests.emulator.key_store import Keys, KeyStoreError, load_or_generate
from tests.emulator.oracle import Oracle
from tests.emulator.report import Report
from tests.emulator.school import School
from tests.emulator.variation import EXAMPLE_TIME

DEFAULT_KEY_PORT: Final = 9470

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _instant(context: click.Context, option: click.Parameter, text: str) -> datetime:
    if text == "now":
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is neither `now` nor an ISO 8601 time") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


_keys_dir = click.option(
    "--keys-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the signing keys here between runs. Without it they are new each time.",
)
_seed = click.option("--seed", type=int, default=1, show_default=True, help="Which school it is.")
_port = click.option(
    "--port", type=int, default=DEFAULT_KEY_PORT, show_default=True, help="Port of the key server."
)
_tenants_file = click.option(
    "--tenants-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the tenants file that admits this school here.",
)
_share = click.FloatRange(0, 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """A stand-in for Canvas's sending side: signs events and posts them to a receiver.

    The same --seed gives the same school; with the same --start-time also the same events. Exit
    codes: 0 all well, 1 something was not answered as it should be, 2 wrong usage.
    """


@cli.command()
@click.option("--target-url", required=True, help="The receiver, such as http://127.0.0.1:8080")
@click.option("--events", type=click.IntRange(0), default=100, show_default=True)
@click.option("--notices", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="Notices a POST."
)
@click.option("--type", "name", help="Send Live Events of this type only.")
@click.option(
    "--rate", type=click.FloatRange(0), default=0, show_default=True, help="Events/s; 0: no limit."
)
@click.option("--concurrency", type=click.IntRange(1), default=16, show_default=True)
@click.option("--repeat-share", type=_share, default=0, help="Share of events that are sent twice.")
@click.option("--quoted-share", type=_share, default=0, help="Share of tokens in JSON quotes.")
@click.option("--forged-share", type=_share, default=0, help="Forgeries for each genuine request.")
@click.option("--caliper-share", type=_share, default=0, help="Share of events in Caliper format.")
@click.option("--retries", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--start-time",
    callback=_instant,
    default=EXAMPLE_TIME.isoformat(),
    show_default=True,
    help="Time of the first event; `now` makes each run's events new.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append what was sent and answered to this JSON-lines file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--serve-keys/--no-serve-keys",
    default=True,
    help="Or leave that to a running `keys` with the same --keys-dir and --port.",
)
@_seed
@_keys_dir
@_port
@_tenants_file
def run(
    *,
    seed: int,
    start_time: datetime,
    keys_dir: Path | None,
    port: int,
    tenants_file: Path | None,
    record: Path | None,
    as_json: bool,
    serve_keys: bool,
    **sending: Any,
) -> None:
    """Show the keys, send events and notices, and report how they were answered."""
    corpus = load_corpus()
    _known_type(sending["name"], corpus.event_names)
    if sending["caliper_share"]:
        _known_type(sending["name"], corpus.caliper_names)

    async def send() -> tuple[Report, ...]:
        school = School.from_seed(seed, first_event_at=start_time)
        with Oracle(record) as oracle:
            async with Canvas(
                school=school,
                keys=_keys(keys_dir),
                port=port,
                oracle=oracle,
                serve_keys=serve_keys,
            ) as canvas:
                _write_tenants(canvas, tenants_file)
                return await _send_all(canvas, **sending)

    reports = _within_reason(lambda: asyncio.run(send()))
    _print_reports(reports, as_json=as_json)
    if not all(report.ok for report in reports):
        sys.exit(1)


@cli.command()
@_seed
@_keys_dir
@_port
@_tenants_file
def keys(*, seed: int, keys_dir: Path | None, port: int, tenants_file: Path | None) -> None:
    """Only show the keys, until SIGINT or SIGTERM."""

    async def serve() -> None:
        async with Canvas(seed=seed, keys=_keys(keys_dir), port=port) as canvas:
            _write_tenants(canvas, tenants_file)
            for name, value in canvas.receiver_environment().items():
                click.echo(f"{name}={value}")
            click.echo(f"LTI keys: {canvas.platform_jwks_url}", err=True)
            await _until_told_to_stop()

    _within_reason(lambda: asyncio.run(serve()))


@cli.command()
@click.option("--type", "name", required=True, help="An event name or notice type: see `types`.")
@click.option("--number", type=click.IntRange(0), default=0, help="Which event of the type.")
@click.option(
    "--start-time", callback=_instant, default="now", show_default=True, help="Time of event 0."
)
@_seed
@_keys_dir
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


async def _send_all(
    canvas: Canvas,
    *,
    target_url: str,
    events: int,
    notices: int,
    batch: int,
    name: str | None,
    rate: float,
    concurrency: int,
    repeat_share: float,
    quoted_share: float,
    forged_share: float,
    caliper_share: float,
    retries: int,
) -> tuple[Report, ...]:
    reports: list[Report] = []
    shared: dict[str, Any] = {
        "rate": rate,
        "concurrency": concurrency,
        "repeat_share": repeat_share,
        "forged_share": forged_share,
    }
    if events:
        progress = _progress("events")
        reports.append(
            await canvas.send_events(
                target_url,
                count=events,
                name=name,
                quoted_share=quoted_share,
                caliper_share=caliper_share,
                retries=retries,
                on_progress=progress,
                **shared,
            )
        )
    if notices:
        progress = _progress("notices")
        reports.append(
            await canvas.send_notices(
                target_url, count=notices, batch=batch, on_progress=progress, **shared
            )
        )
    return tuple(reports)


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
        if (failed := group.subgroup(OSError)) is None:
            raise
        raise click.ClickException(str(failed.exceptions[0])) from group


def _write_tenants(canvas: Canvas, path: Path | None) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(canvas.tenants_toml(), "utf-8")


async def _until_told_to_stop() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _progress(what: str) -> Callable[[int, int], None]:
    """Says how far it is, once a second on a terminal's one line, every ten seconds elsewhere."""
    on_terminal = sys.stderr.isatty()
    gap_s = 1.0 if on_terminal else 10.0
    last_s = time.monotonic()

    def progress(done: int, planned: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= gap_s:
            last_s = time.monotonic()
            click.echo(f"\r{what}: {done} of {planned} sent", err=True, nl=not on_terminal)

    return progress


def _print_reports(reports: tuple[Report, ...], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([report.to_json() for report in reports]))
        return
    for report in reports:
        click.echo(
            f"{report.accepted} of {report.events} accepted, {report.repeats} repeats, "
            f"{report.forgeries} forgeries ({report.misjudged_forgeries} misjudged), "
            f"{report.duration_s} s, p99 {report.latency_ms.get('p99', 0)} ms"
        )
        for example in report.examples:
            click.echo(f"  {example}", err=True)
