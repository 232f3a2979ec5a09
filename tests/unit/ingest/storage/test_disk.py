"""File calls in a thread of their own: which failure is which, and what a late call means."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from functools import partial

import pytest

from ingest.contract.eventlog.logfile import LogFileError, LogFull
from ingest.errors import DiskFull, NoRoom, NotDurable
from ingest.storage.disk import Disk
from tests.unit.ingest.publishing.fakes import until

_TIMEOUT_S = 0.03


@pytest.fixture
async def disk() -> AsyncIterator[Disk]:
    disk = Disk("spool", timeout_s=_TIMEOUT_S)
    yield disk
    await disk.close(lambda: None)


class _Slow:
    """A call that ends when it is told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.may_end = threading.Event()
        self.begun = threading.Event()
        self._failure = failure

    def __call__(self) -> str:
        self.begun.set()
        assert self.may_end.wait(10)
        if self._failure is not None:
            raise self._failure
        return "done at last"


def _failing(error: Exception) -> None:
    raise error


def _sqlite_error(code: int, text: str = "trouble") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


async def test_result_comes_from_a_thread_that_is_not_the_loops(disk: Disk) -> None:
    idents = {await disk.call(threading.get_ident) for _ in range(5)}
    assert len(idents) == 1
    assert threading.get_ident() not in idents


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_sqlite_error(sqlite3.SQLITE_FULL), DiskFull),
        (_sqlite_error(sqlite3.SQLITE_IOERR_WRITE), DiskFull),
        (LogFull("bound"), NoRoom),
        (OSError(5, "Input/output error"), NotDurable),
        (_sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), NotDurable),
        (_sqlite_error(sqlite3.SQLITE_BUSY), NotDurable),
        (_sqlite_error(sqlite3.SQLITE_READONLY), NotDurable),
        (_sqlite_error(sqlite3.SQLITE_CORRUPT), NotDurable),
        (sqlite3.ProgrammingError("closed"), NotDurable),
        (LogFileError("cannot be used"), NotDurable),
    ],
    ids=repr,
)
async def test_failed_write_is_named_and_over_with_the_next_write_that_works(
    disk: Disk, error: Exception, kind: type[NotDurable]
) -> None:
    with pytest.raises(NotDurable) as caught:
        await disk.write(lambda: _failing(error))
    assert type(caught.value) is kind
    assert disk.failure is not None
    assert disk.failure.startswith("spool: ")
    assert await disk.call(lambda: 7) == 7
    assert disk.failure is not None, "a read says nothing about writing"
    assert await disk.write(lambda: 7) == 7
    assert not disk.suspect
    assert disk.failure is None


async def test_failed_read_says_nothing_about_writing_but_is_worth_a_probe(disk: Disk) -> None:
    with pytest.raises(NotDurable):
        await disk.call(lambda: _failing(_sqlite_error(sqlite3.SQLITE_IOERR)))
    assert (disk.failure, disk.suspect) == (None, True)
    await disk.call(lambda: None)
    assert disk.suspect
    await disk.write(lambda: None)
    assert not disk.suspect


async def test_read_that_takes_too_long_holds_every_write_up(disk: Disk) -> None:
    slow = _Slow()
    with pytest.raises(NotDurable, match="too long"):
        await disk.call(slow)
    assert disk.failure is not None
    with pytest.raises(NotDurable, match="not answered"):
        await disk.write(lambda: None)
    slow.may_end.set()
    await until(lambda: disk._late is None)
    assert disk.failure is not None, "nothing has been written yet"
    await disk.write(lambda: None)
    assert disk.failure is None


@pytest.mark.parametrize(
    ("code", "corrupt"),
    [
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_CORRUPT_INDEX, True),
        (sqlite3.SQLITE_CORRUPT_SEQUENCE, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_IOERR, False),
    ],
)
async def test_damage_is_remembered_past_the_next_success(
    disk: Disk, code: int, corrupt: bool
) -> None:
    with pytest.raises(NotDurable):
        await disk.call(lambda: _failing(_sqlite_error(code)))
    await disk.call(lambda: None)
    assert disk.corrupt is corrupt


async def test_others_are_refused_until_a_late_call_ends_and_it_is_told_of(disk: Disk) -> None:
    slow, told = _Slow(), list[str]()
    with pytest.raises(NotDurable, match="too long"):
        await disk.call(slow, when_late=told.append)
    called: list[int] = []
    with pytest.raises(NotDurable, match="not answered"):
        await disk.call(lambda: called.append(1))
    assert (told, called) == ([], [])
    slow.may_end.set()
    await until(lambda: bool(told))
    assert told == ["done at last"]
    assert await disk.call(lambda: 7) == 7
    assert called == []


async def test_others_are_refused_until_the_last_of_several_late_calls_ends(disk: Disk) -> None:
    first, second = _Slow(), _Slow()
    outcomes = await asyncio.gather(disk.call(first), disk.call(second), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NotDurable, NotDurable]
    first.may_end.set()
    await asyncio.to_thread(second.begun.wait, 5)
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_turn(), asyncio.get_running_loop()))
    called: list[int] = []
    with contextlib.suppress(NotDurable):
        await disk.call(lambda: called.append(1))
    second.may_end.set()
    await until(lambda: disk._late is None)
    await disk.call(lambda: None)
    assert called == []


async def _turn() -> None:
    """Behind whatever another thread has told the loop by now."""


async def test_late_call_that_fails_is_told_to_nobody(disk: Disk) -> None:
    slow, told = _Slow(_sqlite_error(sqlite3.SQLITE_IOERR)), list[str]()
    with pytest.raises(NotDurable):
        await disk.call(slow, when_late=told.append)
    slow.may_end.set()
    await until(lambda: disk._late is None)
    assert await disk.call(lambda: 7) == 7
    assert told == []


async def test_caller_that_gives_up_does_not_stop_the_call(disk: Disk) -> None:
    slow = _Slow()
    leaving = asyncio.create_task(disk.call(slow))
    await asyncio.to_thread(slow.begun.wait, 5)
    leaving.cancel()
    await asyncio.wait([leaving])
    slow.may_end.set()
    assert await disk.call(lambda: 7) == 7


async def test_close_makes_the_last_call_after_all_others() -> None:
    disk, order = Disk("spool", timeout_s=1.0), list[int]()
    attempts = [asyncio.create_task(disk.call(partial(order.append, n))) for n in range(5)]
    await asyncio.sleep(0)
    await disk.close(lambda: order.append(99))
    await asyncio.gather(*attempts)
    assert order == [0, 1, 2, 3, 4, 99]


async def test_close_does_not_wait_for_a_late_call() -> None:
    disk, slow, closed = Disk("spool", timeout_s=_TIMEOUT_S), _Slow(), list[int]()
    with pytest.raises(NotDurable):
        await disk.call(slow)
    async with asyncio.timeout(1):
        await disk.close(lambda: closed.append(1))
    assert closed == []
    slow.may_end.set()
