"""Receiver and worker side by side, killed at will, and the count at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.emulator.canvas import Canvas
from tests.emulator.oracle import Entry
from tests.emulator.report import Report
from tests.emulator.school import School
from tests.support import tables
from tests.support.processes import Program, free_port, receiver, store, worker

SEED_VARIABLE = "TEST_PATH_SEED"
ROWS_TIMEOUT_S = 60.0


def drawn_seed() -> int:
    """The seed in TEST_PATH_SEED, else a new one; it belongs into every assertion's message."""
    return int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(10**6))


@dataclass(frozen=True, slots=True, kw_only=True)
class WholePath:
    """Both programs, and the Canvas that sends to them."""

    canvas: Canvas
    receiver: Program
    worker: Program
    directory: Path
    url: str

    async def send(self, count: int) -> Report:
        """New events, some twice, at full speed; what is not answered 2xx is signed again."""
        return await self.canvas.send_events(
            self.url,
            count=count,
            concurrency=16,
            repeat_share=0.1,
            quoted_share=0.3,
            # a killed receiver is back within a few of them
            retries=100,
            resign_retries=True,
        )

    async def kill(self, program: Program) -> None:
        """SIGKILL, and the same program again at once."""
        await asyncio.to_thread(program.kill)
        program.launch()

    async def rows(self) -> None:
        """Waits until the events table has as many rows as events were published."""
        await asyncio.to_thread(
            tables.wait_for_events,
            store(self.directory),
            len(self.published()),
            timeout_s=ROWS_TIMEOUT_S,
        )

    def published(self) -> Mapping[str, Entry]:
        """What was answered 2xx for a trusted topic, by event id."""
        return {
            entry.event_id or key: entry
            for key, entry in self.canvas.oracle.entries.items()
            if entry.accepted and entry.outcome == "published"
        }

    def faults(self) -> list[str]:
        """What is not exactly once, in `events` or in a typed table; empty if all is well."""
        promised = self.published()
        whole = Counter(tables.event_ids(store(self.directory)))
        typed = Counter(self._typed_ids())
        return [
            *_differences("events", whole, Counter(promised.keys())),
            *_differences(
                "typed tables",
                typed,
                Counter((entry.name, event_id) for event_id, entry in promised.items()),
            ),
        ]

    def _typed_ids(self) -> Iterator[tuple[str, str]]:
        path = store(self.directory)
        names = {entry.name for entry in self.published().values()}
        for name in sorted(names):
            table = "".join(c if c.isalnum() else "_" for c in name.lower())
            for event_id in tables.event_ids(path, table):
                yield name, event_id


@contextlib.asynccontextmanager
async def whole_path(
    directory: Path, *, seed: int, settings: Mapping[str, str] | None = None
) -> AsyncIterator[WholePath]:
    """Both programs, ready; both must end well, unless the test has failed already."""
    port = free_port()
    async with Canvas(school=School.from_seed(seed)) as canvas:
        path = WholePath(
            canvas=canvas,
            receiver=receiver(
                directory,
                port=port,
                tenants_toml=canvas.tenants_toml(),
                settings={**canvas.receiver_environment(), **(settings or {})},
            ),
            worker=worker(directory, settings=settings),
            directory=directory,
            url=f"http://127.0.0.1:{port}",
        )
        programs = (path.receiver, path.worker)
        try:
            for program in programs:
                await asyncio.to_thread(program.start)
            yield path
        except BaseException:
            for program in programs:
                await asyncio.to_thread(program.kill)
            raise
        codes = [await asyncio.to_thread(program.stop) for program in programs]
        assert codes == [0, 0], [program.log_file.read_text()[-2000:] for program in programs]


async def kill_while_sending(
    path: WholePath, rng: random.Random, *, count: int, victims: list[Program]
) -> Report:
    """Sends, and kills the victims in turn at moments that `rng` draws from the time it takes."""
    sending = asyncio.create_task(path.send(count))
    # early enough for the last kill to come in mid-sending on a slow machine too
    marks = sorted(rng.randrange(count // 10, count * 6 // 10) for _ in victims)
    for mark, victim in zip(marks, victims, strict=True):
        while True:
            if len(path.canvas.oracle.entries) >= mark or sending.done():
                break
            await asyncio.sleep(0.001)
        await asyncio.sleep(rng.random() * 0.05)
        assert not sending.done(), "all was sent before the last kill"
        await path.kill(victim)
    return await sending


def _differences(where: str, found: Counter[Any], wanted: Counter[Any]) -> list[str]:
    missing, extra = wanted - found, found - wanted
    return [
        f"{where}: {what} {sum(counts.values())}, such as {next(iter(counts))}"
        for what, counts in (("missing", missing), ("too many", extra))
        if counts
    ]
