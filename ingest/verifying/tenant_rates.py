"""How many events a second of one tenant are taken, so that no school takes the others' room."""

import time
from collections.abc import Callable, Collection

import structlog

from ingest.errors import Overloaded
from ingest.storage.token_bucket import TokenBucket
from ingest.values import Claims

log = structlog.get_logger(__name__)

_BURST_S = 10.0
_COMPLAIN_EVERY_S = 60.0


class TenantRates:
    """Takes `per_s` events of each tenant, and ten seconds' worth at once; any number if None.

    Notices are counted but never refused, for Canvas sends them once. For one event loop.
    """

    def __init__(self, per_s: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left: dict[str, TokenBucket] = {}  # as many as there are tenants
        self._complained_at: dict[str, float] = {}

    def take(self, claims: Claims) -> None:
        """Counts one verified event. Raises Overloaded where its tenant has had its share."""
        if self._per_s is None:
            return
        left = self._left.get(claims.tenant)
        if left is None:
            left = self._left[claims.tenant] = TokenBucket(
                burst=max(1.0, _BURST_S * self._per_s), per_s=self._per_s, clock=self._clock
            )
        if claims.source == "pns":
            left.take_regardless(1)
        elif not left.take():
            self._complain(claims.tenant)
            raise Overloaded("of one tenant")

    def tenants_are(self, names: Collection[str]) -> None:
        """Forgets all others."""
        for tenant in self._left.keys() - set(names):
            del self._left[tenant]
            self._complained_at.pop(tenant, None)

    def _complain(self, tenant: str) -> None:
        now_s = self._clock()
        if now_s - self._complained_at.get(tenant, float("-inf")) >= _COMPLAIN_EVERY_S:
            self._complained_at[tenant] = now_s
            log.warning(
                "a tenant sends more than FOREBAY_VERIFY__TENANT_EVENTS_PER_S, answered 503",
                tenant=tenant,
                allowed_per_s=self._per_s,
            )
