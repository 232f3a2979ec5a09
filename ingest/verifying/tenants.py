"""Whose an authentic event is: tenants are pinned, and the default is no.

All schools share one issuer and one key set, so a good signature says nothing about the school.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hmac import compare_digest

from ingest.contract.envelope import Source
from ingest.errors import TenantNotAllowed


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEventsPin:
    """Live Events of one root account; of these subscriptions only, where any are named."""

    root_account_uuid: str
    subscription_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticesPin:
    """Notices for one client of one platform; of these deployments only, where any are named."""

    issuer: str
    client_id: str
    deployment_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One school, or one part of one, and what belongs to it.

    A `slug` is the secret end of the paths that it alone is taken at; it may show nowhere.
    """

    name: str
    live_events: tuple[LiveEventsPin, ...] = ()
    pns: tuple[NoticesPin, ...] = ()
    slug: str | None = field(default=None, repr=False)


class TenantConflict(ValueError):
    """Two tenants claim the same thing, or what they claim does not exist."""


class TenantUnknown(Exception):
    """The event names no root account, and no tenant pins its subscription."""


class Tenants:
    """The directory of all tenants. Raises TenantConflict if two claim the same thing."""

    def __init__(self, tenants: Iterable[Tenant]) -> None:
        self._accounts: dict[str, dict[str | None, str]] = {}
        self._subscriptions: dict[str, str] = {}
        self._clients: dict[tuple[str, str], dict[str | None, str]] = {}
        self._slugs: dict[str, bytes] = {}
        for tenant in tenants:
            self._add(tenant)

    def of_live_event(self, root_account_uuid: str | None, subscription_id: str | None) -> str:
        """The tenant's name. Raises TenantNotAllowed or TenantUnknown."""
        if root_account_uuid is None:
            tenant = self._subscriptions.get(subscription_id or "")
            if tenant is None:
                raise TenantUnknown
            return tenant
        return _narrowed(self._accounts.get(root_account_uuid, {}), subscription_id)

    def of_notice(self, issuer: str, client_id: str, deployment_id: str | None) -> str:
        """The tenant's name. Raises TenantNotAllowed."""
        return _narrowed(self._clients.get((issuer, client_id), {}), deployment_id)

    def takes_from(self, source: Source, issuer: str) -> bool:
        """Whether any tenant takes Live Events, or notices of this platform."""
        if source == "live-events":
            return bool(self._accounts)
        return any(issuer == pinned for pinned, _ in self._clients)

    def pins_account(self, root_account_uuid: str) -> bool:
        """Whether any tenant names this root account, of whatever subscriptions."""
        return root_account_uuid in self._accounts

    def pins_client(self, issuer: str, client_id: str) -> bool:
        """Whether any tenant names this client, of whatever deployments."""
        return (issuer, client_id) in self._clients

    def of_slug(self, slug: str) -> str | None:
        """The tenant whose slug it is. How long that takes says nothing about any slug."""
        given, found = slug.encode(errors="surrogatepass"), None
        for tenant, own in self._slugs.items():
            if compare_digest(own, given):
                found = tenant
        return found

    def has_slug(self, tenant: str) -> bool:
        """Whether this tenant is taken at paths of its own alone."""
        return tenant in self._slugs

    def _add(self, tenant: Tenant) -> None:
        if tenant.slug is not None:
            if (other := self.of_slug(tenant.slug)) is not None:
                _conflict(other, tenant.name, "the same slug")
            self._slugs[tenant.name] = tenant.slug.encode()
        for account in tenant.live_events:
            claims = self._accounts.setdefault(account.root_account_uuid, {})
            what = f"root account {account.root_account_uuid}"
            _claim(claims, account.subscription_ids, tenant.name, what)
            for subscription_id in account.subscription_ids:
                owner = self._subscriptions.setdefault(subscription_id, tenant.name)
                if owner != tenant.name:
                    _conflict(owner, tenant.name, f"subscription {subscription_id}")
        for client in tenant.pns:
            claims = self._clients.setdefault((client.issuer, client.client_id), {})
            what = f"client {client.client_id} of {client.issuer}"
            _claim(claims, client.deployment_ids, tenant.name, what)


def _narrowed(claims: Mapping[str | None, str], value: str | None) -> str:
    tenant = claims.get(value) or claims.get(None)
    if tenant is None:
        raise TenantNotAllowed("no tenant pins it")
    return tenant


def _claim(claims: dict[str | None, str], values: frozenset[str], tenant: str, what: str) -> None:
    """Enters a claim to some values, or to all of them (None), and refuses one already made."""
    for value in values or {None}:
        for other in claims.values() if value is None else (claims.get(value), claims.get(None)):
            if other not in (None, tenant):
                _conflict(str(other), tenant, what)
        claims[value] = tenant


def _conflict(first: str, second: str, what: str) -> None:
    raise TenantConflict(f"tenants {first} and {second} both claim {what}")


class HourlyAllowance:
    """Lets `limit` events, or bytes of them, pass in each hour of the clock that it is shown.

    No sender has more than a quarter of it, so that one that is a stranger leaves room for ours.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = math.ceil(limit / 4)
        self._hour = -1
        self._passed = 0
        self._by_sender: Counter[object] = Counter()

    def passes(self, now_s: float, sender: object, amount: int = 1) -> bool:
        """Whether so much more may pass at this Unix time; if so, it is counted.

        `sender` is whoever shares are by: a subscription's id, an account.
        """
        hour = int(now_s // 3600)
        if hour > self._hour:
            self._hour, self._passed = hour, 0
            self._by_sender.clear()
        of_it = self._by_sender[sender]  # to ask adds nothing
        if self._passed + amount > self._limit or of_it + amount > self._share:
            return False
        self._passed += amount
        self._by_sender[sender] = of_it + amount
        return True
