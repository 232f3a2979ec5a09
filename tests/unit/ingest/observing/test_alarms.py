"""Alarms: each once until its cause has gone, by a clock of ours, and kept past a restart."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingest.contract.envelope import Source
from ingest.observing import alarms as alarms_module
from ingest.observing import state_file
from ingest.observing.alarms import FILE_NAME, Alarms
from ingest.observing.metrics import Metrics
from tests.support.builders import NOW_S, live_event, live_event_claims

_NOW_S = 1_790_000_400.0
_SILENCE_S = 3_600.0


class _Clock:
    now_s = _NOW_S

    def __call__(self) -> float:
        return self.now_s


class _Site:
    """One process's alarms. North and south send Live Events, west only notices."""

    def __init__(self, directory: Path, clock: _Clock) -> None:
        self.clock = clock
        self.metrics = Metrics("p1")
        self.alarms = Alarms(
            self.metrics,
            directory / FILE_NAME,
            tenants=("north", "south", "west"),
            with_live_events=("north", "south"),
            silence_s=_SILENCE_S,
            clock=clock,
        )

    def look(self) -> list[dict[str, Any]]:
        with capture_logs() as lines:
            self.alarms.look()
        return [dict(line) for line in lines]

    def spend(self, count: int) -> None:
        for _ in range(count):
            self.metrics.canvas_budget.spend("timeout", self.clock.now_s)

    def hear(self, tenant: str, source: Source = "live-events") -> None:
        self.metrics.seen(tenant, source, self.clock.now_s)

    @property
    def failures(self) -> float:
        labels = {"process": "p1", "file": FILE_NAME}
        name = "forebay_state_file_failures_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def site(tmp_path: Path, clock: _Clock) -> _Site:
    return _Site(tmp_path, clock)


def _levels(lines: list[dict[str, Any]]) -> list[str]:
    return [line["log_level"] for line in lines]


def _silent(lines: list[dict[str, Any]]) -> set[str]:
    return {line["tenant"] for line in lines}


def test_nothing_is_said_while_all_is_well(site: _Site) -> None:
    site.spend(1_000)
    assert site.look() == []


def test_half_of_the_budget_is_a_warning_and_four_fifths_an_error(site: _Site) -> None:
    said = []
    for share in (0.49, 0.01, 0.0, 0.29, 0.01, 0.0):
        site.spend(round(share * 4 * 9_500))
        said.append(_levels(site.look()))
    assert said == [[], ["warning"], [], [], ["error"], []]


def test_error_names_the_kind_and_the_share(site: _Site) -> None:
    site.spend(4 * 9_500)
    (line,) = site.look()
    assert (line["log_level"], line["kind"], line["used_ratio"]) == ("error", "timeout", 1.0)
    assert site.look() == []


def test_alarm_is_raised_again_after_its_cause_had_gone(site: _Site) -> None:
    site.spend(round(0.6 * 4 * 9_500))
    assert _levels(site.look()) == ["warning"]
    site.clock.now_s += 24 * 3600
    site.hear("north")
    site.hear("south")
    assert site.look() == []
    site.spend(round(0.6 * 4 * 9_500))
    assert _levels(site.look()) == ["warning"]


def test_silent_tenant_is_named_once_until_it_speaks_again(site: _Site) -> None:
    site.hear("north")
    site.clock.now_s += _SILENCE_S - 1
    assert site.look() == []
    site.hear("south")
    site.clock.now_s += 1
    (line,) = site.look()
    assert (line["log_level"], line["tenant"], line["hours"]) == ("error", "north", 1.0)
    assert site.look() == []
    site.hear("north")
    assert site.look() == []
    site.clock.now_s += _SILENCE_S
    assert _silent(site.look()) == {"north", "south"}


def test_tenant_that_never_spoke_is_silent_since_the_start(site: _Site) -> None:
    site.clock.now_s += _SILENCE_S
    assert _silent(site.look()) == {"north", "south"}


def test_notices_do_not_hide_that_live_events_are_silent(site: _Site) -> None:
    site.hear("north")
    site.clock.now_s += _SILENCE_S
    for tenant in ("north", "south", "west"):
        site.hear(tenant, "pns")
    assert _silent(site.look()) == {"north", "south"}


def test_clock_that_is_behind_is_warned_of_once_until_it_is_right(site: _Site) -> None:
    said = []
    for skew_s in (2, 3_600, -60, -61, -600, 2, -600):
        for _ in range(64):
            signed_at = live_event_claims(iat=NOW_S - skew_s)
            site.metrics.clock_skew.saw(live_event(signed_at))
        said.append([line.get("seconds") for line in site.look()])
    assert said == [[], [], [], [61], [], [], [600]]


async def test_next_process_knows_what_the_last_one_saw(tmp_path: Path, clock: _Clock) -> None:
    first = _Site(tmp_path, clock)
    first.spend(100)
    first.metrics.seen("north", "live-events", _NOW_S - 1_800)
    first.metrics.seen("west", "pns", _NOW_S - 60)
    first.hear("gone")
    await first.alarms.remember()
    second = _Site(tmp_path, clock)
    second.alarms.recall()
    assert second.metrics.last_event == {
        "north": {"live-events": _NOW_S - 1_800},
        "west": {"pns": _NOW_S - 60},
    }
    ratios = [s.metrics.canvas_budget.used_ratio("timeout", _NOW_S) for s in (first, second)]
    assert ratios[0] == ratios[1] > 0
    clock.now_s += 1_800
    assert _silent(second.look()) == {"north"}
    assert second.failures == 0


