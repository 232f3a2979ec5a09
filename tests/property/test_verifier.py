"""The verifier against PyJWT.

What we accept, PyJWT accepts with equal claims. What we do not accept and PyJWT does must be for a
reason on the list below, which the generated token really gives.
"""

import asyncio
import json
import math
import time
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import jwt
from hypothesis import event, given
from hypothesis import strategies as st

from ingest.contract.envelope import Source
from ingest.errors import Refusal, Unusable
from ingest.values import Claims, HugeNumber
from ingest.verifying.verifier import Verifier
from tests.support.builders import (
    LIVE_EVENTS_ISSUER,
    NOTICE_CLAIM,
    PLATFORM,
    FixedKeys,
    live_event_claims,
    live_event_metadata,
    notice_claims,
    request,
    signing_key,
    tenants,
)
from tests.support.keys import base64url

_LEEWAY_S = 300
_ISSUERS: dict[Source, str] = {"live-events": LIVE_EVENTS_ISSUER, "pns": PLATFORM}
_ABSENT = object()

STRICTER = {
    "header names a key": "a member that brings a key or an extension, even an empty one",
    "duplicate header names": "the two readings of such a header differ",
    "no usable kid": "we look keys up by it",
    "unknown kid": "PyJWT is handed the key",
    "loose base64url": "PyJWT takes padding",
    "header too large": "no honest header is that long",
    "time is no number": "PyJWT also takes booleans and texts that look like one",
    "tenant": "default deny",
    "not a notice": "platforms sign launch tokens with the same keys",
    "no event": "what the rest of the way could not read goes to quarantine",
    "nested too deeply": "the bound of what stores read",
    "outside the endpoint's encoding": "PyJWT guesses UTF-16 and UTF-32",
}
"""Every ground on which we say no and PyJWT says yes."""


@dataclass(kw_only=True)
class _Case:
    """One token, and the grounds on which we may be stricter."""

    source: Source
    text: str
    grounds: set[str] = field(default_factory=set)


def _header_mutations() -> st.SearchStrategy[tuple[bytes, set[str]]]:
    kid = signing_key().kid
    plain: dict[str, Any] = {"alg": "RS256", "typ": "JWT", "kid": kid}
    algorithms: list[Any] = ["none", "HS256", "PS256", "rs256", None, []]

    def dumped(members: dict[str, Any], *grounds: str) -> tuple[bytes, set[str]]:
        return json.dumps({k: v for k, v in members.items() if v is not _ABSENT}).encode(), set(
            grounds
        )

    text = dumped(plain)[0].decode()
    fixed = [
        dumped({**plain, "kid": _ABSENT}, "no usable kid"),
        dumped({**plain, "kid": ""}, "no usable kid"),
        dumped({**plain, "kid": 5}, "no usable kid"),
        dumped({**plain, "kid": None}, "no usable kid"),
        dumped({**plain, "kid": "k" * 600}, "no usable kid"),
        dumped({**plain, "kid": "other"}, "unknown kid"),
        dumped({**plain, "typ": _ABSENT}),
        dumped({**plain, "typ": 7}),
        dumped({**plain, "x": "y" * 7_000}, "header too large"),
        *(dumped({**plain, "alg": alg}) for alg in algorithms),
        *(
            dumped({**plain, name: value}, "header names a key")
            for name in ("crit", "b64", "jku", "x5u", "x5c", "jwk")
            for value in (None, True, [], ["b64"], "https://keys.example.edu")
        ),
        (text.replace('"typ"', '"alg": "none", "typ"').encode(), {"duplicate header names"}),
        (text.replace('"typ"', '"a": 1, "a": 2, "typ"').encode(), {"duplicate header names"}),
        (text.encode("utf-16"), {"outside the endpoint's encoding"}),
        (b"\xef\xbb\xbf" + text.encode(), {"outside the endpoint's encoding"}),
        (b"[]", set()),
        (b"{", set()),
    ]
    extra = st.dictionaries(
        st.sampled_from(["cty", "x5t", "iss", "zip"]), st.integers(), max_size=2
    )
    return extra.map(lambda more: dumped({**plain, **more})) | st.sampled_from(fixed)


