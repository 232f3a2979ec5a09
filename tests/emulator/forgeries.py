"""Bad requests, each with the answer that a correct receiver gives to it.

Each forgery is right in everything but the one thing its name says, so that its refusal shows that
this thing is checked. `live_events` and `notices` list them by endpoint.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests.emulator.deliveries import Lane, Verdict
from tests.emulator.school import LiveEvent, Notice, School, timed
from tests.emulator.templates import DEPLOYMENT_CLAIM, NOTICE_CLAIM
from tests.support.keys import SigningKey, base64url

LONG_AGO_S: Final = 7200
"""How long ago an expired token was signed; it ran out an hour ago, beyond any sane leeway."""

MALFORMED = Verdict(status=400, says="malformed")
UNSIGNED = Verdict(status=401, says="unsigned")
BAD_SIGNATURE = Verdict(status=401, says="bad_signature")
UNKNOWN_KEY = Verdict(status=401, says="unknown_key")
WRONG_ISSUER = Verdict(status=401, says="wrong_issuer")
WRONG_ALGORITHM = Verdict(status=401, says="algorithm_not_allowed")
FOREIGN = Verdict(status=403, says="tenant_not_allowed")
QUARANTINED = Verdict(status=202, says="quarantined")
# a receiver may look for a key once in a while only, and must not refuse what it did not look up
DEFERRED = Verdict(status=202, says="deferred")
OVERLOADED = Verdict(status=503, says="overloaded")
NOT_DURABLE = Verdict(status=503, says="not_durable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forger:
    """What a forger works with: true keys, and a key and a school that the receiver does not know.

    `key` signs the lane that the forgery is for, `key_elsewhere` the other one. `stranger` is
    another school on the same Canvas, whose events are genuine but not meant for us.
    """

    key: SigningKey
    key_elsewhere: SigningKey
    other_key: SigningKey
    school: School
    stranger: School
    now_s: int

    def event(self, number: int) -> LiveEvent:
        """A true event that no genuine traffic holds."""
        return self.school.live_event(number, stream="forged")

    def notice(self, number: int) -> Notice:
        """A true notice that no genuine traffic holds."""
        return self.school.notice(number, "LtiContextCopyNotice", stream="forged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forged:
    """A forged token (or what stands in its place), and what it claims to be, if anything."""

    token: bytes
    message: LiveEvent | Notice | None = None


Make = Callable[[Forger, int], Forged]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """One way to forge. `make` takes a forger and the number of the event to start from.

    `expected` starts with the right answer; others are excusable. With `whole_body` the token is
    the body of the request, even on the endpoint for notices.
    """

    name: str
    lane: Lane
    make: Make
    expected: tuple[Verdict, ...]
    whole_body: bool = False

    def body(self, forged: Forged) -> bytes:
        """The request body that carries what `make` made."""
        if self.lane == "live-events" or self.whole_body:
            return forged.token
        return orjson.dumps({"notices": [{"jwt": forged.token.decode()}]})


def _raw(text: bytes) -> Make:
    return lambda forger, number: Forged(token=text)


def _signed(
    lane: Lane,
    *,
    headers: Callable[[Forger], Mapping[str, Any]] = lambda forger: {},
    key: Callable[[Forger], SigningKey] = lambda forger: forger.key,
    change: Callable[[Forger, dict[str, Any]], Mapping[str, Any]] = lambda forger, claims: claims,
    age_s: int = 0,
) -> Make:
    """Sign a true event of `lane`, with one thing changed on the way."""

    def make(forger: Forger, number: int) -> Forged:
        message = _true(forger, lane, number)
        changed = type(message)(name=message.name, claims=change(forger, dict(message.claims)))
        claims = timed(changed.claims, forger.now_s - age_s)
        token = key(forger).sign(claims, headers=headers(forger))
        return Forged(token=token.encode(), message=changed)

    return make


def _rewritten(lane: Lane, rewrite: Callable[[Forger, list[str]], str]) -> Make:
    """Sign a true event of `lane`, then rewrite the token's three segments."""

    def make(forger: Forger, number: int) -> Forged:
        message = _true(forger, lane, number)
        token = message.token(forger.key, forger.now_s)
        return Forged(token=rewrite(forger, token.split(".")).encode(), message=message)

    return make


def _true(forger: Forger, lane: Lane, number: int) -> LiveEvent | Notice:
    return forger.event(number) if lane == "live-events" else forger.notice(number)


def _header(forger: Forger, **members: str) -> str:
    return base64url(orjson.dumps({"alg": "RS256", "typ": "JWT", "kid": forger.key.kid, **members}))


def _without_algorithm(forger: Forger, parts: list[str]) -> str:
    return f"{_header(forger, alg='none')}.{parts[1]}."


