"""Token to Claims: the order of checks, and what becomes of a token that fails one."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec.structs import replace

from ingest.contract.envelope import Source
from ingest.errors import (
    AlgorithmNotAllowed,
    BadSignature,
    Malformed,
    NoKeys,
    Refusal,
    TenantNotAllowed,
    TooManyWaitForKeys,
    Uncheckable,
    UnknownKey,
    Unsigned,
    Unusable,
    WrongIssuer,
)
from ingest.observing.tenants_seen import TenantsSeen
from ingest.values import Claims, TokenClaims
from ingest.verifying.jwks import KeySource, KeysUnavailable
from ingest.verifying.tenants import LiveEventsPin, NoticesPin, Tenant, Tenants
from ingest.verifying.unpinned import Keeping, Unpinned
from ingest.verifying.verifier import Verifier
from tests.support.builders import (
    CLIENT,
    DEPLOYMENT,
    LIVE_EVENTS_ISSUER,
    NOTICE_CLAIM,
    NOW_S,
    PLATFORM,
    SUBSCRIPTION,
    TENANT,
    FixedKeys,
    KeyName,
    caliper_claims,
    caliper_event,
    live_event_claims,
    live_event_metadata,
    notice_claims,
    request,
    signing_key,
    tenants,
    token,
    without,
)
from tests.support.keys import SigningKey, base64url

_LEEWAY_S = 300
_PAST = int(NOW_S) - 4_000
_ENDPOINTS = (LIVE_EVENTS_ISSUER, PLATFORM)
OTHER_PLATFORM = "https://canvas.beta.example.edu"
"""One that the receiver knows and no tenant pins."""


class _Bench:
    """A verifier with one key, and what it told others."""

    def __init__(
        self,
        directory: Tenants | None = None,
        *,
        allow: bool = True,
        keys: Callable[[str], KeySource] | None = None,
        keep_unpinned: bool = False,
    ) -> None:
        self.seen = TenantsSeen()
        self.ignored: list[int] = []
        self.asked: list[tuple[float, str | None]] = []
        self.keys = {issuer: (keys or _fetched)(issuer) for issuer in (*_ENDPOINTS, OTHER_PLATFORM)}
        self._allow = allow
        self.verifier = Verifier(
            keys={
                "live-events": {LIVE_EVENTS_ISSUER: self.keys[LIVE_EVENTS_ISSUER]},
                "pns": {PLATFORM: self.keys[PLATFORM], OTHER_PLATFORM: self.keys[OTHER_PLATFORM]},
            },
            tenants=directory or tenants(),
            leeway_s=_LEEWAY_S,
            may_keep_unknown_tenant=self._may_keep,
            on_ignored_members=self.ignored.append,
            unpinned=Unpinned(
                self.seen,
                Keeping(bytes_per_hour=1 << 30, leeway_s=_LEEWAY_S) if keep_unpinned else None,
            ),
        )

    def _may_keep(self, at_s: float, subscription_id: str | None) -> bool:
        self.asked.append((at_s, subscription_id))
        return self._allow

    @property
    def sought(self) -> list[str]:
        """Key ids for which a fetch would have been made."""
        return [kid for keys in self.keys.values() for kid in getattr(keys, "sought", ())]

    @property
    def missing(self) -> dict[str, int]:
        """What no tenant pinned of authentic events, and how often."""
        return {sender.missing: sighting.count for sender, sighting in self.seen.seen().items()}

    async def judge(
        self, text: bytes, source: Source = "live-events", *, path_of: str | None = None
    ) -> Claims:
        came = replace(request(text, source=source), path_of=path_of)
        return await self.verifier.verify(came)


class _Keys(FixedKeys):
    """A key source that has been asked with the outcome that a test wants."""

    def __init__(
        self, issuer: str, *keys: SigningKey, failing: bool, refusal: Exception | None = None
    ) -> None:
        super().__init__(issuer, *keys)
        self.failing = failing
        self.answers = bool(keys) and not failing
        self.fetched_at = NOW_S if keys else None
        self.sought: list[str] = []
        self._refusal = refusal

    async def find(self, kid: str) -> RSAPublicKey:
        self.sought.append(kid)
        if self._refusal is not None:
            raise self._refusal
        return await super().find(kid)


def _fetched(issuer: str) -> KeySource:
    return _Keys(issuer, signing_key(), failing=False)


def _unavailable(issuer: str) -> KeySource:
    return _Keys(issuer, failing=True, refusal=KeysUnavailable("status 500"))


def _stale(issuer: str) -> KeySource:
    return _Keys(issuer, signing_key(), failing=True, refusal=KeysUnavailable("status 500"))


def _besieged(issuer: str) -> KeySource:
    refusal = TooManyWaitForKeys("too many")
    return _Keys(issuer, signing_key("stranger"), failing=False, refusal=refusal)


def _slow(issuer: str) -> KeySource:
    return _Keys(issuer, signing_key("stranger"), failing=False, refusal=KeysUnavailable("slow"))


def _unpinned_unavailable(issuer: str) -> KeySource:
    return _unavailable(issuer) if issuer == OTHER_PLATFORM else _fetched(issuer)


async def test_live_event_passes_with_its_tenant() -> None:
    claims = await _Bench().judge(token(live_event_claims()))
    assert claims == Claims(
        source="live-events",
        format="canvas",
        issuer=LIVE_EVENTS_ISSUER,
        tenant=TENANT,
        received_at=NOW_S,
        payload=live_event_claims(),
    )


async def test_notice_passes_with_client_and_deployment() -> None:
    claims = await _Bench().judge(token(notice_claims()), "pns")
    assert (claims.tenant, claims.client_id, claims.deployment_id) == (TENANT, CLIENT, DEPLOYMENT)
    assert claims.format == "pns"


async def test_token_in_quotes_passes() -> None:
    assert await _Bench().judge(b' "' + token(live_event_claims()) + b'"\n')


async def test_unknown_event_type_and_unknown_fields_pass() -> None:
    metadata = live_event_metadata(event_name="course_evaporated", heat=7)
    payload = live_event_claims(metadata=metadata, body={"new": [1]}, extra={"x": 1})
    assert (await _Bench().judge(token(payload))).payload == payload


async def test_future_iat_is_no_ground_for_refusal() -> None:
    assert await _Bench().judge(token(live_event_claims(iat=int(NOW_S) + 86_400)))


async def test_unknown_header_members_are_counted_for_authentic_tokens_only() -> None:
    bench = _Bench()
    await bench.judge(token(live_event_claims(), cty="x", zip="y"))
    await bench.judge(token(live_event_claims()))
    with pytest.raises(BadSignature):
        await bench.judge(_forged(token(live_event_claims(), cty="x")))
    assert bench.ignored == [2]


def _forged(text: bytes) -> bytes:
    head, payload, signature = text.split(b".")
    return b".".join([head, payload, signature[:10] + b"AAAA" + signature[14:]])


def _unreadable(payload: bytes) -> bytes:
    header = b'{"alg":"RS256","kid":"%s"}' % signing_key().kid.encode()
    return signing_key().sign_text(header, payload).encode()


_OURS = live_event_claims()
_OF_ANOTHER_CLIENT = notice_claims(aud="other", azp="other")
_OF_NO_CLIENT = without(notice_claims(), "aud", "azp")
_STRANGE = live_event_claims(metadata=live_event_metadata(root_account_uuid="not-ours"))

_REFUSED: list[tuple[str, Source, bytes, type[Refusal]]] = [
    # form before everything
    ("unsigned JSON", "live-events", b'{"metadata":{}}', Unsigned),
    ("form, then algorithm", "live-events", b"!" + token({}, alg="HS256"), Malformed),
    ("refused member, then key", "live-events", token({}, kid="gone", jku="x"), Malformed),
    # algorithm before issuer
    (
        "algorithm, then issuer",
        "live-events",
        token({"iss": "x"}, alg="HS256"),
        AlgorithmNotAllowed,
    ),
    ("no algorithm", "live-events", token(live_event_claims(), alg="none"), AlgorithmNotAllowed),
    # issuer before key and signature
    ("issuer, then key", "live-events", token({"iss": "x"}, kid="gone"), WrongIssuer),
    ("issuer, then signature", "live-events", _forged(token({"iss": "x"})), WrongIssuer),
    ("no issuer", "live-events", token(without(live_event_claims(), "iss")), WrongIssuer),
    (
        "issuer of a wrong type",
        "live-events",
        token(live_event_claims(iss=[PLATFORM])),
        WrongIssuer,
    ),
    ("issuer of the other endpoint", "live-events", token(notice_claims()), WrongIssuer),
    ("issuer of the other endpoint", "pns", token(live_event_claims()), WrongIssuer),
    # key before signature, and where it must be fetched the tenant before both
    ("key, then signature", "live-events", _forged(token(_OURS, kid="gone")), UnknownKey),
    ("key, then time", "live-events", token({**_OURS, "exp": _PAST}, kid="gone"), UnknownKey),
    ("tenant, then fetch", "live-events", token(_STRANGE, kid="gone"), TenantNotAllowed),
    ("client, then fetch", "pns", token(_OF_ANOTHER_CLIENT, kid="gone"), TenantNotAllowed),
    ("no client, then fetch", "pns", token(_OF_NO_CLIENT, kid="gone"), TenantNotAllowed),
    (
        "platform that nobody pins",
        "pns",
        token(notice_claims(iss=OTHER_PLATFORM), kid="gone"),
        TenantNotAllowed,
    ),
    # signature before tenant, time and claims
    ("signature, then tenant", "live-events", _forged(token(_STRANGE)), BadSignature),
    ("signature, then time", "live-events", _forged(token(live_event_claims(exp=1))), BadSignature),
    (
        "another's signature",
        "live-events",
        token(live_event_claims(), key="stranger", kid=signing_key().kid),
        BadSignature,
    ),
    (
        "no signature",
        "live-events",
        token(live_event_claims()).rpartition(b".")[0] + b".",
        BadSignature,
    ),
    # tenant before time and claims
    ("tenant, then time", "live-events", token({**_STRANGE, "exp": _PAST}), TenantNotAllowed),
    ("tenant, then claims", "live-events", token({**_STRANGE, "body": 0}), TenantNotAllowed),
    ("client", "pns", token(notice_claims(aud="other", azp="other")), TenantNotAllowed),
    ("client, then time", "pns", token(notice_claims(aud="other", exp=1)), TenantNotAllowed),
    ("no client", "pns", token(without(notice_claims(), "aud", "azp")), TenantNotAllowed),
    ("launch", "pns", token(without(notice_claims(), NOTICE_CLAIM)), Malformed),
    ("expired launch", "pns", token(without(notice_claims(exp=1), NOTICE_CLAIM)), Malformed),
    ("notice that is none", "pns", token(notice_claims(**{NOTICE_CLAIM: "x"})), Malformed),
    # claims that nobody can read, and nobody of ours signed
    ("unreadable and forged", "live-events", _forged(_unreadable(b"{broken")), Malformed),
    (
        "unreadable, unknown key",
        "live-events",
        _unreadable(b"{").replace(base64url(b"{").encode(), base64url(b"[").encode()),
        Malformed,
    ),
]


@pytest.mark.parametrize(
    ("source", "text", "first"),
    [case[1:] for case in _REFUSED],
    ids=[f"{case[0]} ({case[1]})" for case in _REFUSED],
)
async def test_first_check_that_fails_names_the_reason(
    source: Source, text: bytes, first: type[Refusal]
) -> None:
    with pytest.raises(Refusal) as caught:
        await _Bench().judge(text, source)
    assert type(caught.value) is first


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        (live_event_claims(exp=_PAST), "expired"),
        (live_event_claims(nbf=int(NOW_S) + 1_000), "expired"),
        (live_event_claims(exp=_PAST, body=0), "expired"),
        (without(live_event_claims(), "exp"), "unreadable_claims"),
        (live_event_claims(exp="soon"), "unreadable_claims"),
        (live_event_claims(sub=5), "unreadable_claims"),
        (without(live_event_claims(), "body"), "unsupported_format"),
        (caliper_claims(data=[caliper_event(id=None)]), "unsupported_format"),
    ],
)
async def test_authentic_but_unusable_token_is_for_quarantine(
    claims: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unusable) as caught:
        await _Bench().judge(token(claims))
    assert caught.value.reason == reason
    assert isinstance(caught.value.claims, Claims)
    assert caught.value.claims.tenant == TENANT


async def test_caliper_event_belongs_to_the_account_that_its_actor_names() -> None:
    claims = await _Bench().judge(token(caliper_claims()))
    assert (claims.format, claims.tenant) == ("caliper", TENANT)


async def test_expired_notice_is_for_quarantine_not_refused() -> None:
    with pytest.raises(Unusable) as caught:
        await _Bench().judge(token(notice_claims(exp=_PAST)), "pns")
    assert caught.value.reason == "expired"


async def test_time_is_judged_by_when_the_token_came() -> None:
    text = token(live_event_claims(exp=1_000))
    claims = await _Bench().verifier.verify(request(text, at=1_100.0))
    assert claims.received_at == 1_100.0


@pytest.mark.parametrize(
    "payload",
    [b"{broken", b"[]", b"", b'{"a":"\xff"}', b'{"a":' * 300 + b"0" + b"}" * 300],
    ids=repr,
)
@pytest.mark.parametrize("source", ["live-events", "pns"])
async def test_unreadable_claims_with_a_genuine_signature_are_kept(
    payload: bytes, source: Source
) -> None:
    with pytest.raises(Unusable) as caught:
        await _Bench().judge(_unreadable(payload), source)
    assert (caught.value.reason, caught.value.claims) == ("unreadable_claims", None)


_NO_ACCOUNT = live_event_claims(metadata={"event_name": "user_created"})


async def test_event_without_an_account_belongs_to_the_pinned_subscription() -> None:
    pin = LiveEventsPin(root_account_uuid="r", subscription_ids=frozenset({SUBSCRIPTION}))
    bench = _Bench(Tenants([Tenant(name="by-subscription", live_events=(pin,))]))
    assert (await bench.judge(token(_NO_ACCOUNT))).tenant == "by-subscription"
    assert bench.asked == []


async def test_event_without_a_tenant_is_kept_while_the_allowance_lasts() -> None:
    bench = _Bench()
    with pytest.raises(Unusable) as caught:
        await bench.judge(token(_NO_ACCOUNT))
    assert caught.value.reason == "tenant_unknown"
    assert isinstance(caught.value.claims, TokenClaims)
    assert not isinstance(caught.value.claims, Claims)  # a tenant nobody named is not made up
    assert bench.asked == [(NOW_S, SUBSCRIPTION)]


async def test_event_without_a_tenant_is_refused_beyond_the_allowance() -> None:
    with pytest.raises(TenantNotAllowed):
        await _Bench(allow=False).judge(token(_NO_ACCOUNT))


@pytest.mark.parametrize(
    "spoil",
    [_forged, lambda text: text.replace(b".", b".A", 1)],
)
async def test_forged_event_without_a_tenant_uses_up_no_allowance(
    spoil: Callable[[bytes], bytes],
) -> None:
    bench = _Bench()
    with pytest.raises(Refusal):
        await bench.judge(spoil(token(_NO_ACCOUNT)))
    assert bench.asked == []


async def test_irregular_claims_are_flagged() -> None:
    text = signing_key().sign_text(
        b'{"alg":"RS256","kid":"%s"}' % signing_key().kid.encode(),
        b'{"iss":"%s","exp":%d,"metadata":{"event_name":"x","root_account_uuid":"%s","n":NaN},'
        b'"body":{}}'
        % (
            LIVE_EVENTS_ISSUER.encode(),
            int(NOW_S) + 60,
            live_event_metadata()["root_account_uuid"].encode(),
        ),
    )
    assert (await _Bench().judge(text.encode())).irregular


@pytest.mark.parametrize(
    ("claims", "source"),
    [(live_event_claims(), "live-events"), (notice_claims(), "pns")],
)
async def test_token_of_ours_whose_key_cannot_be_had_is_uncheckable(
    claims: dict[str, Any], source: Source
) -> None:
    with pytest.raises(Uncheckable) as caught:
        await _Bench(keys=_unavailable).judge(token(claims), source)
    assert (caught.value.tenant, caught.value.keys_fail) == (TENANT, True)


_OF_OTHERS: list[tuple[dict[str, Any], Source, type[Refusal]]] = [
    (_STRANGE, "live-events", TenantNotAllowed),
    (_NO_ACCOUNT, "live-events", NoKeys),  # it may be ours, and Canvas sends it again
    (_OF_ANOTHER_CLIENT, "pns", TenantNotAllowed),
    (_OF_NO_CLIENT, "pns", TenantNotAllowed),
]


@pytest.mark.parametrize("keys", [_fetched, _unavailable, _stale, _besieged, _slow])
async def test_token_that_names_no_tenant_of_ours_is_neither_kept_nor_worth_a_fetch(
    keys: Callable[[str], KeySource],
) -> None:
    for claims, source, refusal in _OF_OTHERS:
        bench = _Bench(keys=keys)
        with pytest.raises(Refusal) as caught:
            await bench.judge(token(claims, kid="made-up"), source)
        assert type(caught.value) is refusal
        assert (bench.sought, bench.asked) == ([], [])


async def test_event_of_nobodys_account_is_judged_by_the_keys_at_hand() -> None:
    bench = _Bench(keys=_stale)
    with pytest.raises(TenantNotAllowed):
        await bench.judge(token(_STRANGE))
    with pytest.raises(BadSignature):
        await bench.judge(_forged(token(_STRANGE)))
    assert bench.sought == []


async def test_known_keys_serve_while_the_source_fails() -> None:
    bench = _Bench(keys=_stale)
    assert (await bench.judge(token(live_event_claims()))).tenant == TENANT
    with pytest.raises(BadSignature):
        await bench.judge(_forged(token(live_event_claims())))
    with pytest.raises(Uncheckable):
        await bench.judge(token(live_event_claims(), kid="rotated"))


async def test_notice_that_finds_too_many_waiting_is_uncheckable_and_an_event_is_not() -> None:
    bench = _Bench(keys=_besieged)
    with pytest.raises(Uncheckable) as caught:
        await bench.judge(token(notice_claims()), "pns")
    assert not caught.value.keys_fail
    with pytest.raises(TooManyWaitForKeys):
        await bench.judge(token(live_event_claims()))


async def test_notice_that_waits_too_long_is_uncheckable_and_an_event_is_not() -> None:
    bench = _Bench(keys=_slow)
    with pytest.raises(Uncheckable) as caught:
        await bench.judge(token(notice_claims()), "pns")
    assert not caught.value.keys_fail
    with pytest.raises(NoKeys):
        await bench.judge(token(live_event_claims()))


@pytest.mark.parametrize("keys", [_unavailable, _stale])
async def test_unreadable_claims_are_not_refused_while_keys_are_missing(
    keys: Callable[[str], KeySource],
) -> None:
    with pytest.raises(NoKeys):
        await _Bench(keys=keys).judge(_unreadable(b"{broken").replace(b".", b".A", 1))


async def test_keys_of_platforms_that_nobody_pins_are_not_waited_for() -> None:
    text = _forged(_unreadable(b"{broken"))
    with pytest.raises(Malformed):
        await _Bench(keys=_unpinned_unavailable).judge(text, "pns")


async def test_live_events_keys_are_not_waited_for_where_nobody_takes_live_events() -> None:
    notices = NoticesPin(issuer=PLATFORM, client_id=CLIENT)
    bench = _Bench(Tenants([Tenant(name="notices-only", pns=(notices,))]), keys=_unavailable)
    with pytest.raises(Malformed):
        await bench.judge(_forged(_unreadable(b"{broken")))


async def test_claims_that_nobody_can_read_are_not_kept_for_a_platform_that_nobody_pins() -> None:
    def keys(issuer: str) -> KeySource:
        name: KeyName = "current" if issuer == OTHER_PLATFORM else "stranger"
        return _Keys(issuer, signing_key(name), failing=False)

    with pytest.raises(Malformed):
        await _Bench(keys=keys).judge(_unreadable(b"{broken"), "pns")


def _judge_deferred(keys: Callable[[str], KeySource], text: bytes, at: float = NOW_S) -> Claims:
    return _Bench(keys=keys).verifier.verify_deferred(request(text, at=at))


def test_deferred_token_is_judged_by_the_time_at_which_it_came() -> None:
    text = token(live_event_claims(exp=1_000))
    assert _judge_deferred(_fetched, text, at=999 + _LEEWAY_S).received_at == 999 + _LEEWAY_S
    with pytest.raises(Unusable, match="expired"):
        _judge_deferred(_fetched, text, at=1_000 + _LEEWAY_S)


def test_deferred_token_waits_on_while_the_source_fails() -> None:
    with pytest.raises(Uncheckable):
        _judge_deferred(_unavailable, token(live_event_claims()))


_DAY_S = 24 * 3600.0


def test_deferred_token_whose_key_may_have_left_meanwhile_is_for_quarantine() -> None:
    with pytest.raises(Unusable, match="key_gone"):
        _judge_deferred(_fetched, token(live_event_claims(), kid="left"), at=NOW_S - _DAY_S - 1)


@pytest.mark.parametrize("age_s", [-_DAY_S, 0, _DAY_S])
def test_deferred_token_whose_key_a_set_of_that_day_lacks_is_refused(age_s: float) -> None:
    with pytest.raises(UnknownKey):
        _judge_deferred(_fetched, token(live_event_claims(), kid="never"), at=NOW_S - age_s)


def test_deferred_token_is_not_judged_by_keys_of_an_earlier_process() -> None:
    def kept(issuer: str) -> KeySource:
        keys = _Keys(issuer, signing_key(), failing=False)
        keys.answers = False
        return keys

    with pytest.raises(Uncheckable):
        _judge_deferred(kept, token(live_event_claims(), kid="new"))


def test_deferred_token_that_is_forged_is_refused() -> None:
    with pytest.raises(BadSignature):
        _judge_deferred(_stale, _forged(token(live_event_claims())))


_SLUG = "a-slug-that-nobody-guesses"
_ELSEWHERE = {**_STRANGE, "metadata": live_event_metadata(root_account_uuid="of-south")}


def _two_schools(*, with_slug: bool = True) -> Tenants:
    slug = _SLUG if with_slug else None
    north = (LiveEventsPin(root_account_uuid=live_event_metadata()["root_account_uuid"]),)
    client = (NoticesPin(issuer=PLATFORM, client_id=CLIENT),)
    south = (LiveEventsPin(root_account_uuid="of-south"),)
    return Tenants(
        [
            Tenant(name=TENANT, live_events=north, pns=client, slug=slug),
            Tenant(name="south", live_events=south),
        ]
    )


@pytest.mark.parametrize(
    ("claims", "source", "missing"),
    [
        (_STRANGE, "live-events", "root_account"),
        (_OF_ANOTHER_CLIENT, "pns", "client"),
        (_OF_NO_CLIENT, "pns", "client"),
    ],
)
async def test_only_what_is_authentic_is_remembered(
    claims: dict[str, Any], source: Source, missing: str
) -> None:
    bench = _Bench()
    for text in (_forged(token(claims)), token(claims, kid="gone"), token(claims, key="stranger")):
        with pytest.raises(Refusal):
            await bench.judge(text, source)
    assert bench.missing == {}
    with pytest.raises(TenantNotAllowed):
        await bench.judge(token(claims), source)
    assert bench.missing == {missing: 1}


async def test_what_narrows_a_pin_is_named() -> None:
    pins = Tenant(
        name=TENANT,
        live_events=(
            LiveEventsPin(
                root_account_uuid=live_event_metadata()["root_account_uuid"],
                subscription_ids=frozenset({"another"}),
            ),
        ),
        pns=(NoticesPin(issuer=PLATFORM, client_id=CLIENT, deployment_ids=frozenset({"d"})),),
    )
    bench = _Bench(Tenants([pins]))
    for claims, source in ((live_event_claims(), "live-events"), (notice_claims(), "pns")):
        with pytest.raises(TenantNotAllowed):
            await bench.judge(token(claims), "pns" if source == "pns" else "live-events")
    assert bench.missing == {"subscription": 1, "deployment": 1}


async def test_event_of_nobody_is_remembered_whether_it_is_kept_or_not() -> None:
    for allow, outcome in ((True, Unusable), (False, TenantNotAllowed)):
        bench = _Bench(allow=allow)
        with pytest.raises(outcome):
            await bench.judge(token(_NO_ACCOUNT))
        ((sender, _),) = bench.seen.seen().items()
        assert (sender.reason, sender.subscription_id) == ("tenant_unknown", SUBSCRIPTION)


async def test_unpinned_event_is_kept_only_where_that_is_wanted_and_it_is_authentic() -> None:
    bench = _Bench(keep_unpinned=True)
    with pytest.raises(Unusable) as caught:
        await bench.judge(token(_STRANGE))
    assert caught.value.reason == "tenant_not_allowed"
    assert caught.value.claims is not None
    for text in (_forged(token(_STRANGE)), token({**_STRANGE, "exp": _PAST})):
        with pytest.raises(Refusal):
            await bench.judge(text)


async def test_keeping_the_unpinned_changes_nothing_for_events_of_nobody() -> None:
    for allow in (True, False):
        bench = _Bench(allow=allow, keep_unpinned=True)
        with pytest.raises((Unusable, TenantNotAllowed)) as caught:
            await bench.judge(token(_NO_ACCOUNT))
        assert isinstance(caught.value, Unusable) == allow
        if isinstance(caught.value, Unusable):
            assert caught.value.reason == "tenant_unknown"
        assert len(bench.asked) == 1


async def test_other_tenants_are_judged_from_the_next_token_on() -> None:
    bench = _Bench()
    assert (await bench.judge(token(live_event_claims()))).tenant == TENANT
    bench.verifier.admit(Tenants([]))
    with pytest.raises(TenantNotAllowed):
        await bench.judge(token(live_event_claims()))
    with pytest.raises(TenantNotAllowed):
        bench.verifier.verify_deferred(request(token(live_event_claims())))
    with pytest.raises(TenantNotAllowed):
        await bench.judge(token(notice_claims()), "pns")
    bench.verifier.admit(tenants())
    assert (await bench.judge(token(live_event_claims()))).tenant == TENANT


async def test_tenant_with_a_slug_is_taken_at_its_own_path_alone() -> None:
    bench = _Bench(_two_schools())
    for claims, source in ((live_event_claims(), "live-events"), (notice_claims(), "pns")):
        of: Source = "pns" if source == "pns" else "live-events"
        assert (await bench.judge(token(claims), of, path_of=TENANT)).tenant == TENANT
        with pytest.raises(TenantNotAllowed):
            await bench.judge(token(claims), of)
    assert bench.missing == {"path": 1}  # per sender, of which there are two


async def test_late_event_by_the_wrong_path_is_refused_and_not_kept() -> None:
    with pytest.raises(TenantNotAllowed):
        await _Bench(_two_schools(), keep_unpinned=True).judge(token(live_event_claims(exp=_PAST)))


@pytest.mark.parametrize("keys", [_fetched, _unavailable, _slow])
async def test_token_by_another_tenants_path_is_refused_before_it_is_judged(
    keys: Callable[[str], KeySource],
) -> None:
    bench = _Bench(_two_schools(), keys=keys, keep_unpinned=True)
    for text in (token(_ELSEWHERE), _forged(token(_ELSEWHERE)), token(_ELSEWHERE, kid="gone")):
        with pytest.raises(TenantNotAllowed):
            await bench.judge(text, path_of=TENANT)
    assert (bench.sought, bench.missing) == ([], {})


async def test_token_of_nobody_of_ours_by_a_tenants_path_is_named_and_not_kept() -> None:
    bench = _Bench(_two_schools(), keep_unpinned=True)
    for text in (token(_STRANGE), _forged(token(_STRANGE)), token(_STRANGE, kid="gone")):
        with pytest.raises(TenantNotAllowed):
            await bench.judge(text, path_of=TENANT)
    assert (bench.sought, bench.missing) == ([], {"root_account": 1})


async def test_path_says_nothing_of_a_token_whose_signature_is_bad() -> None:
    with pytest.raises(BadSignature):
        await _Bench(_two_schools()).judge(_forged(token(live_event_claims())), path_of=TENANT)


async def test_deferred_token_is_judged_wherever_it_came_by() -> None:
    verifier = _Bench(_two_schools()).verifier
    assert verifier.verify_deferred(request(token(live_event_claims()))).tenant == TENANT
