"""Commands of `forebay-consumers`. Data on stdout, logs on stderr; exit 0, 1 or 2."""

import asyncio
import sys
from typing import NoReturn

import click
import orjson
import structlog

from consumers import app
from consumers.errors import OffsetOutOfRange, StartupError, TooManyPoisons
from consumers.settings import Settings
from ingest.shared import logs
from ingest.shared.environment import SettingsError, load, variables

FAILED, MISUSED = 1, 2

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="forebay")
def main() -> None:
    """Takes events from the log and lays them out as tables.

    Settings come from the environment, as FOREBAY_<SECTION>__<KEY>.
    """


@main.command()
def run() -> None:
    """Run a worker, until SIGTERM or Ctrl-C."""
    settings = _settings()
    logs.configure(settings.log)
    try:
        asyncio.run(app.run(settings))
    except (SettingsError, StartupError) as error:
        _end(str(error), MISUSED)
    except (OffsetOutOfRange, TooManyPoisons) as error:
        _end(str(error), FAILED)
    except Exception as error:
        log.error(
            "the worker broke down; what it had not written comes again",
            cause=type(error).__name__,
            at=logs.place_of(error),
        )
        sys.exit(FAILED)


@main.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(as_json: bool) -> None:
    """Print every setting, secrets hidden."""
    values = variables(_settings())
    if as_json:
        click.echo(orjson.dumps(values, option=orjson.OPT_INDENT_2))
        return
    for name, value in values.items():
        click.echo(f"{name}={'' if value is None else value}")


@config.command()
def check() -> None:
    """Check the settings; exit 2 if one is wrong."""
    _settings()
    click.echo("the settings are in order")


def _settings() -> Settings:
    try:
        return load(Settings)
    except SettingsError as error:
        _end(str(error), MISUSED)


def _end(reason: str, status: int) -> NoReturn:
    for line in reason.splitlines():
        click.echo(f"forebay-consumers: {line}", err=True)
    sys.exit(status)
