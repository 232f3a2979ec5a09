"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from tests.emulator.variation import EXAMPLE_TIME

DEFAULT_KEY_PORT: Final = 9470

_Command = TypeVar("_Command", bound=Callable[..., Any])


def instant(context: click.Context, option: click.Parameter, text: str) -> datetime:
    """A time as a command takes it: `now`, or ISO 8601, in UTC unless it says otherwise."""
    if text == "now":
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is neither `now` nor an ISO 8601 time") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


keys_dir_option = click.option(
    "--keys-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the signing keys here between runs. Without it they are new each time.",
)
seed_option = click.option(
    "--seed", type=int, default=1, show_default=True, help="Which school it is."
)
port_option = click.option(
    "--port", type=int, default=DEFAULT_KEY_PORT, show_default=True, help="Port of the key server."
)
tenants_file_option = click.option(
    "--tenants-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the tenants file that admits this school here.",
)
share = click.FloatRange(0, 1)
_sending = (
    click.option("--target-url", required=True, help="The receiver, like http://127.0.0.1:8080"),
    click.option("--batch", type=click.IntRange(1), default=1, help="Notices a POST."),
    click.option("--repeat-share", type=share, default=0, help="Share of events sent twice."),
    click.option(
        "--repeat-delay",
        "repeat_delay_s",
        type=click.FloatRange(0),
        default=0,
        help="Seconds until the second time; 0: some events later.",
    ),
    click.option("--quoted-share", type=share, default=0, help="Share of tokens in JSON quotes."),
    click.option("--forged-share", type=share, default=0, help="Forgeries per genuine request."),
    click.option("--caliper-share", type=share, default=0, help="Share in Caliper format."),
    click.option(
        "--canvas-retries",
        is_flag=True,
        help="Try Live Events up to four times as Canvas does, over 10 to 20 minutes.",
    ),
    click.option(
        "--time-scale",
        type=click.FloatRange(0, min_open=True),
        default=1,
        show_default=True,
        help="Shortens the waits of --canvas-retries: 0.01 makes about ten seconds of them.",
    ),
    click.option(
        "--resign-share",
        type=share,
        default=0,
        help="Share of --canvas-retries that are signed again.",
    ),
    click.option(
        "--rotate-at",
        "rotations",
        metavar="EVENTS",
        type=click.IntRange(1),
        multiple=True,
        help="Rotate all keys once so many events are sent. May be given more than once.",
    ),
    click.option(
        "--start-time",
        callback=instant,
        default=EXAMPLE_TIME.isoformat(),
        show_default=True,
        help="Time of the first event, of a story's last; `now` makes each run's events new.",
    ),
    click.option(
        "--record",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Append what was sent and answered to this JSON-lines file.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    click.option(
        "--serve-keys/--no-serve-keys",
        default=True,
        help="Or leave that to a running `keys` with the same --keys-dir and --port.",
    ),
    seed_option,
    keys_dir_option,
    port_option,
    tenants_file_option,
)


def sends(command: _Command) -> _Command:
    """Gives a command what all sending commands have."""
    for option in reversed(_sending):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Which Canvas it is, and what is kept of it."""

    seed: int
    start_time: datetime
    keys_dir: Path | None
    port: int
    tenants_file: Path | None
    record: Path | None
    serve_keys: bool
    rotations: tuple[int, ...]
