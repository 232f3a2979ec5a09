"""Looks for what nobody reports: Canvas about to give up on us, and tenants gone silent.

What it goes by outlives the process: it is kept in the spool's file.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection

import msgspec
import structlog

from ingest.errors import NotDurable
from ingest.observing.canvas_budget import KINDS
from ingest.observing.metrics import Metrics
from ingest.spool.spool import Spool

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 10.0
_NOTE = "watch"
_WARN_AT, _ALARM_AT = 0.5, 0.8


class _Known(msgspec.Struct, kw_only=True):
    """What outlives the process: counts by kind and bucket, and Unix seconds by tenant."""

    canvas_budget: dict[str, dict[str, int]] = {}
    last_event: dict[str, float] = {}


class Watch:
    """Raises alarms, each once until its cause has gone. `clock` gives Unix seconds."""

    def __init__(
        self,
        metrics: Metrics,
        spool: Spool,
        tenants: Collection[str],
        *,
        silence_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._spool = spool
        self._tenants = tenants
        self._silence_s = silence_s
        self._clock = clock
        self._began_s = clock()
        self._raised: set[str] = set()

    async def run(self) -> None:
        """For ever."""
        with contextlib.suppress(NotDurable):
            await self._recall()
        while True:
            self.look()
            with contextlib.suppress(NotDurable):
                await self.remember()
            await asyncio.sleep(_LOOK_EVERY_S)

    def look(self) -> None:
        """Raises what there is to raise now."""
        now_s = self._clock()
        for kind in KINDS:
            used = round(self._metrics.canvas_budget.used_ratio(kind, now_s), 3)
            text = "canvas may soon deactivate the subscription: too many answers were not 2xx"
            if self._first_time(f"{kind} {_ALARM_AT}", used >= _ALARM_AT):
                log.error(text, kind=kind, used_ratio=used)
            elif self._first_time(f"{kind} {_WARN_AT}", used >= _WARN_AT):
                log.warning(text, kind=kind, used_ratio=used)
        for tenant in self._tenants:
            silent_s = now_s - self._metrics.last_event.get(tenant, self._began_s)
            if self._first_time(f"silence of {tenant}", silent_s >= self._silence_s):
                log.error(
                    "no event for long: has canvas deactivated the subscription?",
                    tenant=tenant,
                    hours=round(silent_s / 3600, 1),
                )

    async def remember(self) -> None:
        """Keeps what a later process must know. Raises NotDurable."""
        known = _Known(
            canvas_budget=self._metrics.canvas_budget.dump(),
            last_event=self._metrics.last_event,
        )
        await self._spool.keep_note(_NOTE, msgspec.json.encode(known).decode())

    async def _recall(self) -> None:
        note = await self._spool.note(_NOTE)
        try:
            known = msgspec.json.decode(note or "{}", type=_Known)
        except msgspec.DecodeError:
            log.warning("what was noted before cannot be read")
            return
        self._metrics.canvas_budget.load(known.canvas_budget)
        for tenant, received_at in known.last_event.items():
            if tenant in self._tenants:
                self._metrics.seen(tenant, received_at)

    def _first_time(self, alarm: str, there: bool) -> bool:
        first = there and alarm not in self._raised
        if there:
            self._raised.add(alarm)
        else:
            self._raised.discard(alarm)
        return first