async def test_time_to_come_does_not_hide_a_silence(tmp_path: Path, clock: _Clock) -> None:
    clock.now_s += 1_000_000
    wrong = _Site(tmp_path, clock)
    wrong.hear("north")
    await wrong.alarms.remember()
    clock.now_s = _NOW_S
    site = _Site(tmp_path, clock)
    site.alarms.recall()
    clock.now_s += _SILENCE_S
    assert _silent(site.look()) == {"north", "south"}


async def test_file_is_for_its_owner_alone(site: _Site, tmp_path: Path) -> None:
    await site.alarms.remember()
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


UNDECODABLE = {
    "empty": b"",
    "cut": b"{",
    "of another form": b"[]",
    "budget no mapping": b'{"canvas_budget": 7}',
    "bucket no number": b'{"canvas_budget": {"timeout": {"x": 1}}}',
    "bucket of many digits": b'{"canvas_budget": {"timeout": {"%s": 1}}}' % (b"9" * 5_000),
    "count below zero": b'{"canvas_budget": {"timeout": {"1": -1}}}',
    "time a text": b'{"last_event": {"north": {"pns": "x"}}}',
    "time beyond a double": b'{"last_event": {"north": {"pns": 1e999}}}',
    "source unknown": b'{"last_event": {"north": {"post": 1.0}}}',
    "not UTF-8": b'{"last_event": {"\xff": {"pns": 1.0}}}',
    "nested deeply": b'{"x": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("content", UNDECODABLE.values(), ids=UNDECODABLE)
async def test_file_that_nobody_can_read_is_said_counted_and_replaced(
    site: _Site, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with capture_logs() as lines:
        site.alarms.recall()
    assert _levels(list(map(dict, lines))) == ["warning"]
    assert (site.failures, site.metrics.last_event) == (1, {})
    site.hear("north")
    await site.alarms.remember()
    after = _Site(tmp_path, site.clock)
    after.alarms.recall()
    assert after.metrics.last_event == {"north": {"live-events": _NOW_S}}


def test_file_that_may_not_be_read_is_said_and_counted(site: _Site, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with capture_logs() as lines:
        site.alarms.recall()
    assert [line["log_level"] for line in lines] == ["warning"]
    assert site.failures == 1


async def test_file_that_cannot_be_written_is_counted_each_time_and_said_once_per_trouble(
    site: _Site, tmp_path: Path
) -> None:
    file = tmp_path / FILE_NAME
    with capture_logs() as lines:
        for writable in (False, False, True, False):
            if writable:
                file.rmdir()
            elif not file.is_dir():
                file.unlink(missing_ok=True)
                file.mkdir()
            await site.alarms.remember()
    assert [line["log_level"] for line in lines] == ["warning", "warning"]
    assert site.failures == 3


async def test_disk_that_does_not_answer_is_not_waited_for(
    site: _Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, writes = threading.Event(), list[Any]()

    def write(path: Path, state: Any) -> None:
        writes.append(state)
        answers.wait(10)

    monkeypatch.setattr(alarms_module, "_WRITE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(state_file, "write", write)
    await site.alarms.remember()
    await site.alarms.remember()
    assert (site.failures, len(writes)) == (2, 1)
    answers.set()
    monkeypatch.setattr(alarms_module, "_WRITE_TIMEOUT_S", 10)
    await site.alarms.remember()
    await site.alarms.remember()
    assert (site.failures, len(writes)) == (2, 2)


async def test_run_looks_and_remembers(
    tmp_path: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarms_module, "_LOOK_EVERY_S", 0.002)
    first = _Site(tmp_path, clock)
    first.spend(4 * 9_500)
    with capture_logs() as lines:
        running = asyncio.create_task(first.alarms.run())
        await _until_known(tmp_path, {})
        first.hear("south")
        await _until_known(tmp_path, {"south": {"live-events": _NOW_S}})
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert [line["log_level"] for line in lines] == ["error"]


async def _until_known(directory: Path, expected: dict[str, dict[str, float]]) -> None:
    async with asyncio.timeout(5):
        while True:
            later = _Site(directory, _Clock())
            later.alarms.recall()
            if (directory / FILE_NAME).exists() and later.metrics.last_event == expected:
                return
            await asyncio.sleep(0.002)


def test_silence_of_a_new_tenant_is_counted_from_when_it_came(site: _Site) -> None:
    site.clock.now_s += 2 * _SILENCE_S
    site.hear("north")
    site.hear("south")
    site.alarms.tenants_are(("north", "new"), ("north", "new"))
    assert site.look() == []
    site.clock.now_s += _SILENCE_S - 1
    site.alarms.tenants_are(("north", "new", "newer"), ("north", "new", "newer"))
    site.hear("north")
    site.clock.now_s += 1
    assert [line["tenant"] for line in site.look()] == ["new"]


def test_tenant_that_has_gone_is_not_missed(site: _Site) -> None:
    site.alarms.tenants_are(("north",), ("north",))
    site.clock.now_s += 2 * _SILENCE_S
    assert [line["tenant"] for line in site.look()] == ["north"]
