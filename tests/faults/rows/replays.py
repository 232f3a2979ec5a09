"""Row 24: dead letters are replayed beside live traffic, and the replay is killed half-way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from consumers.dead_letters.replay import LETTERS_AT_ONCE
from tests.faults.grounds import Grounds
from tests.faults.judging import judge, settle
from tests.faults.site import Site, streaming
from tests.faults.verdict import Tally
from tests.faults.waiting import until

MISREAD: Final = 1_100
LEAST_LETTERS: Final = 2 * LETTERS_AT_ONCE + 1
"""Two parts are done before the last replay."""

KILLED_AT: Final = (
    "before-replayed-rows:1",
    "after-replayed-rows:1",
    "after-replay-decision:1",
    "before-replayed-rows:2",
)
RATE: Final = 60.0
REPLAY_TIMEOUT_S: Final = 60.0
_MAIN: Final = "from consumers.commands.main import main; main()"


async def dead_letters_replayed_and_killed(grounds: Grounds, seed: int) -> Tally:
    """Each letter is replayed once in the end, whenever the replays before were killed."""
    async with grounds.site(seed, with_worker=False) as site:
        await site.canvas.send_events(site.url, count=MISREAD, concurrency=16)
        letters = await _misread(site)
        await site.worker.start()
        async with streaming(site, rate=RATE):
            for point in KILLED_AT:
                await _replay(site, crash_at=point)
            done = await _replay(site)
        site.expect({row["outcome"] for row in done} == {"replayed"}, f"replayed: {done[:3]}")
        again = await _replay(site)
        site.expect(again == [], f"a second replay found {again[:3]}")
        states = [row["state"] for row in await _dlq(site, "list", "--all")]
        site.expect(states == ["replayed"] * letters, f"{len(states)} letters of {letters}")
        site.measured.append(f"{letters} letters, {len(done)} of them left to the last replay")
        await settle(site)
        return await judge(site)


async def _misread(site: Site) -> int:
    """A worker with a fault reads everything there is; how many letters it leaves."""
    site.worker.misreads = True
    await site.worker.start()

    async def has_read_all() -> bool:
        ends, stored = (await site.topics()).ends, await site.stored_offsets()
        return all(stored.get(place, 0) >= end for place, end in ends.items())

    await until(has_read_all, timeout_s=60)
    await site.worker.term()
    site.worker.misreads = False
    letters = len(await _dlq(site, "list"))
    site.expect(letters >= LEAST_LETTERS, f"only {letters} dead letters")
    return letters


async def _replay(site: Site, *, crash_at: str | None = None) -> Sequence[Mapping[str, Any]]:
    """What became of the letters; of a replay that was to be killed, nothing is told."""
    return await _dlq(site, "replay", "--all", crash_at=crash_at)


async def _dlq(
    site: Site, *arguments: str, crash_at: str | None = None
) -> Sequence[Mapping[str, Any]]:
    program = ("-m", "tests.faults.crashing", crash_at) if crash_at else ("-c", _MAIN)
    own = {name: text for name, text in os.environ.items() if not name.startswith("FOREBAY_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, "dlq", *arguments, "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**own, **site.worker.settings},
    )  # fmt: skip
    async with asyncio.timeout(REPLAY_TIMEOUT_S):
        out, said = await process.communicate()
    ended = -signal.SIGKILL if crash_at else 0
    site.expect(process.returncode == ended, f"dlq {arguments[0]}: {said.decode()[-500:]}")
    found: Sequence[Mapping[str, Any]] = orjson.loads(out or b"[]")
    return found
