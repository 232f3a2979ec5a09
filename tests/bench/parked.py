"""What gigabytes that wait for one topic cost all the others: an empty spool against a full one."""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import click

from ingest.contract.record import Record
from ingest.observing.ledger import Ledger
from ingest.shared.background import Background
from ingest.spool.files.directory import SpoolDirectory
from ingest.spool.files.rows import NewRecord
from ingest.spool.files.store import FILE_NAME, SpoolFile
from ingest.spool.limits import SpoolLimits
from ingest.spool.spool import Spool
from ingest.values import SignedRequest

PARKED_TOPIC = "canvas.live-events.parked.v1"
TOPICS = [f"canvas.live-events.type-{n}.v1" for n in range(20)]
RECORD_BYTES = 1_500
_AT_ONCE = 16
_NO_BOUND = 1 << 50
_LIMITS = SpoolLimits(
    max_bytes=_NO_BOUND, pns_reserve_bytes=0, deferred_max_bytes=_NO_BOUND, alarm_age_s=1e9
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Waits of one round in milliseconds: for an append, a drained chunk, tokens taken out."""

    append: list[float]
    drain: list[float]
    token: list[float]


@click.command()
@click.option("--parked-mb", default=2_048, show_default=True, help="What waits for one topic.")
@click.option("--parked-record-bytes", default=16_384, show_default=True)
@click.option("--appends", default=2_000, show_default=True, help="In each of the rounds.")
@click.option("--rounds", default=7, show_default=True, help="Empty and full take turns.")
def main(parked_mb: int, parked_record_bytes: int, appends: int, rounds: int) -> None:
    """Measure appends, draining and tokens beside each other, and print full against empty."""
    with tempfile.TemporaryDirectory() as folder:
        empty, full = Path(folder) / "empty", Path(folder) / "full"
        _park(empty, 0, parked_record_bytes)
        _park(full, parked_mb * 1024**2, parked_record_bytes)
        opened_s = asyncio.run(_opening(full))
        os.sync()  # what parking left to be written must not be paid for by the appends
        pairs = [
            (asyncio.run(_measure(empty, appends)), asyncio.run(_measure(full, appends)))
            for _ in range(rounds)
        ]
    click.echo(f"{parked_mb} MB parked in records of {parked_record_bytes} B")
    click.echo(f"opened in {opened_s:.2f} s; medians of {rounds} rounds, empty → parked:")
    for name in ("append", "drain", "token"):
        before, after = ([getattr(pair[n], name) for pair in pairs] for n in (0, 1))
        click.echo(f"{name}: {_compared(50, before, after)}; {_compared(99, before, after)}")


def _compared(share: int, empty: list[list[float]], full: list[list[float]]) -> str:
    """The median over the rounds: a burst of others' work in one of them says nothing."""
    before, after = (
        statistics.median(statistics.quantiles(waits, n=100)[share - 1] for waits in rounds)
        for rounds in (empty, full)
    )
    return f"p{share} {before:.2f} → {after:.2f} ms, x {after / before:.2f}"


def _park(place: Path, size_bytes: int, record_bytes: int) -> None:
    place.mkdir()
    with closing(SpoolFile.open(place / FILE_NAME)) as file:
        file._connection.execute("pragma synchronous=off")
        value = b"x" * record_bytes
        record = Record(topic=PARKED_TOPIC, key=b"k" * 40, value=value)
        batch = [NewRecord(record=record, source="live-events")] * 64
        for _ in range(size_bytes // (64 * record_bytes)):
            file.append(batch, max_bytes=_NO_BOUND)


async def _opening(place: Path) -> float:
    began_s = time.perf_counter()
    async with _spool(place):
        return time.perf_counter() - began_s


@asynccontextmanager
async def _spool(place: Path) -> AsyncIterator[Spool]:
    directory, opening = SpoolDirectory.open(place, reserve_bytes=0)
    spool = Spool(directory, opening, _LIMITS, ledger=Ledger())
    async with Background() as background:
        background.start("spool maintenance", spool.run, needed=True)
        yield spool
    await spool.close()


async def _measure(place: Path, appends: int) -> Waits:
    """Requests append, while the others' records are drained and tokens come and go."""
    waits = Waits(append=[], drain=[], token=[])
    async with _spool(place) as spool:
        appending = asyncio.gather(
            *(_append(spool, appends // _AT_ONCE, waits.append) for _ in range(_AT_ONCE))
        )
        async with Background() as beside:
            beside.start("draining", lambda: _drain(spool, waits.drain), needed=True)
            beside.start("tokens", lambda: _judge(spool, waits.token), needed=True)
            await appending
        while held := await spool.read(after=0, limit=512, without={PARKED_TOPIC}):
            await spool.forget(held, when_gone=lambda _: None)
    return waits


async def _append(spool: Spool, count: int, waits: list[float]) -> None:
    for n in range(count):
        record = Record(topic=TOPICS[n % len(TOPICS)], key=b"k" * 40, value=b"x" * RECORD_BYTES)
        began_s = time.perf_counter()
        await spool.append(record, "live-events", held_back={PARKED_TOPIC})
        waits.append((time.perf_counter() - began_s) * 1e3)


async def _drain(spool: Spool, waits: list[float]) -> None:
    while True:
        began_s = time.perf_counter()
        held = await spool.read(after=0, limit=128, without={PARKED_TOPIC})
        await spool.forget(held, when_gone=lambda _: None)
        waits.append((time.perf_counter() - began_s) * 1e3)
        await asyncio.sleep(0.02)


async def _judge(spool: Spool, waits: list[float]) -> None:
    while True:
        await spool.defer(SignedRequest(token=b"t" * 2_000, source="pns", received_at=time.time()))
        began_s = time.perf_counter()
        held = await spool.read_tokens(after=0, limit=200)
        await spool.forget_tokens(held, when_gone=lambda _: None)
        waits.append((time.perf_counter() - began_s) * 1e3)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
