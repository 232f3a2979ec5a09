"""How much the spool takes, and of what: its bounds in bytes, and whom they turn away first."""

from collections.abc import Collection

from msgspec import Struct

from ingest.contract.envelope import Source
from ingest.contract.eventlog.logfile import PROBE_BYTES
from ingest.errors import NoRoom
from ingest.spool.files.reserve import Reserve
from ingest.spool.files.rows import Item, NewRecord, size_of
from ingest.spool.usage import SpoolUsage

# of what topics that are held back, and deferred Live Events, may take
_HELD_BACK_SHARE = 1 / 2
_LIVE_DEFERRED_SHARE = 7 / 8


class SpoolLimits(Struct, frozen=True, kw_only=True):
    """Bounds in bytes; of `max_bytes` and of the disk, `pns_reserve_bytes` are for notices alone.

    Records older than `alarm_age_s` raise an alarm, and nothing else.
    """

    max_bytes: int
    pns_reserve_bytes: int
    deferred_max_bytes: int
    alarm_age_s: float


class Room:
    """Whether something may come in, judged in memory. `used_bytes` is the latest measurement."""

    def __init__(self, limits: SpoolLimits, reserve: Reserve, used_bytes: int) -> None:
        self.used_bytes = used_bytes
        self._limits = limits
        self._reserve = reserve

    def max_bytes(self, source: Source) -> int:
        """How far a source's items may fill the spool."""
        reserve_bytes = 0 if source == "pns" else self._limits.pns_reserve_bytes
        return self._limits.max_bytes - reserve_bytes

    @property
    def reserve_is_gone(self) -> bool:
        """Whether the disk's reserve has been given up, or could not be taken."""
        return self._limits.pns_reserve_bytes > 0 and not self._reserve.held

    def left_bytes(self) -> int:
        """Room for Live Events."""
        return self.max_bytes("live-events") - self.used_bytes

    def check_record(self, new: NewRecord, held_back: Collection[str], usage: SpoolUsage) -> None:
        """Raises NoRoom. Topics that are held back may together take half of the spool."""
        if new.record.topic in held_back:
            most_bytes = self._limits.max_bytes * _HELD_BACK_SHARE
            if usage.bytes_of(held_back) + new.size_bytes > most_bytes:
                raise NoRoom("events of topics that take none now fill their half of the spool")
        self._check(new)

    def check_token(self, token: Item, usage: SpoolUsage) -> None:
        """Raises NoRoom. Tokens have a bound of their own, and notices the last of it."""
        share = 1 if token.source == "pns" else _LIVE_DEFERRED_SHARE
        if usage.token_bytes + size_of(token) > self._limits.deferred_max_bytes * share:
            raise NoRoom("deferred tokens fill their share of the spool")
        self._check(token)

    def check_health(self) -> None:
        """Raises NoRoom where a large Live Event would not be taken now."""
        self._check_bytes("live-events", PROBE_BYTES)

    def _check(self, item: Item) -> None:
        self._check_bytes(item.source, size_of(item))

    def _check_bytes(self, source: Source, more_bytes: int) -> None:
        if source == "live-events" and self.reserve_is_gone:
            raise NoRoom("the disk is full but for the notices' reserve")
        if self.used_bytes + more_bytes > self.max_bytes(source):
            raise NoRoom("the spool is full")
