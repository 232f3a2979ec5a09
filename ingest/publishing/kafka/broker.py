"""Sends to one broker: while one request is under way, the next one fills with all that comes.

A partition has one batch under way at a time, so its records keep their order, but where a request
hangs: a partition that is held up by another has a second one.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import structlog

from ingest.errors import Overloaded, PartitionUnavailable, RecordTooLarge, TopicRefused
from ingest.publishing.circuit_breaker import CircuitBreaker
from ingest.publishing.kafka.batch import Batch, Pending, Queues, take
from ingest.publishing.kafka.cluster import Connection
from ingest.publishing.kafka.lines import OVERTAKE_AFTER_S, Line, Lines
from ingest.publishing.log import Partition

log = structlog.get_logger(__name__)

MAX_RECORDS = 10_000
MAX_BYTES = 64 * 1024 * 1024
"""Most that one broker's queues hold, what is under way included."""

_MIN_WINDOW = 64
_SLOW_AFTER_SHARE = 1 / 8
"""Of the budget: what gives no answer for so long, broker or partition, pauses or is slow."""
_SLOW_WINDOW = 128
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 1.0

_TOO_LARGE = frozenset({"MessageSizeTooLargeError", "RecordListTooLargeError"})
_TOPIC_REFUSALS = frozenset(
    {
        "TopicAuthorizationFailedError",
        "ClusterAuthorizationFailedError",
        "InvalidTopicError",
        "PolicyViolationError",
        "UnknownTopicOrPartitionError",
    }
)


