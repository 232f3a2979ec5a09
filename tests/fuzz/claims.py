"""What a good signature is no guarantee for: the claims, and the body that notices come in."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import orjson

from ingest.contract.codec import decode, encode
from ingest.errors import Rejection, Unusable
from ingest.http.body import read_notices
from ingest.normalising import normalise
from ingest.observing.drift import Drift
from ingest.values import Claims, Format
from ingest.verifying.claims import check_form, check_is_notice, check_time, format_of
from ingest.verifying.token import UnreadableClaims, read_claims
from tests.fuzz.mutation import edited, odd_value, spoilt, written
from tests.support.builders import (
    LIVE_EVENTS_ISSUER,
    PLATFORM,
    caliper_claims,
    live_event,
    live_event_claims,
    notice,
    notice_claims,
)
from tests.unit.ingest.normalising.lossless import lost

_CLAIMS: Mapping[Format, Callable[[], dict[str, Any]]] = {
    "canvas": live_event_claims,
    "caliper": caliper_claims,
    "pns": notice_claims,
}
_LOOKED_FOR_WITHIN_BYTES = 20_000


class Normalising:
    """Claims to a record and back: nothing signed is lost, and the record says what it is."""

    name = "claims"

    def __init__(self, seed: int) -> None:
        self._drift = Drift()

    def draw(self, rng: Random) -> tuple[Format, bytes]:
        form: Format = rng.choice(tuple(_CLAIMS))
        return form, written(edited(_CLAIMS[form](), rng), rng)

    def admits(self, drawn: tuple[Format, bytes]) -> bool:
        form, text = drawn
        claims = _sound(text, is_notice=form == "pns")
        if claims is None:
            return False
        envelope = normalise(claims)
        record = encode(envelope, prefix="p")
        self._drift.see(envelope)
        again = decode(record)
        changed = again != envelope or dict(record.headers)["ce_id"].decode() != envelope.event_id
        return changed or (len(text) < _LOOKED_FOR_WITHIN_BYTES and lost(claims, envelope) != [])

    def close(self) -> None:
        pass


def _sound(text: bytes, *, is_notice: bool) -> Claims | None:
    """The claims as verified ones, if they are of a form that goes on."""
    try:
        payload, irregular = read_claims(text)
        if payload.get("iss") != (PLATFORM if is_notice else LIVE_EVENTS_ISSUER):
            return None
        if is_notice:
            check_is_notice(payload)
            claims = notice(payload, irregular=irregular)
        else:
            form = format_of(payload, "live-events")
            claims = live_event(payload, irregular=irregular, format_=form)
        check_time(claims, 300)
        check_form(claims)
    except (UnreadableClaims, Rejection, Unusable):
        return None
    return claims


class Bodies:
    """The body of a request with notices: the tokens that are read are in it, as they are."""

    name = "body"

    def __init__(self, seed: int) -> None:
        pass

    def draw(self, rng: Random) -> bytes:
        notices: list[Any] = [{"jwt": f"h.{n}.s"} for n in range(rng.choice((1, 2, 5)))]
        body: Any = {"notices": notices}
        how = rng.random()
        if how < 0.3:
            notices[rng.randrange(len(notices))] = odd_value(rng)
        elif how < 0.5:
            notices[0]["jwt"] = odd_value(rng)
        elif how < 0.6:
            body = rng.choice((odd_value(rng), notices, {"notices": odd_value(rng)}))
        text = written(body, rng)
        return spoilt(text, rng) if rng.random() < 0.5 else text

    def admits(self, drawn: bytes) -> bool:
        try:
            tokens = read_notices(drawn)
        except Rejection:
            return False
        known = [orjson.dumps(token.decode()) in drawn for token in tokens if token is not None]
        return not all(known) and b"\\" not in drawn

    def close(self) -> None:
        pass
