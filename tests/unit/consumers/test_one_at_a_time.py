"""Two tasks with one sink."""

import asyncio

from consumers.sinks.memory import MemorySink, MemoryStore
from consumers.sinks.one_at_a_time import OneAtATime
from tests.suites.sinks import ONE, SOURCE_ID, batch, row
from tests.unit.consumers.fakes import GatedSink


async def test_what_is_stored_is_told_after_a_write_that_is_under_way() -> None:
    gated = GatedSink(MemorySink(MemoryStore(), worker="tables"))
    sink = OneAtATime(gated)
    await sink.open()
    writing = asyncio.create_task(sink.write(batch([row(1)], {ONE: 7})))
    await asyncio.sleep(0)
    asking = asyncio.create_task(sink.stored_offsets(SOURCE_ID))
    await asyncio.sleep(0)
    gated.gate.set()
    assert await asking == {ONE: 7}
    assert await writing == {"things": 1}
    await sink.close()
