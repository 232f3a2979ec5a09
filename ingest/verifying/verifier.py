"""Token to Claims. The order of checks is fixed, and the first failure names the reason:

form, algorithm, issuer, key, signature, tenant, time, claims.
"""

from collections.abc import Callable, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from ingest.contract import lti
from ingest.contract.envelope import Source
from ingest.contract.quarantine import QuarantineReason
from ingest.contract.strict_json import text
from ingest.errors import (
    BadSignature,
    Malformed,
    NoKeys,
    TenantNotAllowed,
    TooManyWaitForKeys,
    Uncheckable,
    UnknownKey,
    Unusable,
    WrongIssuer,
)
from ingest.observing.tenants_seen import Missing
from ingest.values import Claims, SignedRequest, TokenClaims
from ingest.verifying.claims import (
    check_form,
    check_is_notice,
    check_time,
    client_id_of,
    format_of,
    root_account_uuid_of,
    subscription_id_of,
)
from ingest.verifying.jwks import KeySource, KeysUnavailable
from ingest.verifying.tenants import Tenants, TenantUnknown
from ingest.verifying.token import Token, UnreadableClaims, read_claims, read_token
from ingest.verifying.unpinned import Unpinned

_PADDING, _HASH = PKCS1v15(), SHA256()
# Canvas shows its previous, current and next key, and changes them far less often than daily
_KEYS_STAY_S = 24 * 3600


