"""`python -m tests.kafka`: a broker in the foreground, or what it needs, fetched beforehand."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from tests.kafka.broker import Cluster
from tests.kafka.errors import KafkaUnavailable, PortInUse
from tests.kafka.jars import classpath
from tests.kafka.java import warm_start_archive

FAILED, WRONG_USE = 1, 2
ALIVE_CHECK_INTERVAL_S = 0.5
WARM_STOP_TIMEOUT_S = 120.0


@click.group()
def main() -> None:
    """Apache Kafka for tests and for the laptop, on 127.0.0.1 only."""


@main.command()
@click.option("--nodes", type=click.IntRange(1, 9), default=1, show_default=True)
@click.option(
    "--port",
    type=click.IntRange(1, 65_000),
    default=9092,
    show_default=True,
    help="Of the first node; the others take the next ones.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".kafka"),
    show_default=True,
    help="Kept between runs.",
)
def run(nodes: int, port: int, data_dir: Path) -> None:
    """Run a cluster until SIGINT or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    with _errors_in_words():
        cluster = Cluster(directory=data_dir, size=nodes, client_ports=range(port, port + nodes))
        with cluster:
            click.echo(f"kafka: ready on {cluster.bootstrap_servers}")
            _wait_for_a_death(cluster)


@main.command()
def fetch() -> None:
    """Fetch the jars that `run` needs."""
    with _errors_in_words():
        click.echo(f"kafka: {len(classpath())} jars at hand")


@main.command()
def warm() -> None:
    """Make an archive of loaded classes, so that brokers start in a third of the time.

    Takes about 15 s and 65 MB; serves until the jars or Java change.
    """
    with _errors_in_words(), tempfile.TemporaryDirectory(prefix="forebay-kafka-") as directory:
        archive = warm_start_archive()
        archive.parent.mkdir(parents=True, exist_ok=True)
        made = archive.with_suffix(".part")
        cluster = Cluster(directory=Path(directory), jvm_options=[f"-XX:AOTCacheOutput={made}"])
        cluster.start()
        cluster.stop(WARM_STOP_TIMEOUT_S)  # the archive is written at the end
        if not made.is_file():
            raise KafkaUnavailable("this Java made no archive; brokers start without one")
        made.replace(archive)
        click.echo(f"kafka: {archive.stat().st_size / 1e6:.0f} MB in {archive}")


def _end(number: int, frame: FrameType | None) -> NoReturn:
    # the first signal ends the brokers in order, and a second must not cut that short
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(0)


def _wait_for_a_death(cluster: Cluster) -> NoReturn:
    while True:
        for broker in cluster.brokers:
            if broker.pid is None:
                node = broker.node
                raise KafkaUnavailable(f"Kafka node {node.node_id} died; see {node.log_file}")
        time.sleep(ALIVE_CHECK_INTERVAL_S)


@contextmanager
def _errors_in_words() -> Iterator[None]:
    try:
        yield
    except KafkaUnavailable as error:
        click.echo(f"kafka: {str(error).splitlines()[0]}", err=True)
        sys.exit(WRONG_USE if isinstance(error, PortInUse) else FAILED)


if __name__ == "__main__":
    main(prog_name="python -m tests.kafka")
