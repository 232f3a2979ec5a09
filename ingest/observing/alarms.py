"""Looks for what nobody reports: Canvas about to give up on us, and tenants gone silent.

What it goes by outlives the process, in a file of its own: a help for people, and whoever cannot
read or write it goes on without.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated

import structlog
from msgspec import Meta, Struct

from ingest.contract.envelope import Source
from ingest.observing import state_file
from ingest.observing.canvas_budget import KINDS
from ingest.observing.metrics import Metrics
from ingest.observing.state_file import Undecodable

FILE_NAME = "alarms.json"

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 10.0
_WRITE_TIMEOUT_S = 2.0
_WARN_AT, _ALARM_AT = 0.5, 0.8
_CLOCK_AHEAD_S = 60.0
_NOT_READ = "alarm state cannot be read, starting without it"
_NOT_WRITTEN = "alarm state cannot be written, a restart would forget it"


class _Known(Struct, kw_only=True):
    """What outlives the process: counts by kind and bucket; Unix seconds by tenant and source."""

    canvas_budget: dict[str, dict[int, Annotated[int, Meta(ge=0)]]] = {}
    last_event: dict[str, dict[Source, float]] = {}


class Alarms:
    """Raises alarms, each once until its cause has gone. `clock` gives Unix seconds.

    Of `tenants` only those `with_live_events` can be silent: notices come when they come.
    """

    def __init__(
        self,
        metrics: Metrics,
        file: Path,
        *,
        tenants: Collection[str],
        with_live_events: Collection[str],
        silence_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._file = file
        self._tenants = tenants
        self._with_live_events = with_live_events
        self._silence_s = silence_s
        self._clock = clock
        self._began_s = clock()
        self._later: dict[str, float] = {}
        """Since when tenants are there that came after this process began, in Unix seconds."""
        self._raised: set[str] = set()
        self._writing: asyncio.Future[None] | None = None

    def tenants_are(self, tenants: Collection[str], with_live_events: Collection[str]) -> None:
        """These are the tenants from here on; of new ones silence is counted from now."""
        now_s = self._clock()
        began = {
            tenant: self._later.get(tenant, self._began_s) for tenant in self._with_live_events
        }
        self._later = {tenant: began.get(tenant, now_s) for tenant in with_live_events}
        for gone in set(self._with_live_events) - set(with_live_events):
            self._raised.discard(f"silence of {gone}")
        self._tenants, self._with_live_events = tenants, with_live_events

    async def run(self) -> None:
        """Looks and remembers until it is cancelled."""
        while True:
            self.look()
            await self.remember()
            await asyncio.sleep(_LOOK_EVERY_S)

    def look(self) -> None:
        """Raises what there is to raise now."""
        now_s = self._clock()
        for kind in KINDS:
            used = round(self._metrics.canvas_budget.used_ratio(kind, now_s), 3)
            text = "canvas may soon deactivate the subscription: too many answers were not 2xx"
            alarms = self._first_time(f"{kind} {_ALARM_AT}", used >= _ALARM_AT)
            warns = self._first_time(f"{kind} {_WARN_AT}", used >= _WARN_AT)
            if alarms:
                log.error(text, kind=kind, used_ratio=used)
            elif warns:
                log.warning(text, kind=kind, used_ratio=used)
        for tenant in self._with_live_events:
            # notices come by another way, and say nothing about the subscription
            latest = self._metrics.last_event.get(tenant, {})
            began_s = self._later.get(tenant, self._began_s)
            silent_s = now_s - latest.get("live-events", began_s)
            if self._first_time(f"silence of {tenant}", silent_s >= self._silence_s):
                log.error(
                    "no live event for long: has canvas deactivated the subscription?",
                    tenant=tenant,
                    hours=round(silent_s / 3600, 1),
                )

        for issuer, skew_s in self._metrics.clock_skew.by_issuer().items():
            if self._first_time(f"clock of {issuer}", skew_s < -_CLOCK_AHEAD_S):
                log.warning(
                    "events are signed in the future: is this machine's clock behind?",
                    issuer=issuer,
                    seconds=round(-skew_s),
                )

    def recall(self) -> None:
        """Takes up what an earlier process knew; called once, before `run`."""
        try:
            known = state_file.read(self._file, _Known) or _Known()
        except (OSError, Undecodable) as error:
            self._failed(_NOT_READ, error)
            return
        self._metrics.canvas_budget.load(known.canvas_budget)
        for tenant in known.last_event.keys() & self._tenants:
            for source, received_at in known.last_event[tenant].items():
                # a time to come, written by a clock that was wrong, would hide a silence
                self._metrics.was_seen(tenant, source, min(received_at, self._began_s))

    async def remember(self) -> None:
        """Writes what a later process must know; a disk that does not answer is not waited for."""
        if self._writing is None:
            known = _Known(
                canvas_budget=self._metrics.canvas_budget.dump(),
                last_event={t: dict(latest) for t, latest in self._metrics.last_event.items()},
            )
            self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, known))
            # a failure is told here; at the end of the process nobody may be there any more
            self._writing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([self._writing], timeout=_WRITE_TIMEOUT_S)
        error: BaseException | None = TimeoutError()
        if self._writing.done():
            error, self._writing = self._writing.exception(), None
        if error is not None:
            self._failed(_NOT_WRITTEN, error)
        else:
            self._raised.discard(_NOT_WRITTEN)

    def _write(self, known: _Known) -> None:
        with state_file.locked(self._file):
            state_file.write(self._file, known)

    def _failed(self, what: str, error: BaseException) -> None:
        self._metrics.state_file_failed(self._file.name)
        if self._first_time(what, there=True):
            log.warning(what, file=str(self._file), cause=type(error).__name__)

    def _first_time(self, alarm: str, there: bool) -> bool:
        first = there and alarm not in self._raised
        if there:
            self._raised.add(alarm)
        else:
            self._raised.discard(alarm)
        return first
