"""A sink that two tasks have: one writes, the other asks where to begin to read."""

import asyncio
from collections.abc import Mapping

from consumers.batch import Batch
from consumers.sinks.base import Sink
from consumers.values import NextOffsets


class OneAtATime:
    """Passes one call at a time on to a sink, so that a store may have a single connection.

    What is stored is therefore told only after a write that is under way.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """As the sink."""
        async with self._turn:
            await self._sink.open()

    async def stored_offsets(self, source_id: str) -> NextOffsets:
        """As the sink, in turn."""
        async with self._turn:
            return await self._sink.stored_offsets(source_id)

    async def write(self, batch: Batch) -> Mapping[str, int]:
        """As the sink, in turn."""
        async with self._turn:
            return await self._sink.write(batch)

    async def close(self) -> None:
        """As the sink."""
        await self._sink.close()