class Broker:
    """Queues by partition, and requests that take from all of them.

    A request that is not answered at once, since one of its partitions is slow, is overtaken by the
    next, over a connection of its own, with records of other partitions. If the next is answered
    first, each partition of the one that hangs goes on by itself. Urgent records go before later
    ones; probes of partitions that failed go by themselves.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[Connection]],
        *,
        budget_s: float,
        on_failure: Callable[[], None],
    ) -> None:
        self.name = name
        self._connect = connect
        self._budget_s = budget_s
        self._slow_after_s = budget_s * _SLOW_AFTER_SHARE
        self._on_failure = on_failure
        self._clock = asyncio.get_running_loop().time
        self._urgent: Queues = {}
        self._later: Queues = {}
        self._probes: Queues = {}
        self._lines = Lines()
        self._tried = False
        self._requests: set[asyncio.Task[None]] = set()
        self._circuit = CircuitBreaker(
            first_pause_s=_FIRST_PAUSE_S, longest_pause_s=_LONGEST_PAUSE_S
        )
        self._window = MAX_RECORDS
        self._heard_s = 0.0
        self._records = 0
        self._urgent_records = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._bytes = 0
        self._pumping: asyncio.TimerHandle | asyncio.Handle | None = None

    def offer(self, pending: Pending, *, probing: bool) -> None:
        """Takes a record in. Raises Overloaded or PartitionUnavailable at once."""
        urgent = pending.urgent
        if not self.answers:
            raise PartitionUnavailable(f"{self.name} does not answer")
        if self._records >= MAX_RECORDS or self._bytes + pending.size_bytes > MAX_BYTES:
            raise Overloaded("kafka acknowledges less than comes in")
        if urgent and self._urgent_records >= self._room(pending.partition):
            raise Overloaded("kafka acknowledges too late for all that comes in")
        queues = self._probes if probing else self._urgent if urgent else self._later
        queues.setdefault(pending.partition, deque()).append(pending)
        self._idle.clear()
        self._records += 1
        self._urgent_records += urgent
        self._bytes += pending.size_bytes
        if self._pumping is None:
            # in the loop's next turn, with all that this turn's requests bring
            self._pumping = asyncio.get_running_loop().call_soon(self._pump)

    @property
    def answers(self) -> bool:
        """Whether it did when last heard of."""
        return self._circuit.state(self._clock()) == "closed"

    async def check(self) -> None:
        """Finds out whether a broker that fell silent can be connected to again."""
        if not self._circuit.admits(self._clock()):
            return
        try:
            connection = await self._connect()
        except Exception:  # whatever the library raises: not yet
            self._circuit.failed(self._clock())
        else:
            connection.close()
            self._circuit.succeeded(self._clock())
            log.info("kafka broker answers again", broker=self.name)

    async def finish(self, timeout_s: float) -> None:
        """Waits for what was taken in."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()

    async def close(self) -> None:
        """Ends what is under way, and every connection."""
        if self._pumping is not None:
            self._pumping.cancel()
        for task in self._requests:
            task.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        self.fail_waiting(PartitionUnavailable(f"{self.name}: closing"))
        self._lines.disconnect()

    def fail_waiting(self, error: Exception) -> None:
        """Gives back all that has not been sent."""
        for queues in (self._urgent, self._later, self._probes):
            for queue in queues.values():
                self._end(queue, error)
            queues.clear()

    def _pump(self) -> None:
        """Begins what may begin now. The end of a request pumps again, and so does a new record."""
        self._pumping = None
        if self._probes and self._lines.probes.is_free:
            busy = self._lines.busy() | self._lines.held_up()
            self._begin(self._lines.probes, take([self._probes], busy, self._let_go))
        line = self._lines.free()
        if line is None or not (self._urgent or self._later):
            return
        wait_s = self._lines.until_next_s(self._clock())
        if wait_s <= 0:
            batches = self._next()
            if not batches:
                return
            self._begin(line, batches)
            wait_s = OVERTAKE_AFTER_S
        if self._urgent or self._later:
            self._pumping = asyncio.get_running_loop().call_later(wait_s, self._pump)

    def _next(self) -> list[Batch]:
        """What may go; and, by turns, one partition that is held up: it may be what hangs."""
        queues = [self._urgent, self._later]
        busy, held_up = self._lines.busy(), self._lines.held_up()
        others = busy | held_up
        one = None
        if held_up and self._lines.have_room_for_a_try:
            one = next((each for queue in queues for each in queue if each in held_up - busy), None)
        if one is None:
            return take(queues, others, self._let_go)
        self._tried = not self._tried
        if self._tried:
            return take(queues, _AllBut(one), self._let_go)
        return take(queues, others, self._let_go) or take(queues, _AllBut(one), self._let_go)

    def _begin(self, line: Line, batches: list[Batch]) -> None:
        if not batches:
            return
        if self._lines.are_free:
            self._heard_s = self._clock()
        self._lines.begin(line, [batch.partition for batch in batches], now_s=self._clock())
        task = asyncio.create_task(self._request(line, batches), name=f"kafka request {self.name}")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _request(self, line: Line, batches: list[Batch]) -> None:
        answered = False
        try:
            said = await self._produce(line, batches)
        except asyncio.CancelledError:
            self._end_all(batches, PartitionUnavailable(f"{self.name}: closing"))
            raise
        except Exception as error:  # whatever the library raises, nobody knows what has arrived
            self._failed(error)
            self._end_all(batches, PartitionUnavailable(f"{self.name}: {type(error).__name__}"))
        else:
            answered = True
            self._adapt(batches)
            for batch in batches:
                self._judge(batch, said.get(batch.partition, "no answer"))
        finally:
            self._lines.end(line, answered=answered, now_s=self._clock())
            self._heard_s = self._clock()
            if self._pumping is not None:
                self._pumping.cancel()
            self._pumping = asyncio.get_running_loop().call_soon(self._pump)

    async def _produce(self, line: Line, batches: list[Batch]) -> dict[Partition, str | None]:
        if line.connection is None or not line.connection.is_open:
            line.connection = await self._connect()
        return await line.connection.produce(
            {batch.partition: batch.built() for batch in batches},
            # sooner than ours, so that one slow partition does not cost the others' answers
            broker_timeout_s=self._budget_s * 0.6,
        )

    def _judge(self, batch: Batch, error: str | None) -> None:
        """What the broker says of a batch, it says of each of its records but for their size."""
        if error is None:
            self._end(batch.records, None)
        elif error in _TOO_LARGE:
            self._too_large(batch)
        else:
            self._on_failure()
            kind = TopicRefused if error in _TOPIC_REFUSALS else PartitionUnavailable
            topic, number = batch.partition
            self._end(batch.records, kind(f"{topic}/{number}: {error}"))

    def _too_large(self, batch: Batch) -> None:
        """The broker names no culprit: each record of the batch goes by itself."""
        if len(batch.records) == 1:
            self._end(batch.records, RecordTooLarge(batch.partition.topic))
            return
        for pending in batch.records:
            pending.alone = True
        waiting = self._later.setdefault(batch.partition, deque())
        waiting.extendleft(reversed(batch.records))

    def _adapt(self, batches: list[Batch]) -> None:
        """Lets so much wait as is acknowledged soon: a quarter of the budget is soon."""
        urgent = [pending for batch in batches for pending in batch.records if pending.urgent]
        if not urgent:
            return
        took_s = self._clock() - min(pending.began_s for pending in urgent)
        if took_s <= self._budget_s / 4:
            self._window = min(MAX_RECORDS, self._window + len(urgent))
        else:
            self._window = _MIN_WINDOW

    def _room(self, partition: Partition) -> int:
        """How many urgent records may wait now.

        While no answer comes it is few: else all that comes until the first late answer would wait
        for it, too many at once for the receiver.
        """
        if self._lines.are_free:
            return self._window
        slow_since_s = self._clock() - self._slow_after_s
        partition_is_slow = self._lines.since_s(partition) < slow_since_s
        if partition_is_slow or self._heard_s < slow_since_s:
            return min(self._window, _SLOW_WINDOW)
        return self._window

    def _failed(self, error: Exception) -> None:
        now_s = self._clock()
        if self._circuit.state(now_s) == "closed":
            log.warning(
                "kafka broker does not answer",
                broker=self.name,
                cause=type(error).__name__,
            )
        self._circuit.failed(now_s)
        self._lines.disconnect()
        self.fail_waiting(PartitionUnavailable(f"{self.name} does not answer"))
        self._on_failure()

    def _end_all(self, batches: list[Batch], error: Exception) -> None:
        for batch in batches:
            self._end(batch.records, error)

    def _end(self, records: Iterable[Pending], error: Exception | None) -> None:
        for pending in records:
            self._let_go(pending)
            pending.end(error)

    def _let_go(self, pending: Pending) -> None:
        self._records -= 1
        self._urgent_records -= pending.urgent
        if not self._records:
            self._idle.set()
        self._bytes -= pending.size_bytes


class _AllBut:
    """As a collection of partitions: all but one."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    def __contains__(self, partition: object) -> bool:
        return partition != self._partition
