"""The deferred lane: tokens that cannot be judged while their keys cannot be had."""

from ingest.contract.record import Record
from ingest.spool.spool import Spool
from ingest.spool.store import DEFERRED, Held
from ingest.values import Receipt, SignedRequest


class Deferred:
    """Keeps tokens in the spool's file."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    async def keep(self, request: SignedRequest) -> Receipt:
        """The receipt, once the token is durable. Raises NotDurable or Overloaded."""
        await self._spool.defer(_record(request), request.source)
        return Receipt(outcome="deferred", event_id=None, held_in="deferred")


def request_of(held: Held) -> SignedRequest:
    """The request that brought a token, as it was."""
    headers = dict(held.stored.headers)
    traceparent = headers.get("traceparent")
    return SignedRequest(
        token=held.stored.value,
        source=held.source,
        received_at=float(headers["received_at"]),
        traceparent=traceparent.decode() if traceparent is not None else None,
    )


def _record(request: SignedRequest) -> Record:
    headers = [("received_at", repr(request.received_at).encode())]
    if request.traceparent is not None:
        headers.append(("traceparent", request.traceparent.encode()))
    return Record(topic=DEFERRED, key=b"", value=request.token, headers=tuple(headers))
