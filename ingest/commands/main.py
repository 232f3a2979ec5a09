"""Commands of `forebay-ingest`: data on stdout, logs on stderr; exit 0, 1 for no, 2 for misuse."""

import json
import sys
from importlib.metadata import version

import click

from ingest import app
from ingest.commands.console import errors_in_one_line, json_option, run
from ingest.commands.quarantine import quarantine
from ingest.commands.schema import schema
from ingest.commands.spool import spool
from ingest.commands.tenants import tenants
from ingest.contract.topics import ingest_topics
from ingest.settings import Settings
from ingest.shared import logs, permissions
from ingest.shared.environment import SettingsError, load, secret_files, typed, variables
from ingest.shared.kafka import topic_admin
from ingest.verifying.tenants_file import read_tenants


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("forebay"), message="forebay-ingest %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Receives Canvas Live Events and platform notices, and keeps them.

    Settings come from the environment: see `forebay-ingest config show`.
    """
    if context.invoked_subcommand != schema.name:  # what that writes is for others
        permissions.keep_to_ourselves()


@main.command()
@errors_in_one_line
def serve() -> None:
    """Run the receiver until SIGTERM."""
    settings = load(Settings)
    directory = read_tenants(settings.tenants_file)
    logs.configure(settings.log)
    permissions.warn_of_shared([settings.data_dir, settings.spool_dir])
    key = settings.http.tls_key_file
    permissions.warn_of_secrets([*secret_files(Settings), *([key] if key else [])])
    run(app.serve(settings, directory))


@main.group()
def topics() -> None:
    """The Kafka topics that the receiver writes to."""


@topics.command("list")
@json_option
@errors_in_one_line
def topics_list(as_json: bool) -> None:
    """List the topics, and whether Kafka has them. Exit 1 if one is missing."""
    settings = load(Settings)
    names = ingest_topics(settings.topics.prefix)
    if settings.kafka.bootstrap_servers is None:
        _print_topics(dict.fromkeys(names, "embedded"), as_json)
        return
    there = run(topic_admin.existing(settings.kafka.client_options()))
    states = {name: "present" if name in there else "missing" for name in names}
    _print_topics(states, as_json)
    sys.exit(1 if "missing" in states.values() else 0)


@topics.command("apply")
@json_option
@errors_in_one_line
def topics_apply(as_json: bool) -> None:
    """Make the topics that are missing; existing ones stay as they are."""
    settings = load(Settings)
    if settings.kafka.bootstrap_servers is None:
        raise SettingsError("FOREBAY_KAFKA__BOOTSTRAP_SERVERS: the embedded log needs no topics")
    names = ingest_topics(settings.topics.prefix)
    options = settings.kafka.client_options()
    made = set(run(topic_admin.make(options, names, settings.topics)))
    _print_topics({name: "made" if name in made else "present" for name in names}, as_json)


main.add_command(schema)
main.add_command(spool)
main.add_command(quarantine)
main.add_command(tenants)


@main.group()
def config() -> None:
    """The settings."""


@config.command("show")
@json_option
@errors_in_one_line
def config_show(as_json: bool) -> None:
    """Print every setting and its value; secrets are hidden."""
    settings = variables(load(Settings))
    if as_json:
        click.echo(json.dumps(settings, indent=2))
        return
    for name, value in settings.items():
        click.echo(f"{name}={typed(value)}")


@config.command("check")
@errors_in_one_line
def config_check() -> None:
    """Check settings and tenants file without starting anything."""
    settings = load(Settings)
    read_tenants(settings.tenants_file)
    click.echo("ok")


def _print_topics(states: dict[str, str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"topic": name, "state": state} for name, state in states.items()]))
        return
    for name, state in states.items():
        click.echo(f"{state:9} {name}")
