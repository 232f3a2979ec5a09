"""Commands of `forebay-consumers`. Data on stdout, logs on stderr; exit 0, 1 or 2."""

import click

from consumers.commands.config import config
from consumers.commands.dlq import dlq
from consumers.commands.offsets import offsets
from consumers.commands.run import run
from ingest.shared import permissions


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="forebay")
def main() -> None:
    """Takes events from the log and keeps them in tables.

    Settings come from the environment, as FOREBAY_<SECTION>__<KEY>.
    """
    permissions.keep_to_ourselves()


main.add_command(run)
main.add_command(offsets)
main.add_command(dlq)
main.add_command(config)
