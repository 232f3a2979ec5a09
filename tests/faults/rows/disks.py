"""Row 7: the spool's disk is full, fails, or is slow, while Kafka does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import aiohttp

from ingest.spool.files.reserve import RESERVE_NAME
from tests.emulator.retry_plan import NO_RETRIES, RetryPlan
from tests.faults.failing import SLOW_S, Trouble
from tests.faults.grounds import Grounds
from tests.faults.judging import settle_and_judge
from tests.faults.site import Site, event_request, streaming
from tests.faults.verdict import Tally
from tests.faults.waiting import until

RATE: Final = 60.0
NOTICE_SHARE: Final = 0.2
TROUBLE_S: Final = 3.0
WELL_S: Final = 1.5
RESERVE_BYTES: Final = 1024**2
LARGE_RESERVE_BYTES: Final = 6 * 1024**2
"""For as many notices as come while Canvas goes on trying, each a commit of some pages."""

PATIENCE_S: Final = 11.5
"""How long Canvas goes on trying at a hundredth of the time."""

DISK_BYTES: Final = 24 * 1024**2
LEFT_BYTES: Final = 1024**2
"""Room that is left on a small disk before events come."""

REFUSED: Final = (503, "not_durable")


async def disk_full_but_for_the_reserve(grounds: Grounds, seed: int) -> Tally:
    """No room but for the reserve: Live Events are refused, every notice is taken."""
    async with _failing(grounds, seed) as site:
        async with _flow(site):
            with site.readiness.undecided():
                async with _suffering(site, "full"):
                    await _expect_refused(site)
                    lost = site.witness.counts("pns").lost
                    site.expect(not lost, f"{lost} notices were refused, with a reserve for them")
                await _expect_taken(site)
            await until(lambda: _reserve(site).exists())
        return await _judged(site)


async def disk_fails(grounds: Grounds, seed: int) -> Tally:
    """I/O errors, a read-only file, a failing fsync and a bound on file sizes, in turn."""
    troubles: tuple[Trouble, ...] = ("io error", "read-only", "fsync error", "small")
    async with _failing(grounds, seed) as site:
        async with _flow(site):
            for trouble in troubles:
                with site.readiness.undecided():
                    async with _suffering(site, trouble):
                        await _expect_refused(site)
                    await _expect_taken(site)
                await asyncio.sleep(WELL_S)
        return await _judged(site)


async def disk_is_slow(grounds: Grounds, seed: int) -> Tally:
    """Half a second for every fsync: requests share it, and none of them is refused."""
    async with _failing(grounds, seed) as site:
        async with _flow(site), _suffering(site, "slow"):
            await asyncio.sleep(TROUBLE_S)
            slowest_s = site.witness.longest_request_s
            site.expect(slowest_s >= SLOW_S, f"the slowest request took {slowest_s:.2f} s")
        refused = site.witness.counts().lost
        site.expect(not refused, f"{refused} events were refused by a disk that is only slow")
        return await _judged(site)


async def disk_full_and_broker_down(grounds: Grounds, seed: int) -> Tally:
    """A real disk without room: what Canvas loses is what the ledger says was refused.

    Where no disk can be mounted, a bound on file sizes stands in for it.
    """
    plan = RetryPlan.canvas(time_scale=0.01, resign_share=0.3, seed=seed)
    with _small_disk() as disk:
        settings = {"FOREBAY_SPOOL__DIR": str(disk)} if disk else {}
        settings["FOREBAY_SPOOL__PNS_RESERVE_BYTES"] = str(LARGE_RESERVE_BYTES)
        async with _failing(grounds, seed, **settings) as site:
            with site.readiness.undecided():
                async with _flow(site, plan), _no_room(site, disk):
                    await _expect_refused(site)
                    await asyncio.sleep(PATIENCE_S)
                    lost = site.witness.counts("pns").lost
                    site.expect(disk is None or not lost, f"{lost} notices were refused")
                await _expect_ready_again(site)
            counts = site.witness.counts()
            site.expect(counts.lost and not counts.undecided, f"at Canvas's side: {counts}")
            await _expect_ledger_agrees(site)
            return await _judged(site)


async def _expect_ledger_agrees(site: Site) -> None:
    """Refused tries by the ledger, by the answers, and by what became of each event."""
    ledger = (await site.ledger()).outcome("not_durable")
    entries = site.witness.entries.values()
    tries = sum(entry.attempts - entry.accepted for entry in entries)
    # the probe that asks by hand is in the ledger, and not in the emulator's report
    answers = site.witness.said[REFUSED] + 1
    site.expect(
        ledger == answers == tries + 1,
        f"the ledger refused {ledger}, the answers {answers}, Canvas counts {tries} and a probe",
    )


@contextlib.asynccontextmanager
async def _failing(grounds: Grounds, seed: int, **settings: str) -> AsyncIterator[Site]:
    """A site whose spool disk can be told to fail, with Kafka out of reach."""
    receiver = {"FOREBAY_SPOOL__PNS_RESERVE_BYTES": str(RESERVE_BYTES), **settings}
    async with grounds.site(seed, receiver=receiver) as site:
        site.receiver.disk_control = site.directory / "disk"
        await site.link.refuse()
        await site.receiver.restart()
        yield site


def _flow(site: Site, plan: RetryPlan = NO_RETRIES) -> contextlib.AbstractAsyncContextManager[None]:
    return streaming(site, rate=RATE, repeat_share=0, notice_share=NOTICE_SHARE, retry_plan=plan)


@contextlib.asynccontextmanager
async def _suffering(site: Site, trouble: Trouble) -> AsyncIterator[None]:
    assert site.receiver.disk_control is not None
    site.receiver.disk_control.write_text(trouble)
    try:
        yield
    finally:
        site.receiver.disk_control.write_text("")


@contextlib.asynccontextmanager
async def _no_room(site: Site, disk: Path | None) -> AsyncIterator[None]:
    """Fills the small disk with something else, and takes that away again."""
    if disk is None:
        async with _suffering(site, "small"):
            yield
        return
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - LEFT_BYTES)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def _small_disk() -> Iterator[Path | None]:
    """A file system of its own in memory, or None where we may not mount one."""
    place = Path(tempfile.mkdtemp(prefix="forebay-small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


async def _expect_refused(site: Site) -> None:
    """Refusals begin, they are 503 and say when to try again, and they go on."""
    before = site.witness.said[REFUSED]
    await until(lambda: site.witness.said[REFUSED] > before, timeout_s=60)
    event = site.canvas.school.live_event(site.witness.genuine, stream="by hand")
    # should it be taken it is no stranger
    site.witness.vouch_for({event.content_key()})
    async with site.session.post(
        f"{site.url}/live-events",
        data=site.signed(event),
        timeout=aiohttp.ClientTimeout(total=12),
    ) as response:
        retry_after = response.headers.get("Retry-After", "")
    site.expect(response.status == 503, f"answered {response.status} without a place to keep it")
    site.expect(retry_after.isdigit(), f"a 503 with Retry-After {retry_after!r}")
    with site.readiness.lost():
        await asyncio.sleep(TROUBLE_S)
    others = {
        status for status, _ in site.witness.said if status is not None and status not in (202, 503)
    }
    site.expect(not others, f"there were answers {others}")


async def _expect_ready_again(site: Site) -> None:
    """No event has to come for it: the receiver finds out by itself."""

    async def is_ready() -> bool:
        async with site.session.get(f"{site.receiver.admin_url}/readyz") as response:
            return response.status == 200

    await until(is_ready, timeout_s=15)


async def _expect_taken(site: Site) -> None:
    """The disk is well again, so nothing is refused any more."""
    await _expect_ready_again(site)

    async def is_taken() -> bool:
        event = site.canvas.school.live_event(site.witness.genuine, stream="taken again")
        request = event_request(
            site.signed(event), name=event.name, content_key=event.content_key()
        )
        (delivery,) = await site.send([request])
        return delivery.accepted

    await until(is_taken, timeout_s=15)


def _reserve(site: Site) -> Path:
    return site.directory / "data" / "spool" / RESERVE_NAME


async def _judged(site: Site) -> Tally:
    await site.link.heal()
    return await settle_and_judge(site)
