"""Alarms: each once until its cause has gone, by a clock of ours, and kept past a restart."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingest.observing import alarms as watch_module
from ingest.observing.alarms import Watch
from ingest.observing.metrics import Metrics
from tests.unit.ingest.publishing.fakes import SpoolBench, open_spool, until

_NOW_S = 1_790_000_400.0
_SILENCE_S = 3_600.0


class _Clock:
    now_s = _NOW_S

    def __call__(self) -> float:
        return self.now_s


class _Site:
    def __init__(self, bench: SpoolBench, clock: _Clock) -> None:
        self.clock = clock
        self.metrics = Metrics()
        self.watch = Watch(
            self.metrics, bench.spool, ("north", "south"), silence_s=_SILENCE_S, clock=clock
        )

    def look(self) -> list[dict[str, Any]]:
        with capture_logs() as lines:
            self.watch.look()
        return [dict(line) for line in lines]

    def spend(self, count: int) -> None:
        for _ in range(count):
            self.metrics.canvas_budget.spend("timeout", self.clock.now_s)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[SpoolBench]:
    async with open_spool(tmp_path / "spool") as opened:
        yield opened


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def site(bench: SpoolBench, clock: _Clock) -> _Site:
    return _Site(bench, clock)


def _levels(lines: list[dict[str, Any]]) -> list[str]:
    return [line["log_level"] for line in lines]


async def test_nothing_is_said_while_all_is_well(site: _Site) -> None:
    site.spend(1_000)
    assert site.look() == []


async def test_half_of_the_budget_is_a_warning_and_four_fifths_an_error(site: _Site) -> None:
    said = []
    for share in (0.49, 0.01, 0.0, 0.29, 0.01, 0.0):
        site.spend(round(share * 4 * 9_500))
        said.append(_levels(site.look()))
    assert said == [[], ["warning"], [], [], ["error"], []]


async def test_error_names_the_kind_and_the_share(site: _Site) -> None:
    site.spend(4 * 9_500)
    (line,) = site.look()
    assert (line["log_level"], line["kind"], line["used_ratio"]) == ("error", "timeout", 1.0)


async def test_alarm_is_raised_anew_after_its_cause_had_gone(site: _Site) -> None:
    site.spend(round(0.6 * 4 * 9_500))
    assert _levels(site.look()) == ["warning"]
    site.clock.now_s += 24 * 3600
    site.metrics.seen("north", site.clock.now_s)
    site.metrics.seen("south", site.clock.now_s)
    assert site.look() == []
    site.spend(round(0.6 * 4 * 9_500))
    assert _levels(site.look()) == ["warning"]


async def test_silent_tenant_is_named_once_until_it_speaks_again(site: _Site) -> None:
    site.metrics.seen("north", _NOW_S)
    site.clock.now_s += _SILENCE_S - 1
    assert site.look() == []
    site.metrics.seen("south", site.clock.now_s)
    site.clock.now_s += 1
    (line,) = site.look()
    assert (line["log_level"], line["tenant"], line["hours"]) == ("error", "north", 1.0)
    assert site.look() == []
    site.metrics.seen("north", site.clock.now_s)
    assert site.look() == []
    site.clock.now_s += _SILENCE_S
    assert {line["tenant"] for line in site.look()} == {"north", "south"}


async def test_tenant_that_never_spoke_is_silent_since_the_start(site: _Site) -> None:
    site.clock.now_s += _SILENCE_S
    assert {line["tenant"] for line in site.look()} == {"north", "south"}


async def test_next_process_knows_what_the_last_one_saw(bench: SpoolBench, clock: _Clock) -> None:
    first = _Site(bench, clock)
    first.spend(100)
    first.metrics.seen("north", _NOW_S - 1_800)
    first.metrics.seen("gone", _NOW_S)
    await first.watch.remember()
    second = _Site(bench, clock)
    await second.watch._recall()
    assert second.metrics.last_event == {"north": _NOW_S - 1_800}
    ratios = [s.metrics.canvas_budget.used_ratio("timeout", _NOW_S) for s in (first, second)]
    assert ratios[0] == ratios[1] > 0
    clock.now_s += 1_800
    assert [line["tenant"] for line in second.look()] == ["north"]


@pytest.mark.parametrize(
    "note",
    [
        "",
        "{",
        "{}",
        '{"canvas_budget": 7}',
        "[]",
        '{"last_event": {"north": "x"}}',
    ],
)
async def test_note_that_nobody_can_read_stops_nobody(
    site: _Site, bench: SpoolBench, note: str
) -> None:
    await bench.spool.keep_note("watch", note)
    await site.watch._recall()
    assert site.metrics.last_event == {}


async def test_run_recalls_looks_and_remembers(
    bench: SpoolBench, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "_LOOK_EVERY_S", 0.002)
    first = _Site(bench, clock)
    first.metrics.seen("north", _NOW_S - 10)
    await first.watch.remember()
    second = _Site(bench, clock)
    running = asyncio.create_task(second.watch.run())
    await until(lambda: "north" in second.metrics.last_event)
    second.metrics.seen("south", _NOW_S)
    third = _Site(bench, clock)

    async def knows_both() -> bool:
        await third.watch._recall()
        return set(third.metrics.last_event) == {"north", "south"}

    await until(knows_both)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
