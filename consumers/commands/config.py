"""`forebay-consumers config`: the settings."""

import click
import orjson

from consumers.commands.console import json_option, settings
from ingest.shared.environment import typed, variables


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@json_option
def show(as_json: bool) -> None:
    """Print every setting, secrets hidden."""
    values = variables(settings())
    if as_json:
        click.echo(orjson.dumps(values, option=orjson.OPT_INDENT_2))
        return
    for name, value in values.items():
        click.echo(f"{name}={typed(value)}")


@config.command()
def check() -> None:
    """Check the settings; exit 2 if one is wrong."""
    settings()
    click.echo("the settings are in order")
