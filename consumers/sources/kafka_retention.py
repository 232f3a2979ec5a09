"""How old the first unwritten record of each partition is, and for how long Kafka keeps it."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from consumers.sources.loss import LossWatch, Unwritten
from ingest.shared.kafka.clients import TopicError
from ingest.shared.kafka.topic_admin import retention_ms

LOOK_EVERY_S = 30.0
ASK_AGAIN_AFTER_S = 600.0
END_WITHIN_S = 3.0
ROUNDS = 12
"""Halvings of the retention: of a week, they leave two and a half minutes."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class KafkaRetention:
    """Asks Kafka from time to time; between that, time alone passes."""

    def __init__(
        self, client_options: Mapping[str, Any], *, unix_s: Callable[[], float] = time.time
    ) -> None:
        self._client_options = client_options
        self._unix_s = unix_s
        self._retention_s: dict[str, float] = {}
        self._asked_at_s = -math.inf
        self._looked_at_s = -math.inf
        self.loss = LossWatch(unix_s)

    async def look(self, consumer: Any, unwritten: Mapping[Any, int]) -> None:
        """`unwritten` has the first unwritten offset of each partition that has one.

        Raises KafkaError.
        """
        now_s = self._unix_s()
        if not unwritten:
            self.loss.look(())
        elif now_s - self._looked_at_s >= LOOK_EVERY_S:
            self._looked_at_s = now_s
            await self._learn_retention({tp.topic for tp in unwritten}, now_s)
            ages = await self._appended_s(consumer, unwritten, now_s)
            self.loss.look(
                Unwritten(
                    where=f"{tp.topic}/{tp.partition}",
                    appended_s=appended_s,
                    retention_s=self._retention_s[tp.topic],
                )
                for tp, appended_s in ages.items()
            )

    async def _learn_retention(self, topics: set[str], now_s: float) -> None:
        """Of all these topics; NaN where we may not ask."""
        if topics <= self._retention_s.keys() and now_s - self._asked_at_s < ASK_AGAIN_AFTER_S:
            return
        self._asked_at_s = now_s
        wanted = topics | self._retention_s.keys()
        try:
            told = await self._told(sorted(wanted))
        except TopicError as error:
            log.debug("the topics' retention is not known", error=str(error))
            told = {}
        known = {topic: math.inf if ms < 0 else ms / 1000 for topic, ms in told.items()}
        self._retention_s = dict.fromkeys(wanted, math.nan) | known

    async def _told(self, topics: Sequence[str]) -> Mapping[str, int]:
        # a client of aiokafka 0.14 that is cancelled while it connects leaves the connection open
        asking = asyncio.create_task(retention_ms(self._client_options, topics))
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(asking)
        finally:
            await asyncio.wait({asking}, timeout=END_WITHIN_S)
            asking.cancel()

    async def _appended_s(
        self, consumer: Any, unwritten: Mapping[Any, int], now_s: float
    ) -> Mapping[Any, float]:
        """When these records were appended, or somewhat earlier, but no retention ago.

        Kafka tells the first offset of a time, not the time of an offset, so it is halved in on.
        """
        reach_s = {tp: self._retention_s[tp.topic] for tp in unwritten}
        old = {tp: max(now_s - s, 0.0) if s < math.inf else 0.0 for tp, s in reach_s.items()}
        new = dict.fromkeys(unwritten, now_s)
        for _ in range(ROUNDS):
            middle = {tp: (old[tp] + new[tp]) / 2 for tp in unwritten}
            found = await consumer.offsets_for_times(
                {tp: int(at_s * 1000) for tp, at_s in middle.items()}
            )
            for tp, at_s in middle.items():
                first = found.get(tp)
                is_older = first is None or first.offset > unwritten[tp]
                (new if is_older else old)[tp] = at_s
        return old
