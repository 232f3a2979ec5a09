"""Records on their way to a broker: queues by partition, and batches made of them."""

import asyncio
from collections import deque
from collections.abc import Callable, Container, Iterable

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from ingest.contract.record import Record
from ingest.publishing.log import Partition

_MAX_BATCH_BYTES = 256 * 1024
_MAX_REQUEST_BYTES = 4 * 1024 * 1024
_RECORD_OVERHEAD_BYTES = 70
_NO_LIMIT = 1 << 30  # the builder's own limit would count otherwise than ours


class Pending:
    """A record that was handed over, until its fate is known: `done` has it."""

    __slots__ = ("alone", "began_s", "done", "partition", "record", "size_bytes", "urgent")

    def __init__(
        self, record: Record, partition: Partition, *, began_s: float, urgent: bool
    ) -> None:
        self.record = record
        self.urgent = urgent
        self.partition = partition
        self.began_s = began_s
        self.size_bytes = record.size_bytes + _RECORD_OVERHEAD_BYTES
        self.alone = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_late(self) -> bool:
        """Whether its caller was told to go elsewhere."""
        return self.done.done() and not self.done.cancelled()

    def end(self, error: Exception | None = None) -> None:
        """Tells its fate, unless its caller knows one already."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


Queues = dict[Partition, deque[Pending]]


class Batch:
    """Records of one partition that go together."""

    __slots__ = ("_builder", "partition", "records", "size_bytes")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.records: list[Pending] = []
        self.size_bytes = 0
        self._builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, _NO_LIMIT)

    def fill(self, queue: deque[Pending], skipped: Callable[[Pending], None]) -> None:
        """Takes from the queue what goes in, at least one record that is not late."""
        while queue and self._has_room_for(queue[0]):
            pending = queue.popleft()
            if pending.is_late:
                skipped(pending)
            else:
                self._add(pending)

    def built(self) -> bytes:
        """The batch as it is sent."""
        return bytes(self._builder.build())

    def _has_room_for(self, pending: Pending) -> bool:
        if not self.records:
            return True
        if pending.alone or self.records[0].alone:
            return False
        return self.size_bytes + pending.size_bytes <= _MAX_BATCH_BYTES

    def _add(self, pending: Pending) -> None:
        record = pending.record
        headers = list(record.headers)
        self._builder.append(len(self.records), None, record.key, record.value, headers)
        self.records.append(pending)
        self.size_bytes += pending.size_bytes


def take(
    queues: Iterable[Queues], busy: Container[Partition], skipped: Callable[[Pending], None]
) -> list[Batch]:
    """The batches of one request, at most one for each partition that is not busy.

    The first queues come first. `skipped` gets records that nobody waits for any more.
    """
    batches: dict[Partition, Batch] = {}
    size_bytes = 0
    for each in queues:
        for partition in list(each):
            if size_bytes >= _MAX_REQUEST_BYTES:
                break
            if partition in busy or partition in batches:
                continue
            queue = each.pop(partition)
            batch = Batch(partition)
            batch.fill(queue, skipped)
            if queue:
                each[partition] = queue  # behind the others, whose turn is next
            if batch.records:
                batches[partition] = batch
                size_bytes += batch.size_bytes
    return list(batches.values())
