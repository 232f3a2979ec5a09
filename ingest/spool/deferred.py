"""Tokens that cannot be judged while their keys cannot be had: kept in the spool, judged later."""

from ingest.spool.spool import Spool
from ingest.values import Receipt, SignedRequest


class Deferred:
    """Keeps tokens in the spool's file."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    async def keep(self, request: SignedRequest) -> Receipt:
        """The receipt, once the token is durable. Raises NotDurable or Overloaded."""
        await self._spool.defer(request)
        return Receipt(outcome="deferred", event_id=None, held_in="deferred")
