"""`make bench`: a signed submission on its way to 202, through each log, by one receiver process.

The receiver's processor time is read from the operating system. In the same rounds one core checks
bare RSA-2048 signatures, which is the least that any receiver must do: the share of that rate can
be compared between machines, the rates themselves cannot.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import psutil
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.bench import load
from tests.emulator.canvas import Canvas
from tests.kafka.broker import Cluster
from tests.support import processes
from tests.support.keys import SigningKey

TOKENS = 2_000
WARM_UP_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One measurement."""

    events_per_s: float
    events_per_cpu_s: float
    share_of_verify_rate: float
    p50_ms: float
    p99_ms: float
    peak_rss_mb: float


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=8.0, show_default=True, help="Length of one round.")
@click.option("--connections", default=64, show_default=True)
@click.option("--log", "logs", multiple=True, type=click.Choice(["embedded", "kafka"]))
@click.option("--json", "as_json", is_flag=True)
def main(
    rounds: int, seconds: float, connections: int, logs: tuple[str, ...], as_json: bool
) -> None:
    """Measure the receiver. Prints medians over the rounds."""
    figures = {}
    for log in logs or ("embedded", "kafka"):
        with tempfile.TemporaryDirectory() as directory:
            figures[log] = asyncio.run(_measure(Path(directory), log, rounds, seconds, connections))
    if as_json:
        click.echo(json.dumps({log: asdict(figure) for log, figure in figures.items()}))
        return
    _print(figures, rounds, seconds, connections)


async def _measure(
    directory: Path, log: str, rounds: int, seconds: float, connections: int
) -> Round:
    async with Canvas() as canvas:
        tokens = [
            event.token.decode()
            for event in await asyncio.to_thread(
                canvas.sign_events, TOKENS, name="submission_created"
            )
        ]
        with _settings(log, directory) as settings:
            port = processes.free_port()
            receiver = processes.receiver(
                directory,
                port=port,
                tenants_toml=canvas.tenants_toml(),
                settings={**canvas.receiver_environment(), **settings},
            )
            file = directory / "tokens"

            def offer(for_s: float) -> load.Answers:
                return load.offer(port, tokens, connections=connections, seconds=for_s, file=file)

            def measure() -> list[Round]:
                with receiver:
                    offer(WARM_UP_S)
                    return [_round(receiver.pid, lambda: offer(seconds)) for _ in range(rounds)]

            return _median(await asyncio.to_thread(measure))


@contextmanager
def _settings(log: str, directory: Path) -> Iterator[Mapping[str, str]]:
    if log == "embedded":
        yield {}
        return
    with Cluster(directory=directory / "kafka") as cluster:
        settings = {"FOREBAY_KAFKA__BOOTSTRAP_SERVERS": cluster.bootstrap_servers}
        command = [str(Path(sys.executable).with_name("forebay-ingest")), "topics", "apply"]
        subprocess.run(command, env=settings, check=True, stdout=subprocess.DEVNULL)
        yield settings


def _round(pid: int, offer: Callable[[], load.Answers]) -> Round:
    process = psutil.Process(pid)
    verify_rate = bare_verify_rate()
    before = process.cpu_times()
    answers = offer()
    after = process.cpu_times()
    if answers.errors:
        raise click.ClickException(f"{answers.errors} requests were not answered 202")
    cpu_s = after.user + after.system - before.user - before.system
    return Round(
        events_per_s=answers.requests / answers.seconds,
        events_per_cpu_s=answers.requests / cpu_s,
        share_of_verify_rate=answers.requests / cpu_s / verify_rate,
        p50_ms=answers.p50_ms,
        p99_ms=answers.p99_ms,
        peak_rss_mb=_peak_rss_mb(pid),
    )


def bare_verify_rate(seconds: float = 1.0) -> float:
    """RSA-2048 signatures that this process checks in a second of processor time."""
    key = SigningKey.generate("bench")
    data = b"x" * 2048
    signature = key.signature(data)
    public, padding, hash_ = key.private_key.public_key(), PKCS1v15(), SHA256()
    count, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        for _ in range(100):
            public.verify(signature, data, padding, hash_)
        count += 100
    return count / (time.process_time() - began)


def _peak_rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return psutil.Process(pid).memory_info().rss / 1e6
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _median(rounds: list[Round]) -> Round:
    return Round(
        **{
            name: statistics.median(asdict(one)[name] for one in rounds)
            for name in asdict(rounds[0])
        }
    )


def _print(figures: Mapping[str, Round], rounds: int, seconds: float, connections: int) -> None:
    click.echo(
        f"{connections} connections, {load.generator()}, median of {rounds} rounds of {seconds:g} s,"
        f" {psutil.cpu_count()} cores"
    )
    click.echo("| log | events/s | events per CPU-second | of bare RSA | p50 | p99 | peak RSS |")
    click.echo("|---|---|---|---|---|---|---|")
    for log, one in figures.items():
        click.echo(
            f"| {log} | {one.events_per_s:,.0f} | {one.events_per_cpu_s:,.0f}"
            f" | {one.share_of_verify_rate:.1%} | {one.p50_ms:.1f} ms | {one.p99_ms:.1f} ms"
            f" | {one.peak_rss_mb:.0f} MB |"
        )


if __name__ == "__main__":
    main()
