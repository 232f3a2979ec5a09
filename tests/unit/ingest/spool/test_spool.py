"""The spool before a real file: its bounds, its order of precedence, and what damage leaves."""

import asyncio
import contextlib
import math
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from ingest.contract.envelope import Source
from ingest.contract.eventlog.logfile import PROBE_BYTES, LogFileError
from ingest.contract.record import Record
from ingest.errors import NoRoom, NotDurable, Overloaded
from ingest.observing.ledger import Ledger
from ingest.shared.background import Background, TaskEnded
from ingest.spool import spool as spool_module
from ingest.spool import upkeep
from ingest.spool.files.directory import SpoolDirectory
from ingest.spool.files.reserve import RESERVE_NAME
from ingest.spool.files.rows import Contents, Held, Item
from ingest.spool.files.store import FILE_NAME, SpoolFile
from ingest.spool.limits import Room
from ingest.spool.spool import Spool
from tests.unit.ingest.publishing.fakes import (
    BALANCED,
    LIMITS,
    OTHER_TOPIC,
    TOPIC,
    SpoolBench,
    imbalance,
    number,
    open_spool,
    record,
    token,
    until,
)

_KB, _MB = 1024, 1024 * 1024
_PAGE = 4_096
_LATE_S = 0.3


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture(autouse=True)
def _tended_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_TEND_EVERY_S", 0.01)


