"""What every log does: subclass `LogBehaviour` and provide the fixture `bench`."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol

import pytest

from ingest.contract.record import Record
from ingest.errors import NotDurable
from ingest.publishing.log import Log

PATIENCE_S = 30.0
MANY = 300


class LogBench(Protocol):
    """A log under test that takes records for `topic`, and a way to see what it holds."""

    log: Log
    topic: str

    async def stored(self, *, count: int) -> Sequence[Record]:
        """All records of `topic`, once there are `count` of them, each partition in its order."""
        ...

    async def close(self) -> None:
        """Closes the log, once however often it is called."""
        ...


def record(bench: LogBench, n: int = 0, *, key: bytes | None = None, size_bytes: int = 2) -> Record:
    """The nth record of a test, of so many bytes; one key is one partition."""
    return Record(
        topic=bench.topic,
        key=key or b"%d" % n,
        value=b"%d" % n + b"x" * size_bytes,
        headers=(("ce_id", b"%d" % n), ("ce_subject", "größe".encode())),
    )


class LogBehaviour:
    """Durable when it says so, whoever asks and whoever stops waiting."""

    async def test_record_is_there_whole_when_append_returns(self, bench: LogBench) -> None:
        written = record(bench)
        await _in_time(bench.log.append(written))
        assert list(await bench.stored(count=1)) == [written]

    async def test_record_may_have_no_headers_and_any_bytes(self, bench: LogBench) -> None:
        bare = Record(topic=bench.topic, key=b"\x00\xff", value=b'{"\xff": "\x00"}')
        await _in_time(bench.log.append(bare))
        assert list(await bench.stored(count=1)) == [bare]

    async def test_many_at_once_are_all_there_once(self, bench: LogBench) -> None:
        written = [record(bench, n) for n in range(MANY)]
        await _in_time(asyncio.gather(*map(bench.log.append, written)))
        stored = await bench.stored(count=MANY)
        assert sorted(r.value for r in stored) == sorted(r.value for r in written)

    async def test_records_of_one_key_keep_their_order(self, bench: LogBench) -> None:
        written = [record(bench, n, key=b"one") for n in range(50)]
        await _in_time(asyncio.gather(*map(bench.log.append, written)))
        assert list(await bench.stored(count=50)) == written

    async def test_large_and_small_records_pass_together(self, bench: LogBench) -> None:
        sizes = [2, 700_000, 2, 300_000, 300_000, 2]
        written = [record(bench, n, key=b"one", size_bytes=s) for n, s in enumerate(sizes)]
        await _in_time(asyncio.gather(*map(bench.log.append, written)))
        assert list(await bench.stored(count=len(sizes))) == written

    async def test_caller_that_gives_up_takes_no_record_away(self, bench: LogBench) -> None:
        written = [record(bench, n, key=b"one") for n in range(3)]
        await _in_time(bench.log.append(written[0]))
        leaving, staying = (asyncio.create_task(bench.log.append(each)) for each in written[1:])
        await asyncio.sleep(0)  # both have handed their record over
        leaving.cancel()
        await _in_time(staying)
        assert leaving.cancelled()
        assert list(await bench.stored(count=3)) == written

    async def test_close_makes_durable_what_was_taken(self, bench: LogBench) -> None:
        written = [record(bench, n) for n in range(MANY)]
        await _in_time(bench.log.append(written[0]))
        waiting = [asyncio.create_task(bench.log.append(each)) for each in written[1:]]
        await asyncio.sleep(0)  # each has handed its record over
        await _in_time(bench.close())
        await _in_time(asyncio.gather(*waiting))
        assert len(await bench.stored(count=MANY)) == MANY

    async def test_closed_log_takes_nothing(self, bench: LogBench) -> None:
        await _in_time(bench.log.append(record(bench, 0)))
        await _in_time(bench.close())
        with pytest.raises(NotDurable):
            await _in_time(bench.log.append(record(bench, 1)))
        assert len(await bench.stored(count=1)) == 1

    async def test_log_that_takes_records_is_well(self, bench: LogBench) -> None:
        await _in_time(bench.log.append(record(bench)))
        is_well, line = await bench.log.health()
        assert is_well
        assert line


async def _in_time(work: Awaitable[object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await work
