"""`make bench`: a signed submission on its way to 202, through each log, by one receiver process.

All receivers are up at once and take turns under load, so that a round's ratios hold however the
machine's speed drifts. Processor time is the operating system's account of the receiver's process.
"""

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import psutil
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.bench import load, steps
from tests.emulator.canvas import Canvas
from tests.kafka.broker import Cluster
from tests.support import processes
from tests.support.keys import SigningKey

TOKENS = 2_000
WARM_UP_S = 2.0
KAFKA = "Kafka, acks=all"
_STEP_ROUNDS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A receiver under load."""

    name: str
    port: int
    pid: int


Offer = Callable[[Target], load.Answers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One receiver in one round; the shares compare with others in the same round."""

    events_per_s: float
    events_per_cpu_s: float
    share_of_rsa: float
    share_of_bare: float
    p50_ms: float
    p99_ms: float
    peak_rss_mb: float


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=6.0, show_default=True, help="Length of one turn.")
@click.option("--connections", default=64, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(rounds: int, seconds: float, connections: int, as_json: bool) -> None:
    """Measure the receiver on the embedded log and on Kafka. Prints medians over the rounds.

    Single steps are measured too, in this process, and shown as shares of the receiver on Kafka.
    """
    costs = steps.measure(_STEP_ROUNDS)
    with tempfile.TemporaryDirectory() as directory:
        tokens, figures = asyncio.run(_measure(Path(directory), rounds, seconds, connections))
    if as_json:
        shown = {name: asdict(one) for name, one in figures.items()}
        click.echo(json.dumps({**shown, "steps": {n: asdict(c) for n, c in costs.items()}}))
        return
    click.echo(
        f"{connections} connections by {load.generator()}, tokens of {len(tokens[0])} bytes,"
        f" median of {rounds} rounds of {seconds:g} s; {psutil.cpu_count()} cores,"
        f" Python {sys.version.partition(' ')[0]}"
    )
    _print(figures)
    click.echo()
    for line in steps.table(costs, receiver_us=1e6 / figures[KAFKA].events_per_cpu_s):
        click.echo(line)


async def _measure(
    directory: Path, rounds: int, seconds: float, connections: int
) -> tuple[list[str], dict[str, Figures]]:
    async with Canvas() as canvas:
        signing = asyncio.to_thread(canvas.sign_events, TOKENS, name="submission_created")
        tokens = [event.token.decode() for event in await signing]

        def offer(target: Target, for_s: float) -> load.Answers:
            file = directory / "tokens"
            return load.offer(
                target.port, tokens, connections=connections, seconds=for_s, file=file
            )

        def take_turns() -> dict[str, Figures]:
            with _targets(canvas, directory) as targets:
                for target in targets:
                    offer(target, WARM_UP_S)
                measured = [
                    _round(targets, lambda target: offer(target, seconds)) for _ in range(rounds)
                ]
            return {t.name: _median([one[t.name] for one in measured]) for t in targets}

        return tokens, await asyncio.to_thread(take_turns)


def _round(targets: Sequence[Target], offer: Offer) -> dict[str, Figures]:
    """One turn of each target; the first one is the yardstick."""
    rsa_per_cpu_s = rsa_verifications_per_cpu_s()
    figures: dict[str, Figures] = {}
    bare_per_cpu_s = 0.0
    for target in targets:
        answers, cpu_s = _under_load(target, offer)
        per_cpu_s = answers.requests / cpu_s
        bare_per_cpu_s = bare_per_cpu_s or per_cpu_s
        figures[target.name] = Figures(
            events_per_s=answers.requests / answers.seconds,
            events_per_cpu_s=per_cpu_s,
            share_of_rsa=per_cpu_s / rsa_per_cpu_s,
            share_of_bare=per_cpu_s / bare_per_cpu_s,
            p50_ms=answers.p50_ms,
            p99_ms=answers.p99_ms,
            peak_rss_mb=_peak_rss_mb(target.pid),
        )
    return figures


def _under_load(target: Target, offer: Offer) -> tuple[load.Answers, float]:
    process = psutil.Process(target.pid)
    before = process.cpu_times()
    answers = offer(target)
    after = process.cpu_times()
    if answers.errors:
        raise click.ClickException(f"{target.name}: {answers.errors} answers were not 202")
    return answers, after.user + after.system - before.user - before.system


@contextmanager
def _targets(canvas: Canvas, directory: Path) -> Iterator[list[Target]]:
    """The yardstick, and a receiver on each log."""
    with (
        _bare(canvas) as bare,
        _receiver(canvas, directory / "embedded", "embedded log", {}) as embedded,
        Cluster(directory=directory / "kafka-data") as cluster,
    ):
        settings = {"FOREBAY_KAFKA__BOOTSTRAP_SERVERS": cluster.bootstrap_servers}
        processes.make_topics(settings)
        nobody = {"FOREBAY_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{processes.free_port()}"}
        with (
            _receiver(canvas, directory / "kafka", KAFKA, settings) as kafka,
            _receiver(canvas, directory / "spool", "spool, Kafka down", nobody) as spool,
        ):
            yield [bare, embedded, kafka, spool]


@contextmanager
def _receiver(
    canvas: Canvas, directory: Path, name: str, settings: Mapping[str, str]
) -> Iterator[Target]:
    port = processes.free_port()
    program = processes.receiver(
        directory,
        port=port,
        tenants_toml=canvas.tenants_toml(),
        settings={**canvas.receiver_environment(), **settings},
        command=processes.FORGETFUL,
    )
    with program:
        yield Target(name=name, port=port, pid=program.pid)


@contextmanager
def _bare(canvas: Canvas) -> Iterator[Target]:
    port, keys = processes.free_port(), canvas.keys.live_events.jwks()
    command = [sys.executable, "-m", "tests.bench.bare", str(port), json.dumps(keys)]
    with subprocess.Popen(command) as process:
        try:
            _wait_for(port)
            yield Target(name="bare handler", port=port, pid=process.pid)
        finally:
            process.kill()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + processes.READY_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def rsa_verifications_per_cpu_s(seconds: float = 1.0) -> float:
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
        return float(psutil.Process(pid).memory_info().rss / 1e6)
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _median(rounds: Sequence[Figures]) -> Figures:
    names = asdict(rounds[0])
    return Figures(**{name: statistics.median(getattr(r, name) for r in rounds) for name in names})


def _print(figures: Mapping[str, Figures]) -> None:
    click.echo(
        "| receiver | events/s | events per CPU-second | of bare RSA-2048 | of the bare handler"
        " | p50 | p99 | peak RSS |"
    )
    click.echo("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, one in figures.items():
        click.echo(
            f"| {name} | {one.events_per_s:,.0f} | {one.events_per_cpu_s:,.0f}"
            f" | {one.share_of_rsa:.1%} | {one.share_of_bare:.0%}"
            f" | {one.p50_ms:.1f} ms | {one.p99_ms:.1f} ms | {one.peak_rss_mb:.0f} MB |"
        )


if __name__ == "__main__":
    main()