def _hmac_with_public_key(forger: Forger, parts: list[str]) -> str:
    # the classic confusion: a public key taken for a shared secret
    signing_input = f"{_header(forger, alg='HS256')}.{parts[1]}"
    mac = hmac.new(forger.key.public_pem().encode(), signing_input.encode(), hashlib.sha256)
    return f"{signing_input}.{base64url(mac.digest())}"


def _ps256(forger: Forger, parts: list[str]) -> str:
    signing_input = f"{_header(forger, alg='PS256')}.{parts[1]}"
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)
    signature = forger.key.private_key.sign(signing_input.encode(), pss, hashes.SHA256())
    return f"{signing_input}.{base64url(signature)}"


def _flipped_payload(forger: Forger, parts: list[str]) -> str:
    payload = orjson.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    payload["exp"] += 1
    return f"{parts[0]}.{base64url(orjson.dumps(payload))}.{parts[2]}"


def _flipped_signature(forger: Forger, parts: list[str]) -> str:
    other = "B" if parts[2][0] == "A" else "A"
    return f"{parts[0]}.{parts[1]}.{other}{parts[2][1:]}"


def _duplicate_header_names(forger: Forger, parts: list[str]) -> str:
    kid = orjson.dumps(forger.key.kid).decode()
    header = f'{{"alg":"none","typ":"JWT","kid":{kid},"alg":"RS256"}}'
    payload = urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    return forger.key.sign_text(header.encode(), payload)


def _loose_last_character(forger: Forger, parts: list[str]) -> str:
    # 256 bytes leave four bits of the last character unused; a lax decoder ignores what they hold
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(parts[2][-1]) + 1]
    return f"{parts[0]}.{parts[1]}.{parts[2][:-1]}{last}"


def _of_the_other_lane(lane: Lane) -> Make:
    """A true token that belongs to the other endpoint."""

    def make(forger: Forger, number: int) -> Forged:
        message = _true(forger, "pns" if lane == "live-events" else "live-events", number)
        token = message.token(forger.key_elsewhere, forger.now_s)
        return Forged(token=token.encode(), message=message)

    return make


def _unsigned_event(forger: Forger, number: int) -> Forged:
    event = forger.event(number)
    text = orjson.dumps({name: event.claims[name] for name in ("metadata", "body")})
    return Forged(token=text, message=event)


def _foreign_account(
    forger: Forger, claims: dict[str, Any], *, own_subscription: bool
) -> Mapping[str, Any]:
    there = forger.stranger
    metadata = {
        **claims["metadata"],
        "root_account_id": there.root_account_id,
        "root_account_uuid": there.root_account_uuid,
        "root_account_lti_guid": there.root_account_lti_guid,
    }
    subscription = {"id": there.subscription_id, "owner_id": there.subscription_owner_id}
    kept = claims["subscription"] if own_subscription else subscription
    return {**claims, "metadata": metadata, "subscription": kept}


def _nobodys(forger: Forger, claims: dict[str, Any]) -> Mapping[str, Any]:
    metadata = {n: v for n, v in claims["metadata"].items() if not n.startswith("root_account_")}
    subscription = {"id": forger.stranger.subscription_id}
    return {**claims, "metadata": metadata, "subscription": subscription}


def _launch(forger: Forger, number: int) -> Forged:
    # a platform signs launches with the same keys; only the notice claim tells them apart
    claims = {n: v for n, v in forger.notice(number).claims.items() if n != NOTICE_CLAIM}
    message_type = "https://purl.imsglobal.org/spec/lti/claim/message_type"
    claims = {**claims, message_type: "LtiResourceLinkRequest"}
    return Forged(token=forger.key.sign(timed(claims, forger.now_s)).encode())


def _common(lane: Lane) -> list[Forgery]:
    """What can be done to any token, whichever endpoint it is for."""
    table = [
        *_misshapen(lane),
        *_untrue(lane),
        ("expired", _signed(lane, age_s=LONG_AGO_S), QUARANTINED),
    ]
    unknown_kid = Forgery(
        name="unknown_kid",
        lane=lane,
        make=_signed(lane, key=lambda f: _renamed(f.other_key, "1999-12-31T23:59:59Z")),
        expected=(UNKNOWN_KEY, DEFERRED, OVERLOADED, NOT_DURABLE),
    )
    return [
        *(
            Forgery(name=name, lane=lane, make=make, expected=(right,))
            for name, make, right in table
        ),
        unknown_kid,
    ]