class _Disk:
    """Stands between the spool and its file: fails appends, or holds them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures: list[sqlite3.Error] = []
        self.appends = 0
        self.may_append = threading.Event()
        self.may_append.set()
        self.appending = threading.Event()
        real = SpoolFile.append

        def append(file: SpoolFile, items: list[Item], *, max_bytes: int) -> int:
            self.appending.set()
            assert self.may_append.wait(10)
            self.appends += 1
            if self.failures:
                raise self.failures.pop(0)
            return real(file, items, max_bytes=max_bytes)

        monkeypatch.setattr(SpoolFile, "append", append)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Disk]:
    disk = _Disk(monkeypatch)
    yield disk
    disk.may_append.set()


def _error(code: int, text: str = "trouble") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


async def _fill(
    bench: SpoolBench, source: Source, topic: str = TOPIC, *, size_bytes: int = 20 * _KB
) -> int:
    """Appends until there is no room; how many were taken."""
    taken = 0
    with contextlib.suppress(NoRoom):
        while True:
            await bench.take(record(taken, topic=topic, size_bytes=size_bytes), source)
            taken += 1
    return taken


async def test_what_was_taken_is_there_after_a_kill(place: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    async with open_spool(place) as bench:
        await asyncio.gather(*(bench.spool.append(record(n), "pns") for n in range(600)))
        await bench.spool.defer(token(600))
        shutil.copytree(place, killed)
    async with open_spool(killed) as bench:
        assert await bench.numbers() == list(range(601))
        assert bench.ledger.held["spool", "pns"] == bench.ledger.recovered["pns"] == 600
        assert bench.ledger.held["deferred", "live-events"] == 1
        assert imbalance(bench.ledger) == BALANCED


async def test_many_share_one_commit(place: Path, disk: _Disk) -> None:
    async with open_spool(place) as bench:
        disk.may_append.clear()
        waiting = [asyncio.create_task(bench.spool.append(record(0), "pns"))]
        await asyncio.to_thread(disk.appending.wait, 5)
        waiting += [
            asyncio.create_task(bench.spool.append(record(n), "pns")) for n in range(1, 257)
        ]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        disk.may_append.set()
        await asyncio.gather(*waiting)
        assert disk.appends == 2
        assert await bench.numbers() == list(range(257))


async def test_tokens_and_records_are_told_apart(place: Path) -> None:
    async with open_spool(place) as bench:
        assert (bench.spool.has_records, bench.spool.has_tokens) == (False, False)
        await bench.take(token(0))
        assert (bench.spool.has_records, bench.spool.has_tokens) == (False, True)
        await bench.take(record(1))
        held = await bench.spool.read(after=0, limit=9, without=())
        tokens = await bench.spool.read_tokens(after=0, limit=9)
        assert ([number(h) for h in held], [number(t) for t in tokens]) == ([1], [0])
        await bench.forget(held)
        assert (bench.spool.has_records, bench.spool.has_tokens) == (False, True)
        figures = bench.spool.figures()
        assert (figures.records, figures.tokens) == (0, 1)


async def test_topics_are_left_out_or_read_alone(place: Path) -> None:
    third = "p.live-events.user-created.v1"
    async with open_spool(place) as bench:
        for n in range(9):
            await bench.take(record(n, topic=(TOPIC, OTHER_TOPIC, third)[n % 3]))
        assert set(bench.spool.topics()) == {TOPIC, OTHER_TOPIC, third}
        found = await bench.spool.read(after=3, limit=3, without={TOPIC})
        assert [number(each) for each in found] == [4, 5, 7]
        assert await bench.spool.read(after=0, limit=3, without=bench.spool.topics()) == []
        alone = await bench.spool.read_topic(third, after=0, limit=2)
        assert [number(each) for each in alone] == [2, 5]
        await bench.forget(await bench.spool.read_topic(third, after=0, limit=9))
        assert set(bench.spool.topics()) == {TOPIC, OTHER_TOPIC}


async def test_first_record_of_a_topic_is_read_though_its_commit_is_not_known_yet(
    place: Path, disk: _Disk
) -> None:
    """A cursor that has passed it would never come back."""
    async with open_spool(place) as bench:
        await bench.take(record(0))
        disk.may_append.clear()
        disk.appending.clear()
        taking = asyncio.create_task(bench.take(record(1, topic=OTHER_TOPIC)))
        await asyncio.to_thread(disk.appending.wait, 5)
        reading = asyncio.create_task(bench.spool.read(after=0, limit=9, without={TOPIC}))
        await asyncio.sleep(0)
        disk.may_append.set()
        assert [number(each) for each in await reading] == [1]
        await taking


async def test_damaged_row_met_in_one_topic_is_moved_and_the_rest_is_read(place: Path) -> None:
    async with open_spool(place) as bench:
        for n in range(3):
            await bench.take(record(n))
        _alter(place, "update record set value = x'00' where id = 2")
        found = await bench.spool.read_topic(TOPIC, after=0, limit=9)
        assert [number(each) for each in found] == [0, 2]
        assert imbalance(bench.ledger) == BALANCED


async def test_topic_that_damage_made_no_text_can_be_left_out_too(place: Path) -> None:
    async with open_spool(place) as bench:
        await bench.take(record(0))
        await bench.take(record(1, topic=OTHER_TOPIC))
        _alter(place, "update record set topic = cast(x'ff41' as text) where id = 1")
    async with open_spool(place) as bench:
        found = await bench.spool.read(after=0, limit=9, without={OTHER_TOPIC})
        assert found == []
        found = await bench.spool.read(after=0, limit=9, without={TOPIC})
        assert [number(each) for each in found] == [1]
        assert imbalance(bench.ledger) == BALANCED


async def test_forgotten_is_gone_for_good(place: Path) -> None:
    async with open_spool(place) as bench:
        for n in range(4):
            await bench.take(record(n))
        held = await bench.spool.read(after=0, limit=9, without=())
        await bench.forget([held[0], held[2]])
        assert await bench.numbers() == [1, 3]
    async with open_spool(place) as bench:
        assert await bench.numbers() == [1, 3]


async def test_bound_is_kept_with_the_write_ahead_log_counted(place: Path) -> None:
    limits = replace(LIMITS, max_bytes=2 * _MB)
    async with open_spool(place, limits) as bench:
        taken = await _fill(bench, "live-events")
        files = [place / FILE_NAME, place / f"{FILE_NAME}-wal"]
        assert 10 < taken < 100
        assert sum(path.stat().st_size for path in files) < 2.5 * _MB
        assert await bench.numbers() == list(range(taken))
        assert imbalance(bench.ledger) == BALANCED
        await _fill(bench, "live-events", size_bytes=0)
        await until(lambda: not bench.spool.health()[0])


async def test_notices_have_room_when_live_events_have_none(place: Path) -> None:
    limits = replace(LIMITS, max_bytes=4 * _MB, pns_reserve_bytes=2 * _MB)
    async with open_spool(place, limits) as bench:
        live = await _fill(bench, "live-events")
        for _ in range(20):  # the reserve is not for them, however often they ask
            with pytest.raises(NoRoom):
                await bench.take(record(0, size_bytes=20 * _KB), "live-events")
        notices = await _fill(bench, "pns", OTHER_TOPIC)
        assert notices >= 5
        assert live >= 5
        assert bench.ledger.held["spool", "pns"] == notices


async def test_room_comes_back_when_records_are_forgotten(place: Path) -> None:
    limits = replace(LIMITS, max_bytes=2 * _MB)
    async with open_spool(place, limits) as bench:
        await _fill(bench, "live-events")
        while held := await bench.spool.read(after=0, limit=100, without=()):
            await bench.forget(held)
        await until(lambda: bench.spool.health()[0])
        await bench.take(record(0))


async def test_topics_held_back_may_use_half_and_others_the_rest(place: Path) -> None:
    limits = replace(LIMITS, max_bytes=16 * _MB)
    parked = frozenset({TOPIC, "p.live-events.other.v1"})
    other = record(0, topic="p.live-events.other.v1", size_bytes=100 * _KB)
    async with open_spool(place, limits) as bench:
        bytes_parked = 0
        with contextlib.suppress(NoRoom):
            while True:
                item = record(0, size_bytes=100 * _KB)
                await bench.spool.append(item, "live-events", held_back=parked)
                bytes_parked += item.size_bytes
        assert 7.8 * _MB < bytes_parked <= 8 * _MB
        with pytest.raises(NoRoom, match="take none"):
            await bench.spool.append(other, "live-events", held_back=parked)
        await bench.spool.append(record(1, topic=OTHER_TOPIC), "pns", held_back=parked)
        # taken up again, the topic is like any other
        await bench.spool.append(record(2), "live-events", held_back=frozenset())


async def test_deferred_tokens_have_a_bound_of_their_own_and_notices_the_last_of_it(
    place: Path,
) -> None:
    limits = replace(LIMITS, deferred_max_bytes=_MB)
    async with open_spool(place, limits) as bench:
        taken: dict[Source, int] = {"live-events": 0, "pns": 0}
        for source in taken:
            with contextlib.suppress(NoRoom):
                while True:
                    await bench.spool.defer(token(0, source, size_bytes=20 * _KB - 1))
                    taken[source] += 1
        assert taken == {"live-events": 44, "pns": 7}  # 7/8 of 51 tokens of 20 KiB, and the rest
        await bench.spool.append(record(0), "live-events")


async def test_bounds_count_what_an_earlier_process_left(place: Path) -> None:
    limits = replace(LIMITS, deferred_max_bytes=_MB)
    async with open_spool(place, limits) as bench:
        await bench.spool.defer(token(0, size_bytes=850 * _KB))
    async with open_spool(place, limits) as bench:
        with pytest.raises(NoRoom):
            await bench.spool.defer(token(0, "pns", size_bytes=200 * _KB))


async def test_full_disk_gives_the_reserve_up_for_notices_alone(place: Path, disk: _Disk) -> None:
    limits = replace(LIMITS, pns_reserve_bytes=_MB)
    async with open_spool(place, limits) as bench:
        disk.failures = [_error(sqlite3.SQLITE_FULL)]
        with pytest.raises(NoRoom):
            await bench.take(record(0), "live-events")
        assert bench.directory.reserve.held
        disk.failures = [_error(sqlite3.SQLITE_FULL)]
        await bench.take(record(1), "pns")
        assert await bench.numbers() == [1]
        assert imbalance(bench.ledger) == BALANCED


async def test_live_events_wait_until_the_reserve_is_there_again(
    place: Path, disk: _Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_bytes = [10 * _MB]
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=free_bytes[0]))
    limits = replace(LIMITS, pns_reserve_bytes=_MB)
    async with open_spool(place, limits) as bench:
        free_bytes[0] = 0
        disk.failures = [_error(sqlite3.SQLITE_FULL)]
        await bench.take(record(0), "pns")
        assert not (place / RESERVE_NAME).exists()
        assert not bench.spool.figures().reserve_held
        with pytest.raises(NoRoom, match="reserve"):
            await bench.take(record(1), "live-events")
        assert not bench.spool.health()[0]
        await bench.take(record(2), "pns")
        free_bytes[0] = 10 * _MB
        await until(lambda: bench.spool.health()[0])
        assert (place / RESERVE_NAME).stat().st_blocks * 512 >= _MB
        await bench.take(record(3), "live-events")
        assert await bench.numbers() == [0, 2, 3]


async def test_disk_that_is_full_even_without_the_reserve_refuses_notices(
    place: Path, disk: _Disk
) -> None:
    async with open_spool(place, replace(LIMITS, pns_reserve_bytes=_MB)) as bench:
        disk.failures = [_error(sqlite3.SQLITE_FULL)] * 2
        with pytest.raises(NoRoom):
            await bench.take(record(0), "pns")
        assert await bench.numbers() == []
        assert imbalance(bench.ledger) == BALANCED


async def test_reached_bound_gives_no_blocks_up(place: Path) -> None:
    limits = replace(LIMITS, max_bytes=8 * _MB, pns_reserve_bytes=_MB)
    async with open_spool(place, limits) as bench:
        given_up = []
        bench.directory.reserve.give_up = lambda: given_up.append(1)  # type: ignore[method-assign]
        outcomes = await asyncio.gather(
            *(bench.take(record(n, size_bytes=900 * _KB), "pns") for n in range(20)),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} == {type(None), NoRoom}
        assert given_up == []


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_READONLY])
async def test_failing_disk_refuses_both_and_is_unhealthy_until_a_write_works(
    place: Path, disk: _Disk, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Reads go on all the while, and say nothing about writing."""
    real, fails, probes = SpoolFile.probe, [True], [0]

    def probe(file: SpoolFile) -> None:
        probes[0] += 1
        if fails:
            raise _error(code)
        real(file)

    monkeypatch.setattr(SpoolFile, "probe", probe)
    async with open_spool(place) as bench:
        sources: tuple[Source, ...] = ("live-events", "pns")
        for source in sources:
            disk.failures = [_error(code)]
            with pytest.raises(NotDurable):
                await bench.take(record(0), source)
        seen: set[bool] = set()

        def probed_often() -> bool:
            seen.add(bench.spool.health()[0])
            return probes[0] > 10

        await until(probed_often)
        assert await bench.numbers() == []
        seen.add(bench.spool.health()[0])
        assert seen == {False}
        fails.clear()
        await until(lambda: bench.spool.health()[0])
        assert await bench.numbers() == []
        assert bench.ledger.held["spool", "pns"] == 0
        assert imbalance(bench.ledger) == BALANCED


