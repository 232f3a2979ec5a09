"""Every way to say no: reason and HTTP status, in one table. `reason` is also the metric label."""

from typing import ClassVar

from ingest.contract.quarantine import QuarantineReason
from ingest.values import TokenClaims


class Refusal(Exception):
    """An event or request that gets no 2xx. The text is for our logs, never for the answer."""

    reason: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]


class Rejection(Refusal):
    """We do not want it, and sending it again changes nothing."""


class Malformed(Rejection):
    reason, status, title = "malformed", 400, "The request is not what this endpoint takes"


class Unsigned(Rejection):
    reason, status, title = "unsigned", 401, "The event is not signed"


class BadSignature(Rejection):
    reason, status, title = "bad_signature", 401, "The signature does not fit the token"


class UnknownKey(Rejection):
    reason, status, title = "unknown_key", 401, "The issuer has no such key"


class WrongIssuer(Rejection):
    reason, status, title = "wrong_issuer", 401, "This endpoint does not take this issuer's tokens"


class AlgorithmNotAllowed(Rejection):
    reason, status, title = "algorithm_not_allowed", 401, "Only RS256 is allowed"


class TenantNotAllowed(Rejection):
    reason, status, title = "tenant_not_allowed", 403, "This tenant is not configured here"


class NotFound(Rejection):
    reason, status, title = "not_found", 404, "There is nothing here"


class MethodNotAllowed(Rejection):
    reason, status, title = "method_not_allowed", 405, "Only POST is allowed"


class RequestTimeout(Rejection):
    reason, status, title = "request_timeout", 408, "The body did not arrive in time"


class TooLarge(Rejection):
    reason, status, title = "too_large", 413, "The body is too large"


class Unavailable(Refusal):
    """Our own trouble; the sender should try again."""

    retry_after_s: ClassVar[int] = 5


class NotDurable(Unavailable):
    reason, status, title = "not_durable", 503, "The event could not be made durable"


class NoRoom(NotDurable):
    """A bound in bytes has been reached."""


class DiskFull(NoRoom):
    """The disk has no room for it."""


class NoKeys(NotDurable):
    """Its key is not at hand while keys can be had: anybody may have made it."""


class Overloaded(Unavailable):
    reason, status, title = "overloaded", 503, "Too much is under way"


class TooManyWaitForKeys(Overloaded):
    """The same, for one more token than may wait for keys."""


REFUSALS: tuple[type[Refusal], ...] = (
    Malformed,
    Unsigned,
    BadSignature,
    UnknownKey,
    WrongIssuer,
    AlgorithmNotAllowed,
    TenantNotAllowed,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    TooLarge,
    NotDurable,
    Overloaded,
)
"""The whole table, for the API description and the tests."""


class Uncheckable(Exception):
    """The keys that would prove it cannot be had now; `tenant`, which it names, is one of ours.

    `keys_fail` tells an outage of the key source from a crowd that waits for it.
    """

    def __init__(self, why: str = "", *, tenant: str = "", keys_fail: bool = True) -> None:
        super().__init__(why)
        self.tenant = tenant
        self.keys_fail = keys_fail


class Unusable(Exception):
    """Authentic, yet it cannot enter a trusted topic; it is kept in quarantine.

    `claims` are Claims where a tenant is known, and None where they cannot be read.
    """

    def __init__(self, reason: QuarantineReason, claims: TokenClaims | None = None) -> None:
        super().__init__(reason)
        self.reason: QuarantineReason = reason
        self.claims = claims


class PartitionUnavailable(NotDurable):
    """One partition takes no records for now, or did not say that it has; the text says why."""


class TopicRefused(Exception):
    """The log works, but takes no records for this topic for now; the text says why."""


class RecordTooLarge(Exception):
    """The log will never take this record for its topic."""
