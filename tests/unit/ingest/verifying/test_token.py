"""The form of a token: what is read, and under which name the rest is refused."""

import json
import math
import tracemalloc
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest

from ingest.errors import AlgorithmNotAllowed, Malformed, Refusal, Unsigned
from ingest.values import HugeNumber
from ingest.verifying.token import (
    MAX_CONTAINERS,
    UnreadableClaims,
    bare,
    read_claims,
    read_token,
)
from tests.support.builders import live_event_claims, signing_key, token
from tests.support.keys import base64url

_GOOD = token(live_event_claims())


def _with_header(header: Any) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return signing_key().sign_text(text, b'{"iss":"x"}').encode()


def _header(**members: Any) -> bytes:
    return _with_header({"alg": "RS256", "typ": "JWT", "kid": "k", **members})


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        '"{}"',
        " \t\r\n{}\n\n",
        ' "{}" ',
        '" {}\\n"'.replace("\\n", "\n"),
    ],
)
def test_quotes_and_white_space_around_a_token_are_taken_off(form: str) -> None:
    raw = form.replace("{}", _GOOD.decode()).encode()
    assert bare(raw) == _GOOD
    assert read_token(raw) == read_token(_GOOD)


def test_token_is_taken_apart() -> None:
    read = read_token(_GOOD)
    assert read.header.kid == signing_key().kid
    assert json.loads(read.payload) == live_event_claims()
    assert len(read.signature) == 256
    assert _GOOD.startswith(read.signing_input + b".")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b'"',
        b'""',
        b"..",
        b".",
        b"a.b",
        b"a.b.c.d",
        b"hello",
        b"null",
        b"{broken",
        b"\xff\xfe\x00",
        b"'" + _GOOD + b"'",
        b'"' + _GOOD,
        b'""' + _GOOD + b'""',
        _GOOD + b"=",
        _GOOD.replace(b".", b". ", 1),
        _GOOD.replace(b".", b"\n.", 1),
        _GOOD[:40] + b" " + _GOOD[40:],
        _GOOD[:40] + b"+" + _GOOD[41:],
        _GOOD[:40] + b"/" + _GOOD[41:],
        _GOOD[:40] + b"\x00" + _GOOD[41:],
        _GOOD + b"\x0b",
        _GOOD + b"." + _GOOD,
        b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_is_no_token_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_token(raw)


@pytest.mark.parametrize(
    "raw",
    [b"{}", b"[]", b' {"metadata":{},"body":{}} ', b'[{"a":1}]', b'{"jwt":"a.b.c"}'],
)
def test_json_in_place_of_a_token_is_unsigned(raw: bytes) -> None:
    with pytest.raises(Unsigned):
        read_token(raw)


