"""The form of a token: JWS compact serialisation, strict base64url, RS256, a plain header.

Source: RFC 7515 sections 3.1, 4.1 and 7.1; RFC 7518 section 3.3; RFC 8725 section 3.
"""

import json
import math
from itertools import chain
from typing import Any

import pybase64
from msgspec import Struct

from ingest.contract import strict_json
from ingest.errors import AlgorithmNotAllowed, Malformed, Unsigned
from ingest.values import HugeNumber

MAX_DEPTH = 200
"""Deepest nesting of claims that we read."""

MAX_CONTAINERS = 50_000
"""Most objects and arrays in claims that we read, brackets in texts counted too.

Whoever sends them has not proved anything yet when they are read; a megabyte of brackets would take
a quarter of a second. Of what Canvas can send, 256 KB, they would be every fourth byte.
"""

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_WHITE_SPACE = b" \t\r\n"
_MAX_HEADER_BYTES = 8 * 1024
_MAX_KID_LENGTH = 512
# members that bring a key, or change what the signature means
_FORBIDDEN_MEMBERS = frozenset({"crit", "b64", "jku", "x5u", "x5c", "jwk"})
_KNOWN_MEMBERS = frozenset({"alg", "typ", "kid"})
# last characters whose unused low bits are zero, by the length of the last group
_CANONICAL_ENDS = {2: frozenset(_ALPHABET[::16]), 3: frozenset(_ALPHABET[::4])}
_KNOWN_HEADERS_LIMIT = 1024
_NESTING = frozenset({dict, list})


class Header(Struct, frozen=True, kw_only=True):
    """A header that passed. `ignored` counts members that we do not know."""

    kid: str
    ignored: int


class Token(Struct, frozen=True, kw_only=True):
    """A well-formed token, nothing of it trusted yet."""

    header: Header
    signing_input: bytes
    payload: bytes
    signature: bytes


class UnreadableClaims(Exception):
    """The payload is not a JSON object that any of our parsers reads."""


_headers: dict[bytes, Header] = {}


def read_token(raw: bytes) -> Token:
    """The token in a request. Raises Malformed, Unsigned or AlgorithmNotAllowed."""
    text = bare(raw)
    if text.translate(None, _ALPHABET) != b"..":
        raise _unsigned_or_malformed(text)
    signing_input, _, signature = text.rpartition(b".")
    header, _, payload = signing_input.partition(b".")
    return Token(
        payload=_decoded(payload),
        signature=_decoded(signature),
        signing_input=signing_input,
        header=_headers.get(header) or _remember(header),  # last: it also judges the algorithm
    )


def bare(raw: bytes) -> bytes:
    """The token without the white space and the JSON quotes that Canvas may put around it."""
    text = raw.strip(_WHITE_SPACE)
    if len(text) > 1 and text[0] == text[-1] == 0x22:
        text = text[1:-1].strip(_WHITE_SPACE)
    return text


def read_claims(payload: bytes) -> tuple[dict[str, Any], bool]:
    """The claims, and whether they are irregular. Raises UnreadableClaims.

    Integers of any size stay exact. Irregular claims hold what strict JSON does not allow (NaN,
    lone surrogates) or an escaped NUL, which stores refuse.
    """
    containers = payload.count(b"{") + payload.count(b"[")
    if containers > MAX_CONTAINERS:
        raise UnreadableClaims("too many objects and arrays")
    irregular = b"\\u0000" in payload
    try:
        claims = strict_json.loads(payload)
    except strict_json.NotJSON:
        claims, irregular = _read_leniently(payload), True
    if not isinstance(claims, dict):
        raise UnreadableClaims("not a JSON object")
    if containers > MAX_DEPTH and _is_too_deep(claims):
        raise UnreadableClaims("nested too deeply")
    return claims, irregular


def _unsigned_or_malformed(text: bytes) -> Unsigned | Malformed:
    if text[:1] in (b"{", b"["):
        if strict_json.is_json(text):
            return Unsigned("JSON without a signature")
        return Malformed("neither a token nor JSON")
    return Malformed("not a token")


def _decoded(segment: bytes) -> bytes:
    rest = len(segment) % 4
    if rest == 1 or (rest and segment[-1] not in _CANONICAL_ENDS[rest]):
        raise Malformed("loose base64url")
    return pybase64.b64decode(segment + b"=" * (-rest % 4), altchars=b"-_")


def _remember(segment: bytes) -> Header:
    header = _read_header(segment)
    if len(_headers) >= _KNOWN_HEADERS_LIMIT:
        _headers.clear()
    _headers[segment] = header
    return header


def _read_header(segment: bytes) -> Header:
    if len(segment) > _MAX_HEADER_BYTES:
        raise Malformed("header too large")
    try:
        members = json.loads(_decoded(segment).decode(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise Malformed("header is not JSON") from error
    if not isinstance(members, dict) or _FORBIDDEN_MEMBERS & members.keys():
        raise Malformed("header is not an object, or has a member that is refused")
    if _is_too_deep(members):  # how deep the parser itself goes differs between Pythons
        raise Malformed("header nested too deeply")
    alg, kid = members.get("alg"), members.get("kid")
    if not isinstance(alg, str):
        raise Malformed("header without alg")
    if alg != "RS256":
        raise AlgorithmNotAllowed("not RS256")
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID_LENGTH:
        raise Malformed("header without a usable kid")
    return Header(kid=kid, ignored=len(members.keys() - _KNOWN_MEMBERS))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate names")
    return members


def _read_leniently(payload: bytes) -> Any:
    try:
        return json.loads(payload.decode(), parse_float=_float)
    except (ValueError, RecursionError) as error:
        raise UnreadableClaims("not JSON") from error


def _float(text: str) -> float | HugeNumber:
    value = float(text)
    return HugeNumber(text) if math.isinf(value) else value


def _is_too_deep(claims: Any) -> bool:
    level: list[Any] = [claims]
    for _ in range(MAX_DEPTH):
        members = [v.values() if type(v) is dict else v for v in level if v]
        level = [child for child in chain.from_iterable(members) if type(child) in _NESTING]
        if not level:
            return False
    return True
