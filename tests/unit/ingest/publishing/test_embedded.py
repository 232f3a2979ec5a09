"""The embedded log's thread: group commit, failures that hit their own batch only, and the end."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from ingest.contract.eventlog.eventlog import EventLog, EventLogReader, LogFull
from ingest.contract.record import Record
from ingest.errors import NotDurable, Overloaded
from ingest.publishing import embedded
from ingest.publishing.embedded import EmbeddedLog
from ingest.shared.background import Background


def _record(n: int = 0) -> Record:
    return Record(topic="t", key=f"{n}".encode(), value=b"{}")


class _File:
    """A log file in memory that fails, or waits, as it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.trims: list[int] = []
        self.probes = 0
        self.closed = False
        self.failure: Exception | None = None
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.committing = threading.Event()

    def append(self, records: Sequence[Record]) -> None:
        self.committing.set()
        assert self.may_commit.wait(10)
        if self.failure is not None:
            raise self.failure
        self.batches.append(list(records))

    def probe(self) -> None:
        self.probes += 1
        if self.failure is not None:
            raise self.failure

    def trim(self, *, before_ms: int) -> int:
        self.trims.append(before_ms)
        return 0

    def close(self) -> None:
        self.closed = True


@contextlib.asynccontextmanager
async def _log_on(file: _File) -> AsyncIterator[EmbeddedLog]:
    log = EmbeddedLog(cast(EventLog, file), retention_s=3_600)
    try:
        async with Background() as background:
            background.start("event log maintenance", log.run, needed=True)
            yield log
    finally:
        file.may_commit.set()
        await log.close()


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(2):
        while not await holds():  # noqa: ASYNC110 - the log's thread tells nobody
            await asyncio.sleep(0.005)


async def test_many_at_once_are_all_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = EmbeddedLog(EventLog.open(path, max_bytes=1 << 30), retention_s=3_600)
    await asyncio.gather(*(log.append(_record(n)) for n in range(1_000)))
    with closing(EventLogReader.open(path)) as reader:
        assert {int(s.key) for s in reader.read(0, limit=2_000)} == set(range(1_000))
    await log.close()


async def test_what_waits_is_committed_together() -> None:
    file = _File()
    file.may_commit.clear()
    async with _log_on(file) as log:
        first = asyncio.create_task(log.append(_record()))
        await asyncio.to_thread(file.committing.wait, 5)
        rest = [asyncio.create_task(log.append(_record(n))) for n in range(1, 400)]
        await asyncio.sleep(0)
        assert not first.done()
        file.may_commit.set()
        await asyncio.gather(first, *rest)
        assert [len(batch) for batch in file.batches] == [1, 256, 143]
        assert [int(r.key) for batch in file.batches for r in batch] == list(range(400))


@pytest.mark.parametrize(
    "failure",
    [
        sqlite3.OperationalError("disk I/O error"),
        sqlite3.OperationalError("database or disk is full"),
        LogFull("the event log has reached its bound"),
        OSError(28, "No space left on device"),
    ],
)
async def test_failure_hits_its_own_batch_and_the_next_may_pass(failure: Exception) -> None:
    file = _File()
    async with _log_on(file) as log:
        await log.append(_record(0))
        file.failure = failure
        with pytest.raises(NotDurable):
            await log.append(_record(1))
        assert (await log.health())[0] is False
        file.failure = None
        await log.append(_record(2))
        assert (await log.health())[0] is True
    assert [int(r.key) for batch in file.batches for r in batch] == [0, 2]


