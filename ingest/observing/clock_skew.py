"""How far this machine's clock is from those of the issuers, by when they say that they signed.

Source: RFC 7519 section 4.1.6, `iat`. It never is a ground for refusal, only for an alarm.
"""

from collections import deque
from collections.abc import Mapping
from statistics import median

from ingest.values import Claims

_LATEST = 64
_AT_LEAST = 5
"""How many tokens an estimate goes by, and how many it needs."""

_LAST_TIME_S = 1e11


class ClockSkew:
    """Looks at verified tokens only. For one thread."""

    def __init__(self) -> None:
        self._latest: dict[str, deque[float]] = {}

    def saw(self, claims: Claims) -> None:
        """What one token says; an `iat` that is no time says nothing."""
        iat = claims.payload.get("iat")
        # not isinstance: this is on the way of every event
        if not ((type(iat) is int or type(iat) is float) and 0 < iat < _LAST_TIME_S):
            return
        latest = self._latest.get(claims.issuer)
        if latest is None:  # as many as there are issuers
            latest = self._latest[claims.issuer] = deque(maxlen=_LATEST)
        latest.append(claims.received_at - iat)

    def by_issuer(self) -> Mapping[str, float]:
        """Seconds from signing to receipt, the median of the latest tokens of each issuer.

        Some seconds are usual, and more after an outage, since what is sent again was signed
        before. Less than none can only be the clocks: theirs is ahead, or ours behind.
        """
        return {
            issuer: median(latest)
            for issuer, latest in self._latest.items()
            if len(latest) >= _AT_LEAST
        }