async def test_read_that_fails_leaves_the_spool_healthy_if_a_probe_works(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(file: SpoolFile, **bounds: Any) -> None:
        raise _error(sqlite3.SQLITE_IOERR)

    async with open_spool(place) as bench:
        await bench.take(record(0))
        with monkeypatch.context() as failing:
            failing.setattr(SpoolFile, "read", read)
            with pytest.raises(NotDurable):
                await bench.numbers()
        assert bench.spool.health()[0]
        assert await bench.numbers() == [0]


async def test_spool_with_less_room_than_a_large_record_takes_is_unhealthy(place: Path) -> None:
    async with open_spool(place, replace(LIMITS, max_bytes=2 * _MB)) as bench:
        await bench.spool._upkeep.once()
        used_bytes = bench.spool.figures().used_bytes
    for room_bytes, is_well in ((PROBE_BYTES, True), (PROBE_BYTES - 1, False)):
        limits = replace(LIMITS, max_bytes=used_bytes + room_bytes)
        room = Room(limits, bench.directory.reserve, used_bytes)
        with contextlib.nullcontext() if is_well else pytest.raises(NoRoom, match="full"):
            room.check_health()
    async with open_spool(place, replace(LIMITS, max_bytes=2 * _MB)) as bench:
        await _fill(bench, "live-events")
        await bench.spool._upkeep.once()  # has probed the disk, which works
        assert bench.spool.health() == (False, "the spool is full")


async def test_commit_that_comes_late_counts_as_recovered(
    place: Path, disk: _Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_COMMIT_TIMEOUT_S", _LATE_S)
    async with open_spool(place) as bench:
        disk.may_append.clear()
        with pytest.raises(NotDurable, match="too long"):
            await bench.take(record(0), "pns")
        assert bench.ledger.settled == {("pns", "not_durable", ""): 1}
        assert not bench.spool.health()[0]
        disk.may_append.set()
        await until(lambda: bench.spool.has_records)
        assert (bench.ledger.recovered["pns"], bench.ledger.held["spool", "pns"]) == (1, 1)
        assert imbalance(bench.ledger) == BALANCED
        await until(lambda: bench.spool.health()[0])
        assert await bench.numbers() == [0]


async def test_who_gives_up_leaves_what_was_committed_to_the_spool(
    place: Path, disk: _Disk
) -> None:
    async with open_spool(place) as bench:
        disk.may_append.clear()
        leaving = asyncio.create_task(bench.take(record(0)))
        await asyncio.to_thread(disk.appending.wait, 5)
        leaving.cancel()
        await asyncio.wait([leaving])
        disk.may_append.set()
        await until(lambda: bench.spool.has_records)
        assert bench.ledger.recovered["live-events"] == 1
        assert imbalance(bench.ledger) == BALANCED
        assert await bench.numbers() == [0]


async def test_arrival_is_told(place: Path) -> None:
    async with open_spool(place) as bench:
        bench.spool.arrived.clear()
        await bench.take(record(0))
        assert bench.spool.arrived.is_set()


async def test_too_many_waiting_are_turned_away_and_lanes_do_not_share_the_queue(
    place: Path, disk: _Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_MAX_WAITING", 2)
    async with open_spool(place) as bench:
        disk.may_append.clear()
        waiting = [asyncio.create_task(bench.take(record(n))) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await bench.take(record(2))
        waiting.append(asyncio.create_task(bench.take(record(3), "pns")))
        await asyncio.sleep(0)
        disk.may_append.set()
        await asyncio.gather(*waiting)
        assert sorted(await bench.numbers()) == [0, 1, 3]


async def test_close_commits_what_waits_and_takes_no_more(place: Path, disk: _Disk) -> None:
    async with open_spool(place) as bench:
        disk.may_append.clear()
        waiting = [asyncio.create_task(bench.take(record(n))) for n in range(300)]
        await asyncio.to_thread(disk.appending.wait, 5)
        closing_ = asyncio.create_task(bench.spool.close())
        await asyncio.sleep(0)
        with pytest.raises(NotDurable):
            await bench.take(record(300))
        disk.may_append.set()
        await asyncio.gather(*waiting)
        await closing_
        bench.spool.close = _nothing  # type: ignore[method-assign]
    async with open_spool(place) as bench:
        assert await bench.numbers() == list(range(300))


async def _nothing() -> None:
    pass


async def test_space_is_given_back_once_it_is_empty(place: Path) -> None:
    async with open_spool(place) as bench:
        for start in range(0, 1_000, 100):
            await asyncio.gather(
                *(bench.take(record(start + n, size_bytes=10 * _KB)) for n in range(100))
            )
        path = place / FILE_NAME
        grown = path.stat().st_size
        assert grown > 8 * _MB
        while held := await bench.spool.read(after=0, limit=500, without=()):
            await bench.forget(held)
        wal = path.with_name(f"{FILE_NAME}-wal")
        await until(lambda: path.stat().st_size + wal.stat().st_size < 100 * _KB)
        await until(lambda: bench.spool.figures().used_bytes < 100 * _KB)


async def test_writes_go_between_the_slices_in_which_space_is_given_back(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_SLICE_PAGES", 16)
    monkeypatch.setattr(upkeep, "_FREE_PAGES_WORTH_GIVING_BACK", 0)
    calls: list[str] = []
    for name in ("append", "give_back"):
        real = getattr(SpoolFile, name)

        def called(*args: Any, name: str = name, real: Any = real, **kw: Any) -> Any:
            calls.append(name)
            return real(*args, **kw)

        monkeypatch.setattr(SpoolFile, name, called)
    async with open_spool(place) as bench:
        await asyncio.gather(*(bench.take(record(n, size_bytes=10 * _KB)) for n in range(250)))
        held = await bench.spool.read(after=0, limit=500, without=())
        await bench.forget(held)
        calls.clear()
        async with asyncio.timeout(10):
            while calls.count("give_back") < 10:
                await bench.take(record(0), "pns")
    first, last = calls.index("give_back"), len(calls) - calls[::-1].index("give_back")
    assert calls[first:last].count("append") >= 3


async def test_damaged_rows_are_moved_out_of_the_way_and_counted(place: Path) -> None:
    async with open_spool(place) as bench:
        for n in range(3):
            await bench.take(record(n), "pns")
        await bench.take(token(3))
        _alter(place, "update record set value = x'00' where id = 2")
        _alter(place, "update token set token = x'00' where id = 1")
        assert await bench.numbers() == [0, 2]
        settled = {
            ("pns", "not_durable", "damaged"): 1,
            ("live-events", "not_durable", "damaged"): 1,
        }
        assert bench.ledger.settled == settled
        assert bench.ledger.held["spool", "pns"] == 2
        assert bench.ledger.held["deferred", "live-events"] == 0
        assert imbalance(bench.ledger) == BALANCED
        assert not bench.spool.has_tokens


def _alter(place: Path, statement: str) -> None:
    with closing(sqlite3.connect(place / FILE_NAME)) as connection, connection:
        connection.execute(statement)


def _scramble(place: Path, pages: Callable[[int], list[int]]) -> None:
    """Overwrites pages of the main file, after all of it has been written there."""
    path = place / FILE_NAME
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    with path.open("r+b") as file:
        for page in pages(path.stat().st_size // _PAGE):
            file.seek(page * _PAGE)
            file.write(os.urandom(_PAGE))


def _middle(count: int) -> list[int]:
    return [count // 2]


async def _corrupted(bench: SpoolBench, place: Path) -> None:
    """A spool of 600 records whose file has a scrambled page that it is about to meet."""
    for start in range(0, 600, 200):
        await asyncio.gather(*(bench.take(record(start + n)) for n in range(200)))
    _scramble(place, _middle)
    bench.directory.file._connection.execute("pragma shrink_memory")


async def test_corrupt_file_is_rebuilt_at_run_time_and_the_ledger_says_what_is_lost(
    place: Path,
) -> None:
    async with open_spool(place) as bench:
        await _corrupted(bench, place)
        with pytest.raises(NotDurable):
            await bench.numbers()
        await until(lambda: bool(bench.ledger.settled))
        kept = await bench.numbers()
        lost = bench.ledger.settled["live-events", "not_durable", "damaged"]
        assert len(kept) + lost == 600
        assert 0 < lost < 100
        assert bench.ledger.held["spool", "live-events"] == len(kept)
        assert imbalance(bench.ledger) == BALANCED
        await bench.take(record(600))
        assert (await bench.numbers())[-1] == 600


async def test_record_that_was_read_before_a_rebuilding_takes_no_other_away(place: Path) -> None:
    async with open_spool(place) as bench:
        await _corrupted(bench, place)
        read = await bench.spool.read(after=0, limit=5, without=())
        with pytest.raises(NotDurable):
            await bench.numbers()
        await until(lambda: bool(bench.ledger.settled))
        kept = await bench.numbers()
        told: list[Held] = []
        await bench.spool.forget(read, when_gone=told.append)
        assert (await bench.numbers(), told) == (kept, [])
        assert bench.spool.figures().records == len(kept)
        assert imbalance(bench.ledger) == BALANCED


async def _taken_in_time(bench: SpoolBench, wanted: Record) -> None:
    async with asyncio.timeout(2):
        while True:
            with contextlib.suppress(NotDurable):
                await bench.take(wanted)
                return
            await asyncio.sleep(0.01)


async def test_file_whose_sequence_is_damaged_is_rebuilt_too(place: Path) -> None:
    async with open_spool(place) as bench:
        for n in range(10):
            await bench.take(record(n))
        with closing(sqlite3.connect(place / FILE_NAME)) as connection:
            row = connection.execute(
                "select rootpage from sqlite_schema where name = 'sqlite_sequence'"
            ).fetchone()
        _scramble(place, lambda count: [row[0] - 1])
        bench.directory.file._connection.execute("pragma shrink_memory")
        with pytest.raises(NotDurable):
            await bench.take(record(10))
        await _taken_in_time(bench, record(11))
        assert await bench.numbers() == [*range(10), 11]
        assert imbalance(bench.ledger) == BALANCED


@pytest.mark.parametrize(
    "error",
    [LogFileError("cannot be used"), _error(sqlite3.SQLITE_FULL), OSError(5, "Input/output error")],
    ids=repr,
)
async def test_rebuilding_that_fails_once_is_tried_again_with_the_file_closed_meanwhile(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real, failed = SpoolFile.open, list[bool]()

    def opened(path: Path) -> SpoolFile:
        if not failed:
            failed.append(True)
            raise error
        return real(path)

    async with open_spool(place) as bench:
        await _corrupted(bench, place)
        monkeypatch.setattr(SpoolFile, "open", opened)
        with pytest.raises(NotDurable):
            await bench.numbers()
        await until(lambda: bool(failed))
        await _taken_in_time(bench, record(600))
        assert len(await bench.numbers()) > 500
        assert imbalance(bench.ledger) == BALANCED


async def test_rebuilding_that_meets_what_nobody_foresaw_ends_the_process_loudly(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unforeseen(directory: SpoolDirectory) -> None:
        raise RuntimeError

    directory, opening = SpoolDirectory.open(place, reserve_bytes=0)
    spool = Spool(directory, opening, LIMITS, ledger=Ledger())
    async with Background() as background:
        monkeypatch.setattr(SpoolDirectory, "rebuild_file", unforeseen)
        spool._disk.corrupt = True
        background.start("spool maintenance", spool.run, needed=True)
        with pytest.raises(TaskEnded, match="spool maintenance"):
            await asyncio.wait_for(background.wait_for_end(), 5)
    await spool.close()


async def test_forgetting_that_fails_half_way_counts_out_what_is_gone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_spool(place) as bench:
        for start in range(0, 300, 100):
            await asyncio.gather(*(bench.take(record(start + n)) for n in range(100)))
        held = await bench.spool.read(after=0, limit=300, without=())
        real, calls = SpoolFile.forget, list[int]()

        def forget(file: SpoolFile, ids: list[int]) -> int:
            calls.append(len(ids))
            if len(calls) == 2:
                raise _error(sqlite3.SQLITE_IOERR)
            return real(file, ids)

        monkeypatch.setattr(SpoolFile, "forget", forget)
        with pytest.raises(NotDurable, match="trouble"):
            await bench.forget(held)
        assert await bench.numbers() == list(range(256, 300))
        assert bench.ledger.held["spool", "live-events"] == bench.spool.figures().records == 44
        assert imbalance(bench.ledger) == BALANCED


async def test_forgetting_that_comes_late_is_counted(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_forget, real = threading.Event(), SpoolFile.forget

    def forget(file: SpoolFile, ids: list[int]) -> int:
        assert may_forget.wait(10)
        return real(file, ids)

    monkeypatch.setattr(spool_module, "_COMMIT_TIMEOUT_S", _LATE_S)
    monkeypatch.setattr(SpoolFile, "forget", forget)
    async with open_spool(place) as bench:
        await bench.take(record(0))
        held = await bench.spool.read(after=0, limit=9, without=())
        with pytest.raises(NotDurable, match="too long"):
            await bench.forget(held)
        assert bench.ledger.held["spool", "live-events"] == 1
        may_forget.set()
        await until(lambda: not bench.spool.has_records)
        assert bench.ledger.held["spool", "live-events"] == 0
        await until(lambda: bench.spool.health()[0])
        assert await bench.numbers() == []


async def test_damaged_row_is_counted_out_though_counting_fails_at_first(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fails = SpoolFile.contents, [True]

    def contents(file: SpoolFile) -> Contents:
        if fails:
            raise _error(sqlite3.SQLITE_IOERR)
        return real(file)

    async with open_spool(place) as bench:
        await bench.take(record(0))
        _alter(place, "update record set value = x'00' where id = 1")
        monkeypatch.setattr(SpoolFile, "contents", contents)
        with pytest.raises(NotDurable):
            await bench.numbers()
        assert bench.spool.has_records
        fails.clear()
        await until(lambda: not bench.spool.has_records)
        assert await bench.numbers() == []
        assert imbalance(bench.ledger) == BALANCED


async def test_figures_tell_age_and_time_to_full(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_spool(place, replace(LIMITS, max_bytes=64 * _MB)) as bench:
        await until(lambda: len(bench.spool._upkeep._growth._seen) > 2)
        assert bench.spool.figures().seconds_to_full == math.inf
        assert bench.spool.figures().oldest_age_s == 0
        await bench.take(record(0, size_bytes=_MB))
        await until(lambda: bench.spool._upkeep._growth._seen[-1][1] > _MB)
        assert 0 < bench.spool.figures().seconds_to_full < 3_600
        in_an_hour = time.time() + 3_600
        monkeypatch.setattr("time.time", lambda: in_an_hour)
        assert 3_599 < bench.spool.figures().oldest_age_s < 3_610


async def test_time_to_full_is_that_of_the_disk_where_it_has_less_room_than_the_bound(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_spool(place, replace(LIMITS, max_bytes=1 << 40)) as bench:
        spool = bench.spool
        await until(lambda: len(spool._upkeep._growth._seen) > 2)
        await bench.take(record(0, size_bytes=_MB))
        await until(lambda: spool._upkeep._growth._seen[-1][1] > _MB)
        by_bound = spool.figures().seconds_to_full
        monkeypatch.setattr(SpoolDirectory, "free_bytes", lambda self: 8 * _MB)
        await until(lambda: spool.figures().seconds_to_full < by_bound / 100)
        monkeypatch.setattr(SpoolDirectory, "free_bytes", lambda self: 0)
        await until(lambda: spool.figures().seconds_to_full == 0)


async def test_spool_without_room_is_full_though_it_does_not_grow(place: Path) -> None:
    async with open_spool(place, replace(LIMITS, max_bytes=_MB)) as bench:
        with contextlib.suppress(NoRoom):
            for n in range(9):
                await bench.take(record(n, size_bytes=_MB // 4))
        bench.spool._room.used_bytes = _MB
        assert bench.spool.figures().seconds_to_full == 0


@pytest.mark.parametrize(("free_bytes", "warns"), [(_MB, True), (64 * _MB, False)])
async def test_disk_with_less_room_than_the_bound_is_said(
    place: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, warns: bool
) -> None:
    monkeypatch.setattr(SpoolDirectory, "free_bytes", lambda self: free_bytes)
    with capture_logs() as lines:
        async with open_spool(place) as bench:
            bench.directory.warn_of_little_room(32 * _MB)
    assert [line["log_level"] for line in lines] == ["warning"] * warns


async def test_last_token_id_is_the_one_given_last(place: Path) -> None:
    async with open_spool(place) as bench:
        for n in range(3):
            await bench.take(token(n))
        assert await bench.spool.last_token_id() == 3
        await bench.forget_tokens(await bench.spool.read_tokens(after=0, limit=9))
        assert await bench.spool.last_token_id() == 3