def _most_bytes(call: Callable[[], object]) -> int:
    """Memory that the call takes at most."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_strangers_json_is_not_made_into_values() -> None:
    raw = b"[" + b"[]," * 100_000 + b"[]]"

    def read() -> None:
        with pytest.raises(Unsigned):
            read_token(raw)

    assert _most_bytes(read) < 4 * len(raw)


def test_more_objects_and_arrays_than_fit_an_event_are_not_made_into_values() -> None:
    def claims(count: int) -> bytes:
        return b'{"x":[' + b",".join([b"[]"] * (count - 2)) + b"]}"

    def read() -> None:
        with pytest.raises(UnreadableClaims):
            read_claims(too_many)

    assert read_claims(claims(MAX_CONTAINERS))
    too_many = claims(10 * MAX_CONTAINERS)
    assert _most_bytes(read) < len(too_many)


@pytest.mark.parametrize("segment", [0, 1, 2])
@pytest.mark.parametrize("spoil", ["padded", "one left over", "unused bits"])
def test_loose_base64url_is_malformed(segment: int, spoil: str) -> None:
    parts = [
        base64url(b'{"alg":"RS256","kid":"key1"}'),
        base64url(b'{"iss":"ab"}  '),
        base64url(b"s" * 256),
    ]
    assert read_token(".".join(parts).encode())
    text = parts[segment].rstrip("=")
    if spoil == "padded":
        text += "=" * (-len(text) % 4 or 4)
    elif spoil == "one left over":
        text = text[: len(text) // 4 * 4] + "A"
    else:
        # the last group of two or three characters has low bits that must be zero
        text = text[: len(text) // 4 * 4] + "IB"
    parts[segment] = text
    with pytest.raises(Malformed):
        read_token(".".join(parts).encode())


@pytest.mark.parametrize("size", range(1, 7))
def test_every_canonical_length_is_read(size: int) -> None:
    for byte in range(0, 256, 5):
        payload = bytes([byte]) * size
        assert read_token(signing_key().sign_text(_HEADER, payload).encode()).payload == payload


_HEADER = b'{"alg":"RS256","kid":"k"}'


@pytest.mark.parametrize("size", [1, 2])
def test_every_non_canonical_ending_is_malformed(size: int) -> None:
    canonical = {urlsafe_b64encode(bytes([b]) * size).rstrip(b"=")[-1:] for b in range(256)}
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    head = base64url(_HEADER).encode()
    for last in ({bytes([c]) for c in alphabet}) - canonical:
        with pytest.raises(Malformed):
            read_token(head + b"." + b"A" * size + last + b"." + b"AAAA")


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "PS256", "ES256", "RS384", "rs256", ""])
def test_algorithm_other_than_rs256_is_not_allowed(alg: str) -> None:
    with pytest.raises(AlgorithmNotAllowed):
        read_token(_header(alg=alg))


def test_unsigned_token_is_named_by_its_algorithm() -> None:
    head = base64url(b'{"alg":"none","typ":"JWT","kid":"k"}')
    with pytest.raises(AlgorithmNotAllowed):
        read_token(f"{head}.{base64url(b'{}')}.".encode())


@pytest.mark.parametrize("member", ["crit", "b64", "jku", "x5u", "x5c", "jwk"])
@pytest.mark.parametrize("value", [None, False, [], "x"])
def test_header_that_brings_a_key_or_an_extension_is_malformed(member: str, value: Any) -> None:
    with pytest.raises(Malformed):
        read_token(_header(**{member: value}))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"not JSON",
        b"null",
        b"[]",
        b'"RS256"',
        b"{",
        b'{"alg":"RS256","kid":"\xff"}',
        b'\xef\xbb\xbf{"alg":"RS256","kid":"k"}',
        '{"alg":"RS256","kid":"k"}'.encode("utf-16"),
        b'{"alg":"RS256","kid":"k","kid":"k"}',
        b'{"alg":"RS256","alg":"RS256","kid":"k"}',
        b'{"alg":"RS256","kid":"k","x":{"y":1,"y":1}}',
        b'{"alg":"none","kid":"k","\\u0061lg":"RS256"}',
        b'{"alg":"RS256","kid":"k","n":' + b"9" * 5000 + b"}",
        b'{"alg":"RS256","kid":"k","n":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"kid":"k"}',
        b'{"alg":null,"kid":"k"}',
        b'{"alg":["RS256"],"kid":"k"}',
        b'{"alg":"RS256"}',
        b'{"alg":"RS256","kid":null}',
        b'{"alg":"RS256","kid":""}',
        b'{"alg":"RS256","kid":7}',
        b'{"alg":"RS256","kid":["k"]}',
        b'{"alg":"RS256","kid":"' + b"k" * 1_000_000 + b'"}',
    ],
    ids=lambda header: repr(header[:50]),
)
def test_unusable_header_is_malformed(header: bytes) -> None:
    with pytest.raises(Malformed):
        read_token(_with_header(header))


@pytest.mark.parametrize(
    ("members", "ignored"),
    [
        ({}, 0),
        ({"typ": None}, 0),
        ({"typ": "at+jwt"}, 0),
        ({"cty": "x"}, 1),
        ({"cty": "x", "x5t": 1, "iss": []}, 3),
    ],
)
def test_other_header_members_are_ignored_and_counted(
    members: dict[str, Any], ignored: int
) -> None:
    raw = _header(**members)
    assert read_token(raw).header.ignored == ignored
    assert read_token(raw).header.ignored == ignored  # the second time from memory


def test_refused_header_is_refused_again_and_many_headers_are_told_apart() -> None:
    for n in range(1_100):
        assert (
            read_token(f"{_plain_header(f'key-{n}')}.AAAA.AAAA".encode()).header.kid == f"key-{n}"
        )
    for _ in range(2):
        with pytest.raises(Malformed):
            read_token(_with_header(b'{"alg":"RS256"}'))


def _plain_header(kid: str) -> str:
    return base64url(json.dumps({"alg": "RS256", "kid": kid}).encode())


@pytest.mark.parametrize(
    ("header", "payload", "signature", "first"),
    [
        # shape comes before the algorithm, whichever segment it is that has none
        (b'{"alg":"none","kid":"k"}', "AB", "AAAA", Malformed),
        (b'{"alg":"none","kid":"k"}', "AAAA", "AAAAA", Malformed),
        (b'{"alg":"none","kid":"k","jku":"x"}', "AAAA", "AAAA", Malformed),
        (b'{"alg":"none","alg":"none"}', "AAAA", "AAAA", Malformed),
    ],
)
def test_shape_is_judged_before_the_algorithm(
    header: bytes, payload: str, signature: str, first: type[Refusal]
) -> None:
    with pytest.raises(first):
        read_token(f"{base64url(header)}.{payload}.{signature}".encode())


@pytest.mark.parametrize(
    "number", [2**53 + 1, 2**63, -(2**63) - 1, 2**64, 2**64 + 1, 10**400, 0, -1]
)
def test_integers_stay_exact(number: int) -> None:
    claims, irregular = read_claims(b'{"n":[%d]}' % number)
    assert (claims, irregular) == ({"n": [number]}, False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'"\\ud800"', "\ud800"),
        (b'"a\\udfffb"', "a\udfffb"),
        (b'"\\u0000"', "\x00"),
        (b'{"\\u0000":{"\\ud800":0}}', {"\x00": {"\ud800": 0}}),
        (b"Infinity", math.inf),
        (b"-Infinity", -math.inf),
    ],
)
def test_what_stores_refuse_is_read_and_flagged(text: bytes, value: Any) -> None:
    assert read_claims(b'{"x":' + text + b"}") == ({"x": value}, True)


def test_nan_is_read_and_flagged() -> None:
    claims, irregular = read_claims(b'{"x":NaN}')
    assert math.isnan(claims["x"])
    assert irregular


@pytest.mark.parametrize("text", ["1e400", "-1.5E+999"])
def test_number_beyond_a_double_keeps_its_digits(text: str) -> None:
    claims, irregular = read_claims(b'{"x":%s}' % text.encode())
    assert isinstance(claims["x"], HugeNumber)
    assert (claims["x"], irregular) == (text, True)


@pytest.mark.parametrize("text", ['"\\ud83c\\udf0a"', '"🌊"', '"\\\\ud800"', "1.5e300"])
def test_regular_claims_are_not_flagged(text: str) -> None:
    claims, irregular = read_claims(f'{{"x":{text}}}'.encode())
    assert claims == {"x": json.loads(text)}
    assert not irregular


@pytest.mark.parametrize("opening", ["objects", "arrays"])
@pytest.mark.parametrize(("depth", "read"), [(199, True), (200, True), (201, False), (900, False)])
def test_claims_may_nest_two_hundred_deep(opening: str, depth: int, read: bool) -> None:
    inner = depth - 1
    if opening == "objects":
        text = b'{"x":' * inner + b"{}" + b"}" * inner
    else:
        text = b'{"x":' + b"[" * inner + b"]" * inner + b"}"
    if read:
        assert read_claims(text)
    else:
        with pytest.raises(UnreadableClaims):
            read_claims(text)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert read_claims(b'{"x":[' + b"[{}]," * 500 + b'"[[[{{{"]}')[0]["x"][-1] == "[[[{{{"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b"NaN",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"\xff":1}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"line\nbreak"}',
        b'{"a":"\x00"}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        '{"a":1}'.encode("utf-16"),
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_claims_that_no_parser_reads_are_unreadable(payload: bytes) -> None:
    with pytest.raises(UnreadableClaims):
        read_claims(payload)


def test_last_of_duplicate_claims_wins() -> None:
    assert read_claims(b'{"a":1,"a":2}') == ({"a": 2}, False)
    assert read_claims(b'{"a":1,"a":"\\ud800"}')[0] == {"a": "\ud800"}