async def test_all_of_a_failing_batch_are_told() -> None:
    file = _File()
    file.may_commit.clear()
    async with _log_on(file) as log:
        first = asyncio.create_task(log.append(_record()))
        await asyncio.to_thread(file.committing.wait, 5)
        rest = [asyncio.create_task(log.append(_record(n))) for n in range(1, 50)]
        await asyncio.sleep(0)
        file.failure = sqlite3.OperationalError("disk I/O error")
        file.may_commit.set()
        outcomes = await asyncio.gather(first, *rest, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {NotDurable}


@pytest.mark.parametrize(
    "failure", [LogFull("full"), sqlite3.OperationalError("attempt to write a readonly database")]
)
async def test_log_that_takes_nothing_is_unhealthy_from_probe_to_probe_until_one_works(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(embedded, "_PROBE_EVERY_S", 0.001)
    file = _File()
    seen: set[bool] = set()
    async with _log_on(file) as log:
        file.failure = failure
        with pytest.raises(NotDurable):
            await log.append(_record())

        async def probed_often() -> bool:
            seen.add((await log.health())[0])
            return file.probes > 20

        await _until(probed_often)  # and trimmed as often, which succeeds
        assert len(file.trims) >= 20
        assert seen == {False}
        file.failure = None
        await _until(lambda: _is_well(log))
    assert file.batches == []


async def _is_well(log: EmbeddedLog) -> bool:
    return (await log.health())[0]


async def test_log_at_its_bound_is_unhealthy_before_anything_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_PROBE_EVERY_S", 0.001)
    path = tmp_path / "eventlog.sqlite3"
    with closing(EventLog.open(path, max_bytes=1 << 30)) as file:
        file.append([Record(topic="t", key=b"k", value=b"x" * 1_000_000)])
    log = EmbeddedLog(EventLog.open(path, max_bytes=1_000_000), retention_s=10**9)
    async with Background() as background:
        background.start("event log maintenance", log.run)
        await _until(lambda: _is_unwell(log))
    await log.close()


async def _is_unwell(log: EmbeddedLog) -> bool:
    return not await _is_well(log)


async def test_trim_that_fails_says_nothing_about_appends_but_is_followed_by_a_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "_PROBE_EVERY_S", 0.001)

    class Untrimmable(_File):
        def trim(self, *, before_ms: int) -> int:
            super().trim(before_ms=before_ms)
            raise sqlite3.OperationalError("disk I/O error")

    file = Untrimmable()
    async with _log_on(file) as log:
        await _until(lambda: asyncio.sleep(0, result=file.probes > 0))
        assert await _is_well(log)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_error_that_nobody_foresaw_leaves_nobody_waiting() -> None:
    file = _File()
    file.failure = MemoryError()
    log = EmbeddedLog(cast(EventLog, file), retention_s=3_600)
    async with asyncio.timeout(1):
        with pytest.raises(NotDurable):
            await log.append(_record())
    await log.close()


async def test_caller_that_gives_up_disturbs_nobody() -> None:
    file = _File()
    file.may_commit.clear()
    async with _log_on(file) as log:
        leaving, staying = (asyncio.create_task(log.append(_record(n))) for n in range(2))
        await asyncio.to_thread(file.committing.wait, 5)
        leaving.cancel()
        await asyncio.wait([leaving])
        file.may_commit.set()
        await staying
    assert leaving.cancelled()
    assert sum(len(batch) for batch in file.batches) == 2


async def test_close_commits_what_waits_then_closes_and_takes_no_more() -> None:
    file = _File()
    file.may_commit.clear()
    log = EmbeddedLog(cast(EventLog, file), retention_s=3_600)
    waiting = [asyncio.create_task(log.append(_record(n))) for n in range(300)]
    await asyncio.to_thread(file.committing.wait, 5)
    closing_ = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    with pytest.raises(NotDurable):
        await log.append(_record())
    closed_early = file.closed
    file.may_commit.set()
    await asyncio.gather(*waiting)
    await closing_
    assert (closed_early, file.closed) == (False, True)
    assert sum(len(batch) for batch in file.batches) == 300


async def test_too_many_waiting_records_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_MAX_WAITING", 3)
    file = _File()
    file.may_commit.clear()
    async with _log_on(file) as log:
        first = asyncio.create_task(log.append(_record()))
        await asyncio.to_thread(file.committing.wait, 5)
        waiting = [asyncio.create_task(log.append(_record(n))) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await log.append(_record())
        file.may_commit.set()
        await asyncio.gather(first, *waiting)


async def test_old_records_are_trimmed_by_the_retention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 10_000.0)
    file = _File()
    async with _log_on(file) as log:
        await log.append(_record())
        await _until(lambda: asyncio.sleep(0, result=bool(file.trims)))
    assert set(file.trims) == {(10_000 - 3_600) * 1_000}


class _FullFile(_File):
    """Full until what is old has been trimmed."""

    def trim(self, *, before_ms: int) -> int:
        super().trim(before_ms=before_ms)
        removed = 0 if self.failure is None else 5
        self.failure = None
        return removed


async def test_full_log_is_trimmed_all_the_same_and_recovers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "_PROBE_EVERY_S", 0.001)
    file = _FullFile()
    async with _log_on(file) as log:
        await _until(lambda: asyncio.sleep(0, result=bool(file.trims)))
        file.failure = LogFull("the event log has reached its bound")
        with pytest.raises(NotDurable):
            await log.append(_record())
        await _until(lambda: _is_well(log))