class Verifier:
    """Judges tokens.

    `keys` maps each endpoint to its issuers and their keys. `may_keep_unknown_tenant` takes the
    time in Unix seconds and a subscription's id, and says whether one more of its events without a
    tenant may be quarantined. `unpinned` is told of authentic events that no tenant takes.
    """

    def __init__(
        self,
        *,
        keys: Mapping[Source, Mapping[str, KeySource]],
        tenants: Tenants,
        leeway_s: float,
        may_keep_unknown_tenant: Callable[[float, str | None], bool],
        on_ignored_members: Callable[[int], None],
        unpinned: Unpinned | None = None,
    ) -> None:
        self._keys = keys
        self._tenants = tenants
        self._leeway_s = leeway_s
        self._may_keep_unknown_tenant = may_keep_unknown_tenant
        self._on_ignored_members = on_ignored_members
        self._unpinned = unpinned

    def admit(self, tenants: Tenants) -> None:
        """From here on these are the tenants."""
        self._tenants = tenants

    async def verify(self, request: SignedRequest) -> Claims:
        """Raises a Refusal, Unusable for an authentic token that belongs in quarantine, or
        Uncheckable for one of our tenants' whose key cannot be had now."""
        token, said, keys = self._opened(request)
        if request.path_of is not None:
            self._check_path(token, said, keys, request.path_of)
        kid = token.header.kid
        key = keys.known(kid) or await self._sought(kid, said, keys)
        return self._judged(token, said, key, by_common_path=request.path_of is None)

    def verify_deferred(self, request: SignedRequest) -> Claims:
        """The same for a token that was Uncheckable once, after its issuer's keys were fetched.

        A key that a set of about the same day lacks there never was. Only a later set says nothing,
        for the key may have left it meanwhile: that is Unusable.
        """
        token, said, keys = self._opened(request)
        key = keys.known(token.header.kid)
        if key is None:
            if keys.fetched_at is None or not keys.answers:
                raise Uncheckable("the key source does not answer")
            if abs(keys.fetched_at - said.received_at) <= _KEYS_STAY_S:
                raise UnknownKey("not in the key set of its day")
            raise Unusable("key_gone")
        return self._judged(token, said, key)

    def verify_again(
        self,
        request: SignedRequest,
        *,
        waived: QuarantineReason,
        tenant: str | None = None,
        key: RSAPublicKey | None = None,
    ) -> Claims:
        """The same for a token out of quarantine, after its issuer's keys were fetched; the reason
        that brought it there is waived, and nothing else.

        `expired` waives the time check, `tenant_unknown` takes `tenant`, and `key_gone` takes `key`
        where the set has none; the other reasons waive nothing.
        """
        token, said, keys = self._opened(request)
        known = keys.known(token.header.kid) or (key if waived == "key_gone" else None)
        if known is None:
            if not keys.answers:
                raise Uncheckable("the key source does not answer")
            raise Unusable("key_gone")
        if not is_signed(token, known):
            raise BadSignature("signature")
        try:
            claims = self._admitted(said)
        except Unusable:
            if waived != "tenant_unknown" or tenant is None:
                raise
            claims = _of(tenant, said)
        try:
            check_time(claims, self._leeway_s)
        except Unusable as flaw:
            if not flaw.reason == waived == "expired":
                raise
        check_form(claims)
        return claims

    def _opened(self, request: SignedRequest) -> tuple[Token, TokenClaims, KeySource]:
        """The token taken apart; nothing of it is trusted yet."""
        token = read_token(request.token)
        try:
            payload, irregular = read_claims(token.payload)
        except UnreadableClaims as error:
            raise self._unreadable(token, request.source) from error
        keys = self._keys_of(payload, request.source)
        is_notice = request.source == "pns"
        said = TokenClaims(
            source=request.source,
            format=format_of(payload, request.source),
            issuer=keys.issuer,
            received_at=request.received_at,
            payload=payload,
            irregular=irregular,
            client_id=client_id_of(payload) if is_notice else None,
            deployment_id=text(payload.get(lti.DEPLOYMENT_ID)) if is_notice else None,
        )
        return token, said, keys

    def _check_path(self, token: Token, said: TokenClaims, keys: KeySource, tenant: str) -> None:
        """Raises TenantNotAllowed for what names another tenant than the path it came by.

        What names none of ours is looked at as far as to say whose it is. What names nobody at all
        may be of the path's tenant, and is judged as such events are.
        """
        try:
            named = self._tenant_of(said)
        except TenantUnknown:
            return
        except TenantNotAllowed:
            key = keys.known(token.header.kid)
            if key is not None and is_signed(token, key):
                self._saw(said, "tenant_not_allowed", self._missing(said))
            raise
        if named != tenant:
            raise TenantNotAllowed("it came by another tenant's path")

    def _judged(
        self, token: Token, said: TokenClaims, key: RSAPublicKey, *, by_common_path: bool = False
    ) -> Claims:
        """All checks from the signature on."""
        if not is_signed(token, key):
            raise BadSignature("signature")
        if token.header.ignored:
            self._on_ignored_members(token.header.ignored)
        claims = self._admitted(said, len(token.signing_input))
        if by_common_path and self._tenants.has_slug(claims.tenant):
            self._saw(said, "tenant_not_allowed", "path")
            raise TenantNotAllowed("its tenant has a path of its own")
        check_time(claims, self._leeway_s)
        check_form(claims)
        return claims

    def _unreadable(self, token: Token, source: Source) -> Malformed | NoKeys | Unusable:
        """Claims that nobody can read name no issuer, but may be genuine all the same."""
        sources = [
            keys
            for issuer, keys in self._keys[source].items()
            if self._tenants.takes_from(source, issuer)
        ]
        for keys in sources:
            key = keys.known(token.header.kid)
            if key is not None and is_signed(token, key):
                return Unusable("unreadable_claims")
        if not all(keys.answers for keys in sources):
            return NoKeys("no keys to judge it by")
        return Malformed("claims are not JSON")

    async def _sought(self, kid: str, said: TokenClaims, keys: KeySource) -> RSAPublicKey:
        """A key that is not at hand. What names no tenant of ours is worth no fetch and no disk.

        Canvas sends an event again, so it waits here for keys that can be had, or is refused; a
        notice comes only once.
        """
        try:
            tenant = self._tenant_of(said)
        except TenantUnknown:
            raise NoKeys("names no tenant, and its key is not at hand") from None
        try:
            return await keys.find(kid)
        except (KeysUnavailable, TooManyWaitForKeys) as error:
            if not keys.failing and said.source == "live-events":
                if isinstance(error, TooManyWaitForKeys):
                    raise
                raise NoKeys(str(error)) from error
            raise Uncheckable(str(error), tenant=tenant, keys_fail=keys.failing) from error

    def _keys_of(self, payload: Mapping[str, Any], source: Source) -> KeySource:
        issuer = payload.get("iss")
        keys = self._keys[source].get(issuer) if isinstance(issuer, str) else None
        if keys is None:
            raise WrongIssuer("not an issuer of this endpoint")
        return keys

    def _admitted(self, said: TokenClaims, size_bytes: int = 0) -> Claims:
        """The claims with the tenant that pins them; their signature is good."""
        try:
            tenant = self._tenant_of(said)
        except TenantUnknown:
            self._saw(said, "tenant_unknown", "subscription")
            subscription_id = subscription_id_of(said.payload)
            if self._may_keep_unknown_tenant(said.received_at, subscription_id):
                raise Unusable("tenant_unknown", said) from None
            raise TenantNotAllowed("no tenant, and the hour's allowance is used up") from None
        except TenantNotAllowed:
            self._saw(said, "tenant_not_allowed", self._missing(said))
            if self._unpinned is not None and self._unpinned.may_be_kept(said, size_bytes):
                raise Unusable("tenant_not_allowed", said) from None
            raise
        if said.source == "pns":
            check_is_notice(said.payload)
        return _of(tenant, said)

    def _saw(self, said: TokenClaims, reason: QuarantineReason, missing: Missing) -> None:
        if self._unpinned is not None:
            self._unpinned.saw(said, reason, missing)

    def _missing(self, said: TokenClaims) -> Missing:
        """What of its ids is the first that no tenant pins."""
        if said.source == "pns":
            known = self._tenants.pins_client(said.issuer, said.client_id or "")
            return "deployment" if known else "client"
        account = root_account_uuid_of(said.payload) or ""
        return "subscription" if self._tenants.pins_account(account) else "root_account"

    def _tenant_of(self, said: TokenClaims) -> str:
        """Raises TenantNotAllowed, or TenantUnknown where nothing names one."""
        if said.source == "pns":
            if said.client_id is None:
                raise TenantNotAllowed("names no single client")
            return self._tenants.of_notice(said.issuer, said.client_id, said.deployment_id)
        return self._tenants.of_live_event(
            root_account_uuid_of(said.payload), subscription_id_of(said.payload)
        )


def _of(tenant: str, said: TokenClaims) -> Claims:
    # written out: this is on the way of every event, and by name alone it takes five times as long
    return Claims(
        source=said.source,
        format=said.format,
        issuer=said.issuer,
        tenant=tenant,
        received_at=said.received_at,
        payload=said.payload,
        irregular=said.irregular,
        client_id=said.client_id,
        deployment_id=said.deployment_id,
    )


def is_signed(token: Token, key: RSAPublicKey) -> bool:
    """Whether the token's RS256 signature was made with the private half of `key`."""
    try:
        key.verify(token.signature, token.signing_input, _PADDING, _HASH)
    except InvalidSignature:
        return False
    return True
