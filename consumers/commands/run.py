"""`forebay-consumers run`."""

import asyncio
import sys

import click
import structlog

from consumers import app
from consumers.commands.console import FAILED, MISUSED, end, settings
from consumers.errors import OffsetOutOfRange, StartupError, TooManyPoisons
from consumers.settings import Settings
from ingest.shared import logs, permissions
from ingest.shared.environment import SettingsError, secret_files
from ingest.shared.kafka.clients import KafkaRefused

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@click.command()
@click.option("--tables", metavar="NAME,…", help="Write only these tables; * stands for any text.")
@click.option(
    "--types", metavar="NAME,…", help="Read only these event types; * stands for any text."
)
def run(**options: str | None) -> None:
    """Run a worker, until SIGTERM or Ctrl-C.

    --tables and --types take the place of FOREBAY_WORKER__TABLES and FOREBAY_WORKER__TYPES.
    """
    ours = settings({"worker": {name: text for name, text in options.items() if text is not None}})
    logs.configure(ours.log)
    permissions.warn_of_shared([ours.data_dir], ours.store.files())
    permissions.warn_of_secrets(secret_files(Settings))
    try:
        asyncio.run(app.run(ours))
    except (SettingsError, StartupError, KafkaRefused) as error:
        end(str(error), MISUSED)
    except (OffsetOutOfRange, TooManyPoisons) as error:
        end(str(error), FAILED)
    except Exception as error:
        log.error(
            "worker failed, start it again; what it had not written comes again",
            cause=type(error).__name__,
            at=logs.place_of(error),
        )
        sys.exit(FAILED)
