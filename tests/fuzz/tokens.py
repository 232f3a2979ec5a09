"""Tokens: taken apart, and judged beside PyJWT and joserfc."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from joserfc.jwk import RSAKey

from ingest.contract.envelope import SOURCES, Source
from ingest.errors import Refusal, Rejection, Uncheckable, Unusable
from ingest.values import Claims, SignedRequest
from ingest.verifying.token import bare, read_token
from ingest.verifying.verifier import Verifier
from tests.fuzz.mutation import edited, odd_name, odd_value, spoilt, written
from tests.support.builders import (
    LIVE_EVENTS_ISSUER,
    PLATFORM,
    FixedKeys,
    caliper_claims,
    live_event_claims,
    notice_claims,
    signing_key,
    tenants,
)
from tests.support.keys import base64url
from tests.support.references import LEEWAY_S, comparable, joserfc_claims, pyjwt_claims

_ISSUERS: Mapping[Source, str] = {"live-events": LIVE_EVENTS_ISSUER, "pns": PLATFORM}
_BASES = 400
"""So many tokens are signed, each with other claims and often another header; one takes 1 ms."""
_HEADERS: tuple[dict[str, Any], ...] = (
    *({"typ": 7}, {"kid": "other"}, {"alg": "none"}, {"alg": "HS256"}, {"alg": "PS256"}),
    *({"crit": ["b64"], "b64": False}, {"jku": "https://k.example"}, {"jwk": {}}, {"x5c": []}),
    *({"cty": "JWT"}, {"zip": "DEF"}, {"kid": "../../k"}, {"kid": "k" * 600}, {"x5t": "x"}),
)


@dataclass(frozen=True, slots=True)
class Signed:
    """A token with a good signature, and the endpoint that it is for."""

    source: Source
    text: bytes


@cache
def signed(seed: str, number: int) -> Signed:
    """Token `number`, by the seed's random numbers; every fourth has sound claims and header."""
    rng = Random(f"{seed}:signed:{number}")
    source: Source = rng.choice(SOURCES)
    made = notice_claims if source == "pns" else rng.choice((live_event_claims, caliper_claims))
    now_s = int(time.time())
    claims = {**made(), "iat": now_s, "exp": now_s + 86_400}
    header: dict[str, Any] = {"alg": "RS256", "typ": "JWT", "kid": signing_key().kid}
    if number % 4:
        claims = edited(claims, rng)
        header |= rng.choice(_HEADERS) if rng.random() < 0.3 else {}
        header |= {odd_name(rng): odd_value(rng)} if rng.random() < 0.2 else {}
    key = signing_key("stranger" if rng.random() < 0.05 else "current")
    text = key.sign_text(written(header, rng), written(claims, rng)).encode()
    return Signed(source, _nested(text) if rng.random() < 0.02 else text)


def _nested(text: bytes) -> bytes:
    """A token whose payload is a token."""
    header = b'{"alg":"RS256","typ":"JWT","cty":"JWT","kid":"%s"}' % signing_key().kid.encode()
    return signing_key().sign_text(header, text).encode()


def spoilt_token(seed: str, rng: Random) -> tuple[Source, bytes]:
    """A signed token as it is, or with its segments, its encoding or its bytes spoilt."""
    base = signed(seed, rng.randrange(_BASES))
    source: Source = base.source if rng.random() < 0.95 else rng.choice(SOURCES)
    text, how = base.text, rng.random()
    if how < 0.15:
        return source, text
    if how < 0.5:
        return source, spoilt(text, rng)
    parts = text.split(b".")
    if how < 0.7:  # a segment of another token
        other = signed(seed, rng.randrange(_BASES)).text.split(b".")
        at = rng.randrange(3)
        parts[at] = other[rng.choice((at, rng.randrange(3)))]
    elif how < 0.8:
        rng.shuffle(parts)
    elif how < 0.9:  # another text of the same bytes, or nearly
        at = rng.randrange(3)
        parts[at] = _respelt(parts[at], rng)
    else:
        parts[1] = base64url(written(edited(live_event_claims(), rng), rng)).encode()
    return source, _wrapped(b".".join(parts), rng)


def _respelt(part: bytes, rng: Random) -> bytes:
    how = rng.randrange(5)
    if how == 0:
        return part + b"=" * (-len(part) % 4)
    if how == 1:
        return part.replace(b"-", b"+").replace(b"_", b"/")
    if how == 2:  # the bits of the last character that mean nothing
        return part[:-1] + bytes([rng.choice(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghij0123456789-_")])
    at = rng.randrange(len(part) + 1)
    return part[:at] + rng.choice((b"\n", b" ", b"\t", b"=", b"%3D")) + part[at:]


def _wrapped(text: bytes, rng: Random) -> bytes:
    around = rng.choice((b"%s",) * 6 + (b'"%s"', b' "%s" \n', b"'%s'", b'""%s""', b'"%s'))
    return around % text


class Splitting:
    """Taking a token apart: whatever passes is spelt in one way alone."""

    name = "token"

    def __init__(self, seed: int) -> None:
        self._seed = str(seed)

    def draw(self, rng: Random) -> bytes:
        return spoilt_token(self._seed, rng)[1]

    def admits(self, drawn: bytes) -> bool:
        try:
            token = read_token(drawn)
        except Rejection:
            return False
        again = token.signing_input + b"." + base64url(token.signature).encode()
        payload = token.signing_input.partition(b".")[2]
        return again != bare(drawn) or base64url(token.payload).encode() != payload

    def close(self) -> None:
        pass


class Judging:
    """The verifier, and what two others say of what it lets in."""

    name = "verifier"

    def __init__(self, seed: int) -> None:
        self._seed = str(seed)
        public = signing_key().private_key.public_key()
        self._key, self._jwk = public, RSAKey.import_key(signing_key().public_pem())
        self._verifier = Verifier(
            keys={s: {i: FixedKeys(i, signing_key())} for s, i in _ISSUERS.items()},
            tenants=tenants(),
            leeway_s=LEEWAY_S,
            may_keep_unknown_tenant=lambda *_: True,
            on_ignored_members=lambda *_: None,
        )

    def draw(self, rng: Random) -> tuple[Source, bytes]:
        return spoilt_token(self._seed, rng)

    def admits(self, drawn: tuple[Source, bytes]) -> bool:
        source, text = drawn
        judged = self._judged(source, text)
        if judged is None:
            return False
        plain = bare(text).decode("ascii")
        if not isinstance(judged, Claims):  # quarantined as authentic
            return not self._is_ours(plain)
        theirs = [
            pyjwt_claims(plain, self._key, _ISSUERS[source]),
            joserfc_claims(plain, self._jwk, _ISSUERS[source]),
        ]
        wanted = comparable(judged.payload)
        return any(claims is None or comparable(claims) != wanted for claims in theirs)

    def close(self) -> None:
        pass

    def _judged(self, source: Source, text: bytes) -> Claims | Unusable | None:
        request = SignedRequest(token=text, source=source, received_at=time.time())
        try:
            self._verifier.verify(request).send(None)  # it has the keys, and waits for nothing
        except StopIteration as done:
            claims: Claims = done.value
            return claims
        except Unusable as flaw:
            return flaw
        except (Refusal, Uncheckable):
            return None
        raise AssertionError("the verifier waits for something")

    def _is_ours(self, text: str) -> bool:
        return any(
            signed(self._seed, number).text.rpartition(b".")[0] == text.encode().rpartition(b".")[0]
            for number in range(_BASES)
        )
