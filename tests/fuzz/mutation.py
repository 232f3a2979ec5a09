"""How inputs are spoilt: bytes, JSON values, and the text that JSON is written as."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from random import Random
from typing import Any

_BITS = [
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b" ", b'"', b"\\", b"\\ud800"),
    *(b".", b"..", b"=", b"+/", b"-_", b"{", b"}", b"[", b"]", b",", b":", b"e30", b"null", b"NaN"),
    *(b"9" * 400, b"1e999", b"-", b"%2e", b"A" * 4_000, b"[" * 300, b'{"a":' * 300),
]

# written into JSON as they are, in place of the text that has their number
_RAW = [
    *("NaN", "Infinity", "-Infinity", "1e999", "-1E+400", "-0", "-0.0", "1.0", "1e16", "5e-324"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616"),
    *("1" + "0" * 400, "9" * 4_000, "0." + "1" * 2_000, "1" * 5_000),
    *('"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', '"\\ud83d\\ude00"', '"\\/"', '"\\u00e9"'),
    *("[" * 150 + "]" * 150, "[" * 250 + "]" * 250, '{"a":' * 1_100 + "1" + "}" * 1_100),
    '{"a":1,"a":2}',
]
_PLAIN: Sequence[Any] = [
    *(None, True, False, 0, -1, 1.5, 10**30, "", " ", "\x00", "x", "é", "\u2028", "0", "01"),
    *([], {}, [[]], ["x"], [None], {"": ""}, {"id": 5}, {"id": None}, "x" * 3_000),
    *("2026-09-21T14:13:15.250Z", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59-23:59", "12.50"),
    *("https://canvas.example.edu", "urn:instructure:canvas:user:5", "://", "https:///", "1e400"),
]
_NAMES = [
    *(
        "",
        "id",
        "user_id",
        "x_ids",
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "body",
        "data",
    ),
    *("metadata", "subscription", "event_name", "event_time", "root_account_uuid", "azp", "type"),
    *("tenant", "issues", "event_id", "tenant__2", "dataVersion", "extensions", "actor", "\x00"),
    *("__proto__", "é", "x" * 300, "https://h.example/x", "https://purl.imsglobal.org/x"),
]


def spoilt(data: bytes, rng: Random) -> bytes:
    """The bytes with one to three things done to them."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_OF_BYTES)(data, rng)
    return data


def edited(value: Mapping[str, Any], rng: Random) -> dict[str, Any]:
    """A copy with one to three members set, removed or renamed, at any depth."""
    result: dict[str, Any] = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2, 3))):
        _edit(result, rng)
    return result


def written(value: Any, rng: Random) -> bytes:
    """The value as JSON, with what `edited` left to be written as it is; now and then spoilt."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    for number, raw in enumerate(_RAW):
        text = text.replace(f'"@{number}@"', raw)
    if text[:1] == "{" and rng.random() < 0.05:
        name = rng.choice(_REPEATED)
        text = "{" + json.dumps(name) + ":" + json.dumps(rng.choice(_PLAIN)) + "," + text[1:]
    encoded = text.encode(rng.choice(_ENCODINGS), "surrogatepass")
    return spoilt(encoded, rng) if rng.random() < 0.1 else encoded


_REPEATED = ["alg", "kid", "typ", "crit", "iss", "exp", "aud", "metadata", "notices", "jwt"]
_ENCODINGS = ["utf-8"] * 60 + ["utf-8-sig", "utf-16", "utf-32", "utf-7"]


def odd_value(rng: Random) -> Any:
    """A JSON value that somebody may not have thought of."""
    if rng.random() < 0.4:
        return f"@{rng.randrange(len(_RAW))}@"
    return copy(rng.choice(_PLAIN))  # it may be edited itself


def odd_name(rng: Random) -> str:
    """A name that means something somewhere, or should mean nothing."""
    return rng.choice(_NAMES)


def _edit(value: Any, rng: Random) -> None:
    while isinstance(value, dict) and value:
        name = rng.choice(list(value))
        child = value[name]
        if isinstance(child, dict) and child and rng.random() < 0.7:
            value = child
        elif isinstance(child, list) and child and isinstance(child[0], dict):
            value = child[0]
        else:
            break
    what = rng.random()
    if not value or what < 0.3:
        value[odd_name(rng)] = odd_value(rng)
    elif what < 0.8:
        value[name] = odd_value(rng)
    elif what < 0.9:
        del value[name]
    else:
        value[odd_name(rng)] = value.pop(name)


def _bit(data: bytes, rng: Random) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _byte(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _cut(data: bytes, rng: Random) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _end(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _twice(data: bytes, rng: Random) -> bytes:
    start, end = _span(data, rng)
    return data[:end] + data[start:]


def _put(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_BITS) + data[at:]


def _swap(data: bytes, rng: Random) -> bytes:
    start, end = _span(data, rng)
    middle = rng.randrange(start, end + 1)
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 64, 1_000)))


_OF_BYTES: Sequence[Callable[[bytes, Random], bytes]] = (
    *(_bit, _bit, _byte, _cut, _end, _twice, _put, _put, _swap),
)