_PLAIN_HEADER = json.dumps({"alg": "RS256", "typ": "JWT", "kid": signing_key().kid}).encode()
_OFFSETS_S = [-86_400, -361, -239, 0, 239, 361, 86_400]
_STRANGE_TIMES: list[Any] = [None, "", "soon", True, [], {}, "NaN!", "Inf!", "Huge!"]


def _times(now_s: int) -> st.SearchStrategy[tuple[Any, set[str]]]:
    sound = st.sampled_from(_OFFSETS_S).flatmap(
        lambda offset: st.sampled_from([now_s + offset, float(now_s + offset) + 0.25, 10**30])
    )
    texts = st.sampled_from(
        [str(now_s + 4_000), f" {now_s + 4_000} ", "9_999_999_999", *_STRANGE_TIMES]
    )
    return sound.map(lambda value: (value, set[str]())) | texts.map(
        lambda value: (value, {"time is no number"})
    )


def _claim_mutations(now_s: int) -> st.SearchStrategy[tuple[dict[str, Any], set[str]]]:
    anything: st.SearchStrategy[Any] = st.sampled_from([None, "", "x", 5, True, [], {}, ["x"]])
    one = st.one_of(
        st.just(({}, set[str]())),
        st.tuples(st.sampled_from(["exp", "nbf"]), _times(now_s)).map(
            lambda drawn: ({drawn[0]: drawn[1][0]}, drawn[1][1])
        ),
        st.just(({"exp": _ABSENT}, set[str]())),
        st.tuples(st.sampled_from(["iat", "aud2", "extra"]), anything).map(
            lambda drawn: ({drawn[0]: drawn[1]}, set[str]())
        ),
        st.tuples(st.sampled_from(["sub", "jti", "iss"]), anything).map(
            lambda drawn: ({drawn[0]: drawn[1]}, set[str]())
        ),
        st.tuples(st.sampled_from(["aud", "metadata"]), anything).map(
            lambda drawn: ({drawn[0]: drawn[1]}, {"tenant", "no event"})
        ),
        anything.map(lambda value: ({"body": value}, {"no event"})),
        anything.map(lambda value: ({NOTICE_CLAIM: value}, {"not a notice", "no event"})),
        st.just(({"data": []}, {"tenant", "no event"})),
    )
    return st.lists(one, min_size=1, max_size=2).map(
        lambda drawn: (
            {name: value for members, _ in drawn for name, value in members.items()},
            {ground for _, grounds in drawn for ground in grounds},
        )
    )


def _payload_text(claims: dict[str, Any]) -> str:
    text = json.dumps({name: value for name, value in claims.items() if value is not _ABSENT})
    for mark, number in (("NaN!", "NaN"), ("Inf!", "Infinity"), ("Huge!", "1e999")):
        text = text.replace(f'"{mark}"', number)
    return text


_PAYLOAD_NOISE = [
    ("", set[str]()),
    ('"x":"\\ud800","y":NaN,"z":1e400,', set[str]()),
    ('"x":123456789012345678901234567890,"y":0.1,', set[str]()),
    ('"x":' + "[" * 250 + "]" * 250 + ",", {"nested too deeply"}),
    ('"iss":"twice",', set[str]()),
]


_Part = Literal["header", "claims", "payload", "encoding", "key", "form"]
_PARTS = st.sets(st.sampled_from(get_args(_Part)), max_size=2)


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    """A good token of which no part, one or two are spoilt."""
    now_s = int(time.time())
    spoilt = draw(_PARTS)
    source: Source = draw(st.sampled_from(get_args(Source)))
    claims = live_event_claims() if source == "live-events" else notice_claims()
    claims |= {"iat": now_s, "exp": now_s + 3_600}
    header, grounds = draw(_header_mutations()) if "header" in spoilt else (_PLAIN_HEADER, set())
    if "claims" in spoilt:
        members, more = draw(_claim_mutations(now_s))
        claims, grounds = {**claims, **members}, grounds | more
    payload = _payload_text(claims)
    if "payload" in spoilt:
        noise, more = draw(st.sampled_from(_PAYLOAD_NOISE))
        payload, grounds = "{" + noise + payload[1:], grounds | more
    if "encoding" in spoilt:
        grounds = grounds | {"outside the endpoint's encoding"}
    key = signing_key("stranger" if "key" in spoilt else "current")
    text = key.sign_text(header, payload.encode("utf-16" if "encoding" in spoilt else "utf-8"))
    if "form" in spoilt:
        text, more = draw(_noise_of_form(text))
        grounds = grounds | more
    return _Case(source=source, text=text, grounds=grounds)


