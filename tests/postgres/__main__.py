"""`python -m tests.postgres`: a server in the foreground."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from tests.postgres.server import PostgresUnavailable, Server


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), default=5432, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".postgres"),
    show_default=True,
    help="Kept between runs.",
)
def main(port: int, data_dir: Path) -> None:
    """Run PostgreSQL on 127.0.0.1 until SIGINT or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        server = Server(data_dir.absolute(), port=port)
        server.start()
    except PostgresUnavailable as error:
        click.echo(f"postgres: {error}", err=True)
        sys.exit(1)
    try:
        click.echo(f"postgres: ready, FOREBAY_STORE__URL={server.url()}")
        signal.pause()
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main(prog_name="python -m tests.postgres")
