"""Who is connected: counted from accept to close, in all and by address; who goes when it is full.

Source: RFC 4291 section 2.5.4 (a site's hosts share the first 64 bits of an IPv6 address).
"""

import heapq
import resource
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from operator import itemgetter
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

# to look for who goes costs as much as all connections, so several go at once
_SHARE = 32
# files, Kafka, keys and the admin listener
_MOST_KEPT_BACK = 256
# of unfinished heads beyond what a usual one has, all connections together
_MAX_LARGE_HEAD_BYTES = 4 * 1024 * 1024

Rank = tuple[bool, float]
"""Whether a request of this connection was ever accepted, and since when nothing has come of it."""


class Connected(Protocol):
    """A connection, as far as it matters who goes."""

    def rank(self) -> Rank | None:
        """The lowest goes first; None while a whole request of it is handled."""

    def evict(self) -> None:
        """Ends it at once."""


class Connections:
    """All sockets of the public listener, unfinished handshakes included."""

    def __init__(
        self, *, max_open: int, max_per_address: int, aborted: Callable[[str], None]
    ) -> None:
        self._max_open = max_open
        self._max_per_address = max_per_address
        self._aborted = aborted
        self._open: dict[Connected, str | None] = {}  # and whose it is
        self._of: dict[str, int] = {}
        self._large_head_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, connection: Connected) -> bool:
        return connection in self._open

    def may_grow(self, head_bytes: int) -> bool:
        """Whether an unfinished head may exceed a usual one by so much more; less gives back."""
        if head_bytes > 0 and self._large_head_bytes + head_bytes > _MAX_LARGE_HEAD_BYTES:
            return False
        self._large_head_bytes += head_bytes
        return True

    def has_room(self, address: str | None) -> bool:
        """Whether one more may come from this address; None is one that is not bounded.

        Who is already there makes room: the longest idle or least advanced, never a whole request.
        """
        if address is not None and self._of.get(address, 0) >= self._max_per_address:
            if self.evict("too_many_from_address", address):
                return True
            self._aborted("too_many_from_address")
            return False
        if len(self._open) >= self._max_open and not self.evict("too_many_connections"):
            self._aborted("too_many_connections")
            return False
        return True

    def add(self, connection: Connected, address: str | None) -> None:
        """Counts it in."""
        self._open[connection] = address
        if address is not None:
            self._of[address] = self._of.get(address, 0) + 1

    def discard(self, connection: Connected) -> None:
        """Counts it out, once."""
        address = self._open.pop(connection, None)
        if address is not None:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]

    def beside(self, connection: Connected) -> int:
        """How many connections its address has; 0 for one that is not bounded."""
        return self._number_of(self._open.get(connection))

    def evict(self, reason: str, address: str | None = None) -> int:
        """Ends some connections, of this address or of any, and counts each; how many.

        Those that nothing was accepted on go first, and of these such as have many beside them.
        """
        ranked = [
            ((rank[0], -self._number_of(of), rank[1]), connection)
            for connection, of in self._open.items()
            if (address is None or of == address) and (rank := connection.rank()) is not None
        ]
        limit = self._max_open if address is None else self._max_per_address
        lowest = heapq.nsmallest(max(1, limit // _SHARE), ranked, key=itemgetter(0))
        for _, connection in lowest:
            self._aborted(reason)
            self.discard(connection)
            connection.evict()
        return len(lowest)

    def _number_of(self, address: str | None) -> int:
        return 0 if address is None else self._of[address]


def site_of(host: str) -> str:
    """Whose an address is: itself in IPv4, its first 64 bits in IPv6, of which anybody has many."""
    if ":" not in host:
        return host
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
    return host


def connections_possible(wanted: int) -> int:
    """As many as are wanted and as there are file descriptors for; as many of those as may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            log.warning("file descriptor limit cannot be raised", limit=soft, hard_limit=hard)
    if soft == resource.RLIM_INFINITY:
        return wanted
    possible = soft - min(_MOST_KEPT_BACK, soft // 4)
    if possible < wanted:
        log.warning(
            "fewer connections than FOREBAY_HTTP__MAX_CONNECTIONS:"
            " raise the limit of file descriptors, or lower it",
            wanted=wanted,
            possible=possible,
        )
    return min(wanted, possible)