def _noise_of_form(text: str) -> st.SearchStrategy[tuple[str, set[str]]]:
    parts = text.split(".")
    head, payload, signature = parts
    other = base64url(b"{}")
    return st.one_of(
        st.integers(0, 2).map(lambda n: (_padded(parts, n), {"loose base64url"})),
        st.integers(0, len(text) - 1).flatmap(
            lambda n: st.sampled_from("A-_=+/. \n").map(
                lambda c: (text[:n] + c + text[n + 1 :], {"loose base64url", "unknown kid"})
            )
        ),
        st.sampled_from(
            [
                (f"{payload}.{head}.{signature}", set[str]()),
                (f"{head}.{signature}.{payload}", set()),
                (f"{head}.{other}.{signature}", set()),
                (f"{head}.{payload}.", set()),
                (f"{head}.{payload}", set()),
                (f"{text}.{signature}", set()),
                (f"{head}.{payload}.{signature[:-4]}", set()),
            ]
        ),
    )


def _padded(parts: list[str], n: int) -> str:
    padded = [part + "=" * (-len(part) % 4) if i == n else part for i, part in enumerate(parts)]
    return ".".join(padded)


@given(case=_cases())
def test_what_we_accept_pyjwt_accepts_and_the_rest_is_on_the_list(case: _Case) -> None:
    ours, theirs = _our_verdict(case), _pyjwt_verdict(case)
    if ours is not None:
        event("both accept")
        assert theirs is not None
        assert _comparable(ours.payload) == _comparable(theirs)
    elif theirs is not None:
        event("only PyJWT accepts")
        assert case.grounds & STRICTER.keys()
    else:
        event("neither accepts")


def test_every_ground_is_described() -> None:
    assert all(STRICTER.values())


def test_plain_token_is_accepted_by_both() -> None:
    now_s = int(time.time())
    usual = live_event_claims(metadata=live_event_metadata(), iat=now_s, exp=now_s + 3_600)
    case = _Case(source="live-events", text=signing_key().sign(usual))
    ours, theirs = _our_verdict(case), _pyjwt_verdict(case)
    assert ours is not None
    assert ours.payload == theirs


def _our_verdict(case: _Case) -> Claims | None:
    verifier = Verifier(
        keys={
            source: {issuer: FixedKeys(issuer, signing_key())}
            for source, issuer in _ISSUERS.items()
        },
        tenants=tenants(),
        leeway_s=_LEEWAY_S,
        may_keep_unknown_tenant=lambda at_s, of: True,
        on_ignored_members=lambda count: None,
    )
    asked = request(case.text.encode(), source=case.source, at=time.time())
    try:
        return asyncio.run(verifier.verify(asked))
    except (Refusal, Unusable):
        return None


def _pyjwt_verdict(case: _Case) -> dict[str, Any] | None:
    try:
        return jwt.decode(
            # white space around a token is ours to take off, so PyJWT sees it without
            case.text.strip(" \n"),
            signing_key().private_key.public_key(),
            algorithms=["RS256"],
            issuer=_ISSUERS[case.source],
            leeway=_LEEWAY_S,
            options={"verify_aud": False, "verify_iat": False, "require": ["exp"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


def _comparable(value: Any) -> Any:
    """Claims in a form in which NaN equals itself and digits beyond a double are an infinity."""
    if isinstance(value, dict):
        return {name: _comparable(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_comparable(child) for child in value]
    if isinstance(value, HugeNumber):
        return ("float", repr(float(value)))
    if isinstance(value, float) and not math.isfinite(value):
        return ("float", repr(value))
    return (type(value).__name__, value)
