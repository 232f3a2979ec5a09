"""One attack on one receiver: what genuine senders feel of it, and what it takes of the machine."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import orjson
import psutil

from tests.emulator.deliveries import Delivery
from tests.faults.certificates import trusting_anybody
from tests.faults.crowd import Crowd
from tests.faults.site import Site
from tests.siege import ammunition
from tests.siege.enemy import Cost

EVENTS_RATE: Final = 40.0
NOTICES_RATE: Final = 5.0
HANG_UP_EVERY_S: Final = 0.5
"""So half of the genuine requests come by connections that are kept, half by new ones."""

CALM_S: Final = 1.0
AFTER_S: Final = 2.0
SAMPLE_EVERY_S: Final = 0.05
WORST_S: Final = 2.0
MAX_RSS_BYTES: Final = 250 * 1024**2


@dataclass(slots=True)
class Peaks:
    """The most that the receiver's process took, and what it took before and afterwards."""

    before_bytes: int = 0
    bytes: int = 0
    after_bytes: int = 0
    descriptors: int = 0

    def look(self, process: psutil.Process) -> None:
        """Takes a sample."""
        self.bytes = max(self.bytes, process.memory_info().rss)
        self.descriptors = max(self.descriptors, process.num_fds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """What came of an attack. `genuine` are the deliveries beside it, notices among them."""

    name: str
    cost: Cost
    peaks: Peaks
    genuine: list[Delivery] = field(repr=False)

    @property
    def answered(self) -> int:
        """Genuine ones that got their 202."""
        return sum(each.status == 202 for each in self.genuine)

    @property
    def worst_s(self) -> float:
        """The longest that a genuine sender waited."""
        return max((each.elapsed_s for each in self.genuine), default=0.0)

    def __str__(self) -> str:
        answers = ", ".join(
            f"{count} x {said}" for said, count in sorted(self.cost.answers.items())
        )
        return (
            f"{self.name}: {self.cost.sent_bytes / 1e6:,.1f} MB over"
            f" {self.cost.connections:,} connections ({answers or 'no answers'}),"
            f" {self.peaks.bytes / 1e6:.0f} MB from {self.peaks.before_bytes / 1e6:.0f},"
            f" {self.peaks.after_bytes / 1e6:.0f} afterwards,"
            f" {self.peaks.descriptors:,} descriptors;"
            f" genuine {self.answered} of {len(self.genuine)}, worst {self.worst_s:.2f} s"
        )


async def besieged(
    site: Site,
    name: str,
    *,
    seconds: float,
    bodies: Mapping[str, object] | None = None,
) -> Felt:
    """Attacks while genuine events and notices come in, before it and after it too.

    `bodies` is what `ammunition` makes. What genuine senders must not feel is expected here.
    """
    magazine = site.directory / "ammunition"
    ammunition.write(bodies or {}, magazine)  # type: ignore[arg-type]
    process = psutil.Process(site.receiver.pid)
    peaks = Peaks(before_bytes=process.memory_info().rss)
    first = len(site.witness.deliveries)
    async with _genuine(site), _sampled(process, peaks):
        await asyncio.sleep(CALM_S)
        cost = await _attacked(site, name, seconds, str(magazine))
        await asyncio.sleep(AFTER_S)
        peaks.after_bytes = process.memory_info().rss
    felt = Felt(name=name, cost=cost, peaks=peaks, genuine=site.witness.deliveries[first:])
    site.measured.append(str(felt))
    _expect_unharmed(site, felt)
    return felt


def _expect_unharmed(site: Site, felt: Felt) -> None:
    site.expect(
        felt.answered == len(felt.genuine) > 0,
        f"{len(felt.genuine) - felt.answered} genuine ones got no 202:"
        f" {[(d.status, d.reason or d.error) for d in felt.genuine if d.status != 202][:5]}",
    )
    site.expect(felt.worst_s <= WORST_S, f"a genuine one waited for {felt.worst_s:.2f} s")
    site.expect(felt.peaks.bytes <= MAX_RSS_BYTES, f"it took {felt.peaks.bytes / 1e6:.0f} MB")


async def _attacked(site: Site, name: str, seconds: float, magazine: str) -> Cost:
    """Raises RuntimeError where the attacker itself fails."""
    port = urlsplit(site.url).port
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.siege.attacker", name, str(port), str(seconds), magazine,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        raise RuntimeError(f"the attacker ended with {process.returncode}")
    return Cost(**orjson.loads(said))


@contextlib.asynccontextmanager
async def _genuine(site: Site) -> AsyncIterator[None]:
    """Events and notices come in while the block runs."""
    ended = asyncio.Event()
    tls = trusting_anybody() if site.url.startswith("https:") else None
    await site.ahead.prepare(int(EVENTS_RATE * 20))
    async with Crowd(site.url, site.witness.record, tls=tls) as crowd, asyncio.TaskGroup() as group:
        group.create_task(crowd.post(site.ahead.events(), rate=EVENTS_RATE, until=ended))
        group.create_task(_hang_up(crowd, ended))
        if tls is None:
            group.create_task(
                site.canvas.stream(site.url, until=ended, rate=NOTICES_RATE, notice_share=1)
            )
        try:
            yield
        finally:
            ended.set()


async def _hang_up(crowd: Crowd, ended: asyncio.Event) -> None:
    while not ended.is_set():
        await asyncio.sleep(HANG_UP_EVERY_S)
        crowd.hang_up()


@contextlib.asynccontextmanager
async def _sampled(process: psutil.Process, peaks: Peaks) -> AsyncIterator[None]:
    async def sample() -> None:
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                peaks.look(process)
            await asyncio.sleep(SAMPLE_EVERY_S)

    sampling = asyncio.create_task(sample())
    try:
        yield
    finally:
        sampling.cancel()
