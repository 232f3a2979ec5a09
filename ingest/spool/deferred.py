"""Tokens that cannot be judged while their keys cannot be had: kept in the spool, judged later.

Nobody has verified them, so what a stranger can fill with them is bounded. All of them name one of
our tenants, which anybody can do who has seen its ids.

While a key source fails, each tenant has a share in bytes for its Live Events and one for its
notices: an eighth of what deferred tokens may take at once, and as much as all of that in an hour.
With the defaults that is 64 MiB, some 23,000 tokens of 2.8 KB, and then 53 a second, so that 200
events a second are all kept for two and a half minutes. A flood in a tenant's name takes that
share, beyond which its genuine events are answered 503 and sent again; it does not take other
tenants', nor that of notices, which have the lane's last eighth for themselves besides. In a long
outage all together may fill the lane, and no more.

While keys can be had only notices come here, for Canvas sends them once: those that find too many
waiting, or wait too long. A flood has room for few, and those are judged within seconds.
"""

from collections.abc import Collection

from ingest.contract.envelope import Source
from ingest.errors import NoKeys, NotDurable, Uncheckable
from ingest.spool.spool import Spool
from ingest.storage.token_bucket import TokenBucket
from ingest.values import Receipt, SignedRequest

BURST_SHARE = 1 / 8
REFILL_S = 3600.0
"""How much of the lane one tenant may take at once, and how soon as much as the whole of it."""

WAITING_PER_REQUEST = 16
WAITING_PER_S = 20
WAITING_IN_ALL = 1_000
"""How many notices may come here while their keys can be had."""


class Together:
    """The tokens of one request: how many more of them may come here while keys can be had."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = WAITING_PER_REQUEST


class Deferred:
    """Keeps tokens in the spool's file, of which they may take `max_bytes`."""

    def __init__(self, spool: Spool, *, max_bytes: int) -> None:
        self._spool = spool
        self._max_bytes = max_bytes
        self._waiting = TokenBucket(burst=WAITING_PER_S, per_s=WAITING_PER_S)
        self._shares: dict[tuple[str, Source], TokenBucket] = {}

    async def keep(self, request: SignedRequest, why: Uncheckable, together: Together) -> Receipt:
        """The receipt, once the token is durable. Raises NotDurable or Overloaded."""
        if why.keys_fail:
            self._take_share(request, why.tenant)
        else:
            self._take_place(together)
        await self._spool.defer(request)
        return Receipt(outcome="deferred", event_id=None, held_in="deferred")

    def tenants_are(self, names: Collection[str]) -> None:
        """Forgets the shares of all others."""
        for share in [share for share in self._shares if share[0] not in names]:
            del self._shares[share]

    def _take_share(self, request: SignedRequest, tenant: str) -> None:
        # as many as there are tenants
        share = self._shares.get((tenant, request.source))
        if share is None:
            share = TokenBucket(
                burst=self._max_bytes * BURST_SHARE, per_s=self._max_bytes / REFILL_S
            )
            self._shares[tenant, request.source] = share
        if not share.take(len(request.token)):
            raise NotDurable("the tenant's tokens have taken their share of what can be deferred")

    def _take_place(self, together: Together) -> None:
        if self._spool.figures().tokens >= WAITING_IN_ALL or not together.left:
            raise NoKeys("as many notices wait for keys as may")
        if not self._waiting.take():
            raise NoKeys("as many notices came to wait for keys as may in a second")
        together.left -= 1