def _misshapen(lane: Lane) -> Iterator[tuple[str, Make, Verdict]]:
    """Tokens with a true signature, if any, but not of the shape that is allowed."""
    elsewhere = "https://keys.example.net/jwks"
    header_members = {
        "crit": ["exp"],
        "b64": False,
        "jku": elsewhere,
        "x5u": elsewhere,
        "x5c": ["TUlJQg=="],
    }
    for name, value in header_members.items():
        yield f"header_{name}", _signed(lane, headers=_constant({name: value})), MALFORMED
    yield (
        "header_jwk",
        _signed(lane, headers=lambda f: {"jwk": f.other_key.jwk()}, key=lambda f: f.other_key),
        MALFORMED,
    )
    yield "not_a_token", _raw(b"this is not a token"), MALFORMED
    yield "two_segments", _rewritten(lane, lambda f, p: f"{p[0]}.{p[1]}"), MALFORMED
    yield "duplicate_header_names", _rewritten(lane, _duplicate_header_names), MALFORMED
    yield "padded", _rewritten(lane, lambda f, p: ".".join(p) + "=="), MALFORMED
    yield "loose_last_character", _rewritten(lane, _loose_last_character), MALFORMED


def _untrue(lane: Lane) -> Iterator[tuple[str, Make, Verdict]]:
    """Tokens of the right shape that the issuer did not sign, or another issuer did."""
    yield "alg_none", _rewritten(lane, _without_algorithm), WRONG_ALGORITHM
    yield "alg_hs256", _rewritten(lane, _hmac_with_public_key), WRONG_ALGORITHM
    yield "alg_ps256", _rewritten(lane, _ps256), WRONG_ALGORITHM
    wrong_issuer = {"iss": "https://canvas.example.net"}
    yield "wrong_issuer", _signed(lane, change=lambda f, c: {**c, **wrong_issuer}), WRONG_ISSUER
    yield "token_of_the_other_endpoint", _of_the_other_lane(lane), WRONG_ISSUER
    another = _signed(lane, key=lambda f: _renamed(f.other_key, f.key.kid))
    yield "signed_by_another_key", another, BAD_SIGNATURE
    yield "flipped_payload", _rewritten(lane, _flipped_payload), BAD_SIGNATURE
    yield "flipped_signature", _rewritten(lane, _flipped_signature), BAD_SIGNATURE


def _constant(headers: Mapping[str, Any]) -> Callable[[Forger], Mapping[str, Any]]:
    return lambda forger: headers


def _renamed(key: SigningKey, kid: str) -> SigningKey:
    return SigningKey(kid=kid, private_key=key.private_key)


def live_events() -> tuple[Forgery, ...]:
    """All forgeries for `POST /live-events`."""

    def forgery(name: str, make: Make, *expected: Verdict) -> Forgery:
        return Forgery(name=name, lane="live-events", make=make, expected=expected)

    def foreign(own_subscription: bool) -> Make:
        return _signed(
            "live-events",
            change=lambda f, c: _foreign_account(f, c, own_subscription=own_subscription),
        )

    return (
        *_common("live-events"),
        forgery("empty", _raw(b""), MALFORMED),
        forgery("unsigned", _unsigned_event, UNSIGNED),
        forgery("foreign_school", foreign(own_subscription=False), FOREIGN),
        forgery("foreign_root_account", foreign(own_subscription=True), FOREIGN),
        # beyond its hourly allowance a receiver refuses these instead
        forgery("nobodys_event", _signed("live-events", change=_nobodys), QUARANTINED, FOREIGN),
    )


def notices() -> tuple[Forgery, ...]:
    """All forgeries for `POST /pns`."""

    def forgery(name: str, make: Make, *expected: Verdict, whole_body: bool = False) -> Forgery:
        return Forgery(name=name, lane="pns", make=make, expected=expected, whole_body=whole_body)

    def claiming(**claims: Callable[[Forger], str]) -> Make:
        return _signed("pns", change=lambda f, c: {**c, **{n: v(f) for n, v in claims.items()}})

    foreign_client = claiming(
        aud=lambda f: f.stranger.client_id, azp=lambda f: f.stranger.client_id
    )
    foreign_deployment = claiming(**{DEPLOYMENT_CLAIM: lambda f: f.stranger.deployment_id})
    return (
        *_common("pns"),
        forgery("empty", _raw(b""), MALFORMED, whole_body=True),
        forgery("not_json", _raw(b"{notices}"), MALFORMED, whole_body=True),
        forgery("no_notices", _raw(b'{"notices":[]}'), MALFORMED, whole_body=True),
        forgery("no_array", _raw(b'{"notice":{}}'), MALFORMED, whole_body=True),
        forgery("launch_token", _launch, MALFORMED),
        forgery("foreign_client", foreign_client, FOREIGN),
        forgery("foreign_deployment", foreign_deployment, FOREIGN),
    )
