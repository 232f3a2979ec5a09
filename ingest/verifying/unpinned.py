"""What becomes of authentic events that no tenant pins: said, remembered, a few of them kept.

Whoever has a Canvas can send them, of which the senders' ids are true and nothing else says who
they are. So all of it is bounded: what is remembered, how often it is said, and what is kept.
"""

import structlog

from ingest.contract.moments import rfc3339
from ingest.errors import Malformed, Unusable
from ingest.observing.seldom import Seldom
from ingest.observing.tenants_seen import Missing, Sender, TenantsSeen, bounded, cut
from ingest.storage.token_bucket import TokenBucket
from ingest.values import TokenClaims
from ingest.verifying.claims import (
    check_form,
    check_is_notice,
    check_time,
    hostname_of,
    root_account_uuid_of,
    subscription_id_of,
)
from ingest.verifying.tenants import HourlyAllowance

log = structlog.get_logger(__name__)

EVENTS_PER_HOUR = 20_000
"""How many may be kept in an hour at most; of one account or client a quarter of it."""
_SAY_EVERY_S = 600.0
_SAID_AT_ONCE = 20
_SAID_PER_S = 0.1

_WHAT_TO_DO: dict[Missing, str] = {
    "root_account": "authentic events of a root account that no tenant pins: if it is yours,"
    " `forebay-ingest tenants adopt UUID --name NAME`; all of them: `forebay-ingest tenants seen`",
    "subscription": "authentic events of a subscription that no tenant pins: if it is yours,"
    " `forebay-ingest tenants adopt UUID --subscription ID --name NAME`, or add it to"
    " subscription_ids; all of them: `forebay-ingest tenants seen`",
    "client": "authentic notices for a client that no tenant pins: if it is yours, add a"
    " [[tenant.pns]] to the tenants file; all of them: `forebay-ingest tenants seen`",
    "deployment": "authentic notices for a deployment that no tenant pins: if it is yours, add it"
    " to deployment_ids in the tenants file; all of them: `forebay-ingest tenants seen`",
    "path": "authentic events of a tenant that has a slug came without it: put the path with"
    " the slug into Canvas; all of them: `forebay-ingest tenants seen`",
}


class Keeping:
    """Whether one more may be kept: within an hour's events and bytes, a quarter of which one
    account or client may have."""

    def __init__(self, *, bytes_per_hour: int, leeway_s: float) -> None:
        self._events = HourlyAllowance(EVENTS_PER_HOUR)
        self._bytes = HourlyAllowance(bytes_per_hour)
        self._leeway_s = leeway_s

    def takes(self, said: TokenClaims, size_bytes: int) -> bool:
        """If so, it is counted. What could not be released later either is not taken."""
        try:
            check_time(said, self._leeway_s)
            check_form(said)
        except Unusable:
            return False
        sender = said.client_id or root_account_uuid_of(said.payload)
        return self._events.passes(said.received_at, sender) and self._bytes.passes(
            said.received_at, sender, size_bytes
        )


class Unpinned:
    """Is told of each. `keeping` is None where none of them is kept."""

    def __init__(self, seen: TenantsSeen, keeping: Keeping | None = None) -> None:
        self._seen = seen
        self._keeping = keeping
        self._due = Seldom(every_s=_SAY_EVERY_S)
        self._lines = TokenBucket(burst=_SAID_AT_ONCE, per_s=_SAID_PER_S)

    def saw(self, said: TokenClaims, reason: str, missing: Missing) -> None:
        """Remembers and says whose one event is, whose signature was found good."""
        if not _is_event(said):
            return
        sender = bounded(_sender(said, reason, missing))
        hostname = cut(hostname_of(said.payload))
        self._seen.see(sender, hostname, rfc3339(said.received_at))
        self._say(sender, hostname)

    def may_be_kept(self, said: TokenClaims, size_bytes: int) -> bool:
        """Whether this event may go to quarantine until somebody pins it; if so, it is counted."""
        if self._keeping is None or not _is_event(said):
            return False
        return self._keeping.takes(said, size_bytes)

    def _say(self, sender: Sender, hostname: str | None) -> None:
        if not (events := self._due.due(sender)):
            return
        if not self._lines.take():
            self._due.not_said(sender)
            return
        ids = {
            "root_account_uuid": sender.root_account_uuid,
            "subscription_id": sender.subscription_id,
            "issuer": sender.issuer,
            "client_id": sender.client_id,
            "deployment_id": sender.deployment_id,
            "hostname": hostname,
        }
        log.warning(
            _WHAT_TO_DO[sender.missing],
            reason=sender.reason,
            events=events,
            **{name: value for name, value in ids.items() if value is not None},
        )


def _is_event(said: TokenClaims) -> bool:
    """Whether it is more than a launch, which a platform signs with the same keys."""
    if said.source == "pns":
        try:
            check_is_notice(said.payload)
        except Malformed:
            return False
    return True


def _sender(said: TokenClaims, reason: str, missing: Missing) -> Sender:
    is_notice = said.source == "pns"
    return Sender(
        reason=reason,
        missing=missing,
        source=said.source,
        issuer=said.issuer,
        root_account_uuid=None if is_notice else root_account_uuid_of(said.payload),
        subscription_id=None if is_notice else subscription_id_of(said.payload),
        client_id=said.client_id,
        deployment_id=said.deployment_id,
    )
