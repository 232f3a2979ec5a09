"""What attackers bring with them: tokens forged, or signed long before, as files of bodies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from tests.emulator.content import event_content_key
from tests.emulator.school import LiveEvent, School, timed
from tests.faults.site import Site
from tests.support.keys import SigningKey, base64url

FORGED_NOTICES: Final = 2_000
BATCHES: Final = 3
UNKNOWN: Final = 2_000
WIDE: Final = 4
"""So many wide events of each kind are ready; more are repeats of them."""

_STREAM: Final = "siege"
_SIGNATURE: Final = base64url(bytes(256))
_EXPIRED_AGE_S: Final = 100_000


Maker = Callable[[Site], Mapping[str, Iterator[bytes]]]
"""The bodies by their name."""


def forged_notices(site: Site) -> Mapping[str, Iterator[bytes]]:
    """Of the right platform, client and deployment; no two with one key id, none signed."""

    def batch(start: int) -> bytes:
        tokens = [
            _forged(site.canvas.school.notice(number, "LtiContextCopyNotice").claims, number)
            for number in range(start, start + FORGED_NOTICES)
        ]
        return _notices(tokens)

    return {"notices": (batch(number * FORGED_NOTICES) for number in range(BATCHES))}


def unknown_keys(site: Site) -> Mapping[str, Iterator[bytes]]:
    """Of the right school, with random key ids."""
    school = site.canvas.school
    return {
        "unknown": (
            _forged(school.live_event(number, stream=_STREAM).claims, number)
            for number in range(UNKNOWN)
        )
    }


def unreadable_claims(site: Site) -> Mapping[str, Iterator[bytes]]:
    """Tokens in form, whose claims are no JSON."""
    header = base64url(orjson.dumps({"alg": "RS256", "kid": "of-nobody"}))
    claims = base64url(b'{"iss": "https://canvas.beta.instructure.com", ')
    return {"unreadable": iter([_notices([f"{header}.{claims}.{_SIGNATURE}".encode()])])}


def replays(site: Site) -> Mapping[str, Iterator[bytes]]:
    """True tokens: three expired ones, three valid ones, and three of a school that is not ours."""
    school = site.canvas.school
    stranger = School.from_seed(school.seed + 2, name="elsewhere")
    key = site.canvas.keys.live_events.current
    now_s = int(time.time())

    def bodies() -> Iterator[bytes]:
        for number in range(3):
            valid = school.live_event(number, stream=_STREAM)
            _vouch(site, valid)
            yield valid.token(key, now_s).encode()
            yield (
                school.live_event(number + 10, stream=_STREAM)
                .token(key, now_s - _EXPIRED_AGE_S)
                .encode()
            )
            yield key.sign(timed(_of_nobody(stranger, number), now_s)).encode()

    return {"replay": bodies()}


def wide_events(site: Site) -> Mapping[str, Iterator[bytes]]:
    """Signed by the right keys, as by a Canvas that has gone mad."""
    keys = site.canvas.keys

    def live() -> Iterator[bytes]:
        for number in range(WIDE):
            event = site.canvas.school.live_event(number, stream=_STREAM)
            body = {**event.claims["body"], **{f"f{place}": 0 for place in range(100_000)}}
            wide = LiveEvent(name=event.name, claims={**event.claims, "body": body})
            _vouch(site, wide)
            yield wide.token(keys.live_events.current, int(time.time())).encode()

    def notices() -> Iterator[bytes]:
        for number in range(WIDE):
            notice = site.canvas.school.notice(number, "LtiContextCopyNotice", stream=_STREAM)
            claims = {f"https://example.edu/{place}/claim": 0 for place in range(20_000)}
            site.witness.vouch_for({notice.content_key()})
            yield _notices([_signed({**claims, **notice.claims}, keys.platform.current)])

    return {"wide-live": live(), "wide-notices": notices()}


def write(bodies: Mapping[str, Iterator[bytes]], directory: Path) -> None:
    """Into files that `Enemy.bodies` finds."""
    directory.mkdir()
    for name, each in bodies.items():
        for number, body in enumerate(each):
            (directory / f"{name}-{number:05d}").write_bytes(body)


def _forged(claims: Mapping[str, Any], number: int) -> bytes:
    header = base64url(orjson.dumps({"alg": "RS256", "typ": "JWT", "kid": f"forged-{number}"}))
    payload = base64url(orjson.dumps(timed(claims, int(time.time()))))
    return f"{header}.{payload}.{_SIGNATURE}".encode()


def _signed(claims: Mapping[str, Any], key: SigningKey) -> bytes:
    return key.sign(timed(claims, int(time.time()))).encode()


def _notices(tokens: list[bytes]) -> bytes:
    return orjson.dumps({"notices": [{"jwt": token.decode()} for token in tokens]})


def _of_nobody(stranger: School, number: int) -> Mapping[str, Any]:
    """An event that names no root account, of a subscription that nobody pins."""
    claims = stranger.live_event(number, stream=_STREAM).claims
    metadata = {
        name: value
        for name, value in claims["metadata"].items()
        if not name.startswith("root_account")
    }
    return {**claims, "metadata": metadata}


def _vouch(site: Site, event: LiveEvent) -> None:
    """It is true, so it may be in a trusted topic, though no genuine traffic brought it."""
    site.witness.vouch_for({event_content_key(event.claims)})
